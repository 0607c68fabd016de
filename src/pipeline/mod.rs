//! The pipeline: prompt → embeddings, noise → latents, latents → frames, frames → film. Read this file first.

pub mod condition;
pub mod decode;
pub mod denoise;
pub mod guidance;
pub mod output;
pub mod preview;
pub mod recipe;
pub mod run;
mod session;

use std::collections::HashMap;
use std::path::Path;

use condition::conditions;
use decode::Decode;
use denoise::Denoise;
use output::{Film, Output};
use preview::Projection;
use recipe::Recipe;
use run::Run;
pub use session::{OnEvent, Session};

use crate::compute::device;
use crate::error::{Error, Result};
use crate::families::family::Compute;
use crate::families::latents::{self, Latents};
use crate::files::atomic;
use crate::media;
use crate::plan::Plan;
use crate::progress::{Event, Progress, Stage};
use crate::request::Request;
use crate::weights::bundle;

impl Session {
    /// Makes a film: a file where the request names one, otherwise the frames in memory.
    ///
    /// # Errors
    /// A request that cannot be carried out, weights that do not load, a full disk, a stop from the callback. The run is
    /// kept: [`Session::resume`] goes on with it.
    pub fn generate(&self, request: &Request, on_event: OnEvent<'_>) -> Result<Film> {
        let plan = self.plan(request)?;
        self.model().check_files()?;
        check_files(&plan)?;
        Output::check(&plan)?;
        let run = Run::create(&plan, &self.machine().home()?)?;
        // Read back: the film is made with the numbers that JSON keeps, as a run that is resumed has no others.
        let plan = run.plan()?;
        self.carry_out(&plan, run, &mut Progress::new(on_event))
    }

    /// Goes on with a run that stopped, from the last step that was kept. It ends in the same film.
    ///
    /// # Errors
    /// As [`Session::generate`]; a run of other weights than those of the session.
    pub fn resume(&self, run: Run, on_event: OnEvent<'_>) -> Result<Film> {
        let plan = run.plan()?;
        self.check_weights(&plan.choice)?;
        plan.check(&self.facts()?)?;
        self.carry_out(&plan, run, &mut Progress::new(on_event))
    }

    /// Makes the film of latents that were kept. `request` says where it goes; of the model only the decoder is used.
    ///
    /// # Errors
    /// A file that holds no latents of this model, weights that do not load, a full disk, a stop from the callback.
    pub fn decode(&self, path: &Path, request: &Request, on_event: OnEvent<'_>) -> Result<Film> {
        let latents = latents::load_latents(path)?;
        let metadata = bundle::metadata(path)?;
        let facts = self.facts()?;
        let plan = self.plan_of_latents(request, latents.video.dims(), &metadata)?;
        Output::check(&plan)?;
        let mut progress = Progress::new(on_event);
        if facts.sound.is_some() && latents.audio.is_none() {
            progress.note("the latents hold no sound: the film will be silent")?;
        }
        let _busy = self.busy();
        self.film(&plan, &latents, &metadata, &self.compute(&plan)?, &mut progress)
    }

    /// The way of every film: notes, latents, frames.
    fn carry_out(&self, plan: &Plan, mut run: Run, progress: &mut Progress<'_>) -> Result<Film> {
        let _busy = self.busy();
        progress.emit(&Event::Run { name: run.name() })?;
        for note in plan.notes.iter().cloned().chain(run.check_inputs(plan)?) {
            progress.note(note)?;
        }
        if !plan.has_files_of(self.model()) {
            progress.note(
                "the model's files have changed since the run began: the film will not be quite what it was to be",
            )?;
        }
        let compute = self.compute(plan)?;
        let latents = match run.latents()? {
            Some(latents) if fits(&latents, plan) => latents,
            Some(_) => return Err(not_of_this_film(&run)),
            None => self.denoise(plan, &mut run, &compute, progress)?,
        };
        let metadata = run.recipe_metadata()?;
        if let Some(path) = &plan.request.save_latents {
            bundle::save(path, &latents.pack(), metadata.clone())?;
        }
        let film = self.film(plan, &latents, &metadata, &compute, progress)?;
        if plan.request.keep {
            run.finish()?
        } else {
            run.remove()?
        }
        Ok(film)
    }

    /// Prompt and noise to latents, kept in the run's folder before anything else is done with them.
    fn denoise(&self, plan: &Plan, run: &mut Run, compute: &Compute, progress: &mut Progress<'_>) -> Result<Latents> {
        let recipe = std::thread::spawn({
            let (plan, home) = (plan.clone(), self.machine().home.clone());
            move || Recipe::of(&plan, home.as_deref())
        });
        let family = self.family();
        let conditioning = conditions(family, plan, run, compute, progress)?;
        device::trim();
        let preview = plan.request.preview.then(|| Projection::measure(family, plan, compute)).transpose()?;
        let denoise = Denoise { family, plan, compute, conditioning: &conditioning, preview: preview.as_ref() };
        let (latents, cached) =
            progress.stage(Stage::Denoise, plan.step_count() as u64, |progress| denoise.run(run, progress))?;
        device::trim();
        if let Some(cached) = &cached {
            progress.note(cached.sentence(plan.step_count()))?;
        }
        let recipe = recipe.join().map_err(|_| Error::failed("hashing the model's files stopped unexpectedly"))??;
        let recipe = Recipe { cached, ..recipe }.to_json()?;
        run.save_latents(&latents, HashMap::from([("recipe".to_owned(), recipe)]))?;
        Ok(latents)
    }

    /// Latents to the film, frame by frame.
    fn film(
        &self,
        plan: &Plan,
        latents: &Latents,
        metadata: &HashMap<String, String>,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Film> {
        let recipe = metadata.get("recipe").map_or("", String::as_str);
        let (family, frames) = (self.family(), plan.shape.frames);
        let sound = match latents.audio.as_ref().filter(|_| !plan.request.no_sound) {
            Some(audio) => progress.stage(Stage::Sound, 0, |progress| family.sound(audio, compute, progress))?,
            None => None,
        };
        device::trim();
        let mut output = Output::create(plan, recipe, sound, progress)?;
        let decode = Decode { family, compute, settings: &plan.settings, frames };
        progress.stage(Stage::Decode, frames as u64, |progress| {
            decode.run(latents, progress, &mut |frame| output.push(frame))
        })?;
        output.finish(progress)
    }
}

/// Whether latents are those of a plan's film.
fn fits(latents: &Latents, plan: &Plan) -> bool {
    let sound = plan.settings.sound.as_ref().map(|sound| sound.latents.as_slice());
    latents.has_shapes(&plan.shape.latents, sound)
}

fn not_of_this_film(run: &Run) -> Error {
    Error::failed(format!("the latents of the run are not of its film, in {}", run.folder().display()))
        .hint("its folder is damaged: start the run again with `talkie generate`")
}

/// Reads the files of the request and tries the places that the run will write to: what is wrong is known now, not after
/// minutes of work.
fn check_files(plan: &Plan) -> Result<()> {
    let request = &plan.request;
    request.conditions.iter().try_for_each(|condition| media::read_image(condition.file()).map(drop))?;
    request.noise.as_deref().map(|path| denoise::noise_of(path, plan)).transpose()?;
    request.save_latents.as_deref().map(atomic::check_place).transpose()?;
    Ok(())
}
