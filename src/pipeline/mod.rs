//! The pipeline: prompt → embeddings, noise → latents, latents → frames, frames → film. Read this file first.
//!
//! A [`Session`] holds one choice of weights, of which as much stays loaded as a budget of memory allows.

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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use condition::conditions;
use decode::Decode;
use denoise::Denoise;
use output::{Film, Output};
use preview::Projection;
use recipe::Recipe;
use run::Run;

use crate::compute::device;
use crate::error::{Error, Result};
use crate::families::Opened;
use crate::families::family::{Compute, Family};
use crate::families::latents::{self, Latents};
use crate::families::shelf::Shelf;
use crate::files::atomic;
use crate::media;
use crate::model::Model;
use crate::plan::{Budget, Facts, Machine, Plan, check_budget, of_latents, settle};
use crate::progress::{Event, Progress, Stage};
use crate::request::{Adapter, ModelChoice, Request};
use crate::weights::bundle;

/// Where events go: see [`Progress`].
pub type OnEvent<'a> = &'a mut dyn FnMut(&Event) -> ControlFlow<()>;

/// A model that is ready to make films, one after another.
///
/// It holds the weights that its budget has room for from film to film; with [`Budget::Nothing`] each stage loads its own and
/// drops them. It is `Send` and `Sync`: films are made from any thread, one at a time, and several sessions work in one
/// process.
///
/// ```
/// use talkie::{Budget, ModelChoice, Request, Session, progress::quiet};
///
/// # fn main() -> talkie::Result<()> {
/// let session = Session::open(&ModelChoice::default(), Budget::All, &mut quiet)?;
/// let request = Request { prompt: "a red ball".into(), frames: Some(1), steps: Some(1), ..Request::default() };
/// assert_eq!(session.generate(&request, &mut quiet)?.frames.len(), 1);
/// # Ok(())
/// # }
/// ```
pub struct Session {
    opened: Opened,
    choice: ModelChoice,
    budget: Budget,
    machine: Machine,
    shelf: Arc<Shelf>,
    /// Held while a film is made: what memory it takes was planned for one.
    busy: Mutex<()>,
}

impl Session {
    /// Opens a model on this machine: a folder, a catalogue name or a hub repository. Files that are missing are fetched.
    ///
    /// # Errors
    /// A model that is unknown, incomplete, or of a family that talkie does not run; a budget too small for any stage.
    pub fn open(choice: &ModelChoice, budget: Budget, on_event: OnEvent<'_>) -> Result<Self> {
        Self::open_on(Machine::here(), choice, budget, on_event)
    }

    /// As [`Session::open`], on a machine that is described by the caller: with a home of its own, for one.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open_on(machine: Machine, choice: &ModelChoice, budget: Budget, on_event: OnEvent<'_>) -> Result<Self> {
        let opened = Opened::open(choice, machine.home.as_deref(), &mut Progress::new(on_event))?;
        let session = Self::of(opened, choice, budget, machine);
        check_budget(budget, &session.family().weights())?;
        Ok(session)
    }

    /// A session of a family that is open already.
    pub fn of(opened: Opened, choice: &ModelChoice, budget: Budget, machine: Machine) -> Self {
        Self { opened, choice: choice.clone(), budget, machine, shelf: Arc::default(), busy: Mutex::default() }
    }

    /// What would happen on a machine, from what is known without a download.
    ///
    /// # Errors
    /// As [`Session::plan`].
    pub fn look(machine: &Machine, choice: &ModelChoice, request: &Request) -> Result<Plan> {
        Self::check(choice, request)?;
        let (opened, missing) = Opened::look(choice)?;
        let plan = Self::of(opened, choice, Budget::Nothing, machine.clone()).plan(request)?;
        Ok(if missing.is_empty() { plan } else { Plan { files: missing, ..plan } })
    }

    /// Refuses before anything is fetched what is known to be wrong by then: a preset that is for other weights.
    ///
    /// # Errors
    /// The preset, and what weights it is for.
    pub fn check(choice: &ModelChoice, request: &Request) -> Result<()> {
        Opened::check_preset(choice, request.preset.as_deref())
    }

    /// What will happen: everything settled before a tensor exists.
    ///
    /// # Errors
    /// A request that cannot be carried out, or a film that does not fit into memory.
    pub fn plan(&self, request: &Request) -> Result<Plan> {
        Self::check(&self.choice, request)?;
        // Latents are decoded without reading; a prompt is not turned into a film without.
        self.model().component("text_encoder")?;
        self.model().component("tokenizer")?;
        let plan = settle(&self.choice, request, &self.facts()?, &self.machine)?;
        self.with_costs(plan)
    }

    fn plan_of_latents(
        &self,
        request: &Request,
        latents: &[usize],
        metadata: &HashMap<String, String>,
    ) -> Result<Plan> {
        let asked = (&self.choice, request);
        let plan = of_latents(asked, (&self.facts()?, &self.machine), latents, metadata)?;
        self.with_costs(plan)
    }

    fn with_costs(&self, plan: Plan) -> Result<Plan> {
        let plan = plan.with_files(self.model());
        open_device(&plan)?;
        plan.with_memory((&self.facts()?, &self.machine), self.budget, self.family())
    }

    /// Changes the LoRAs of the transformers. Weights that stay loaded are not read again.
    ///
    /// # Errors
    /// A file that is damaged, is not a LoRA, or fits nothing in this model: the session is as it was then.
    pub fn adapt(&mut self, loras: &[Adapter]) -> Result<()> {
        let choice = ModelChoice { loras: loras.to_vec(), ..self.choice.clone() };
        self.opened = self.opened.with(&choice)?;
        self.choice = choice;
        Ok(())
    }

    /// The weights that the session holds.
    pub fn choice(&self) -> &ModelChoice {
        &self.choice
    }

    /// The machine that it works on.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Bytes of weights that were read from files since the session was opened.
    pub fn bytes_read(&self) -> u64 {
        self.shelf.bytes_read()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.opened.model
    }

    /// What runs the model.
    pub fn family(&self) -> &dyn Family {
        self.opened.family.as_ref()
    }

    /// The facts of the model.
    ///
    /// # Errors
    /// A configuration that does not fit its family.
    pub fn facts(&self) -> Result<Facts> {
        self.family().facts()
    }

    /// Refuses other weights than those of the session: a film's recipe names what was used.
    fn check_weights(&self, other: &ModelChoice) -> Result<()> {
        if self.choice.has_weights_of(other) {
            return Ok(());
        }
        Err(Error::usage(format!("this session holds {}, and the run is of {other}", self.choice))
            .hint("open a session of the run's own weights: its plan names them"))
    }

    /// Where the stages of a plan compute.
    fn compute(&self, plan: &Plan) -> Result<Compute> {
        let device = open_device(plan)?;
        self.shelf.retain(&plan.keeps);
        Ok(Compute {
            dtype: device::dtype(&plan.settings.dtype, &device)?,
            device,
            scratch: self.machine.home()?,
            shelf: self.shelf.clone(),
            keeps: plan.keeps.clone(),
        })
    }

    /// Waits until no other thread makes a film of this session.
    fn busy(&self) -> MutexGuard<'_, ()> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
            run.finish()?;
        } else {
            run.remove()?;
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

fn open_device(plan: &Plan) -> Result<candle_core::Device> {
    let device = device::open(&plan.settings.device)?;
    device::dtype(&plan.settings.dtype, &device)?;
    Ok(device)
}
