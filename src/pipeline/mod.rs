//! The pipeline: prompt → embeddings, noise → latents, latents → frames, frames → film. Read this file first.

pub mod condition;
pub mod decode;
pub mod denoise;
pub mod guidance;
pub mod output;
pub mod preview;
pub mod recipe;
pub mod run;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use crate::compute::device;
use crate::error::{Error, Result};
use crate::families;
use crate::families::family::{Compute, Family};
use crate::families::latents::{self, Latents};
use crate::files::atomic;
use crate::media;
use crate::model::Model;
use crate::pipeline::condition::conditions;
use crate::pipeline::decode::Decode;
use crate::pipeline::output::{Film, Output};
use crate::pipeline::preview::Projection;
use crate::pipeline::recipe::Recipe;
use crate::pipeline::run::Run;
use crate::plan::Plan;
use crate::progress::{Event, Progress, Stage};
use crate::request::Request;
use crate::weights::bundle;
use denoise::Denoise;

/// Where events go: see [`Progress`].
pub type OnEvent<'a> = &'a mut dyn FnMut(&Event) -> ControlFlow<()>;

/// A model that is ready to make films. It holds no weights: each stage of a run loads its own and drops them.
pub struct Pipeline {
    family: Box<dyn Family>,
    model: Model,
}

impl Pipeline {
    /// Opens the model of a request: a folder, a catalogue name or a hub repository. Files that are missing are fetched.
    ///
    /// # Errors
    /// A model that is unknown, incomplete, or of a family that talkie does not run.
    pub fn open(request: &Request, on_event: OnEvent<'_>) -> Result<Self> {
        let (model, family) = families::open(request, &mut Progress::new(on_event))?;
        Ok(Self { family, model })
    }

    /// What would happen, from what is known without a download.
    ///
    /// # Errors
    /// As [`Pipeline::plan`].
    pub fn look(request: &Request) -> Result<Plan> {
        let ((model, family), missing) = families::look(request)?;
        let plan = Self { family, model }.plan(request)?;
        Ok(if missing.is_empty() { plan } else { Plan { files: missing, ..plan } })
    }

    /// What will happen: everything settled before a tensor exists.
    ///
    /// # Errors
    /// A request that cannot be carried out, or a film that does not fit into memory.
    pub fn plan(&self, request: &Request) -> Result<Plan> {
        let geometry = self.family.geometry()?;
        let plan = Plan::settle(request, &geometry)?.with_files(&self.model);
        compute(&plan)?;
        plan.with_memory(&geometry, &|plan, shape| self.family.memory(plan, shape))
    }

    /// Makes a film: a file where the request names one, otherwise the frames in memory.
    ///
    /// # Errors
    /// A request that cannot be carried out, weights that do not load, a full disk, a stop from the callback. The run is
    /// kept: [`Pipeline::resume`] goes on with it.
    pub fn generate(&self, request: &Request, on_event: OnEvent<'_>) -> Result<Film> {
        let plan = self.plan(request)?;
        self.model.check_files()?;
        check_files(&plan)?;
        Output::check(&plan)?;
        self.resume(Run::create(&plan)?, on_event)
    }

    /// Goes on with a run that stopped, from the last step that was kept. It ends in the same film.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn resume(&self, mut run: Run, on_event: OnEvent<'_>) -> Result<Film> {
        let plan = run.plan()?;
        plan.check(&self.family.geometry()?)?;
        let mut progress = Progress::new(on_event);
        progress.emit(&Event::Run { name: run.name() })?;
        for note in plan.notes.iter().cloned().chain(run.check_inputs(&plan)?) {
            progress.note(note)?;
        }
        if !plan.has_files_of(&self.model) {
            progress.note(
                "the model's files have changed since the run began: the film will not be quite what it was to be",
            )?;
        }
        let compute = compute(&plan)?;
        let latents = match run.latents()? {
            Some(latents) if fits(&latents, &plan) => latents,
            Some(_) => return Err(not_of_this_film(&run)),
            None => self.denoise(&plan, &mut run, &compute, &mut progress)?,
        };
        if let Some(path) = &plan.request.save_latents {
            bundle::save(path, &latents.pack(), run.recipe_metadata()?)?;
        }
        let film = self.film(&plan, &latents, &run.recipe_metadata()?, &compute, &mut progress)?;
        match plan.request.keep {
            true => run.finish()?,
            false => run.remove()?,
        }
        Ok(film)
    }

    /// Makes the film of latents that were kept. `request` says where it goes; of the model only the decoder is used.
    ///
    /// # Errors
    /// A file that holds no latents of this model, weights that do not load, a full disk, a stop from the callback.
    pub fn decode(&self, path: &Path, request: &Request, on_event: OnEvent<'_>) -> Result<Film> {
        let latents = latents::load_latents(path)?;
        let metadata = bundle::metadata(path)?;
        let geometry = self.family.geometry()?;
        let plan = Plan::of_latents(request, &geometry, latents.video.dims(), &metadata)?.with_files(&self.model);
        let plan = plan.with_memory(&geometry, &|plan, shape| self.family.memory(plan, shape))?;
        Output::check(&plan)?;
        let mut progress = Progress::new(on_event);
        if geometry.sound.is_some() && latents.audio.is_none() {
            progress.note("the latents hold no sound: the film will be silent")?;
        }
        self.film(&plan, &latents, &metadata, &compute(&plan)?, &mut progress)
    }

    /// Prompt and noise to latents, kept in the run's folder before anything else is done with them.
    fn denoise(&self, plan: &Plan, run: &mut Run, compute: &Compute, progress: &mut Progress<'_>) -> Result<Latents> {
        let recipe = std::thread::spawn({
            let plan = plan.clone();
            move || Recipe::of(&plan)
        });
        let family = self.family.as_ref();
        let conditioning = conditions(family, plan, run, compute, progress)?;
        device::trim();
        let preview = plan.request.preview.then(|| Projection::measure(family, plan, compute)).transpose()?;
        let denoise = Denoise { family, plan, compute, conditioning: &conditioning, preview: preview.as_ref() };
        let (latents, cached) =
            progress.stage(Stage::Denoise, plan.steps.len() as u64, |progress| denoise.run(run, progress))?;
        device::trim();
        if let Some(cached) = &cached {
            progress.note(cached.sentence(plan.steps.len()))?;
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
        let (family, frames) = (self.family.as_ref(), plan.shape.frames);
        let sound = match latents.audio.as_ref().filter(|_| !plan.request.no_sound) {
            Some(audio) => progress.stage(Stage::Sound, 0, |_| family.decode_sound(audio, compute))?,
            None => None,
        };
        device::trim();
        let mut output = Output::create(plan, recipe, sound, progress)?;
        let decode = Decode { family, compute, tiling: plan.tiling, frames };
        progress.stage(Stage::Decode, frames as u64, |progress| {
            decode.run(latents, progress, &mut |picture| output.push(picture))
        })?;
        output.finish(progress)
    }
}

fn compute(plan: &Plan) -> Result<Compute> {
    let device = device::open(&plan.device)?;
    Ok(Compute { dtype: device::dtype(&plan.dtype, &device)?, device })
}

/// Whether latents are those of a plan's film.
fn fits(latents: &Latents, plan: &Plan) -> bool {
    let sound = plan.sound.as_ref().map(|sound| sound.latents.as_slice());
    latents.has_shapes(&plan.shape.latents, sound)
}

fn not_of_this_film(run: &Run) -> Error {
    Error::failed(format!("the latents of the run are not of its film, in {}", run.folder().display()))
        .hint("its folder is damaged: start the run again with `talkie generate`")
}

/// Reads what the run will read besides the model and tries where it will write: what is wrong is said now, not after minutes of work.
fn check_files(plan: &Plan) -> Result<()> {
    let request = &plan.request;
    request.image.as_deref().map(media::read_image).transpose()?;
    request.noise.as_deref().map(|path| denoise::noise_of(path, plan)).transpose()?;
    request.save_latents.as_deref().map(atomic::check_place).transpose()?;
    Ok(())
}
