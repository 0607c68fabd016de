//! A session: one choice of weights, of which as much stays loaded as a budget of memory allows.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::compute::device;
use crate::error::{Error, Result};
use crate::families::Opened;
use crate::families::family::{Compute, Family};
use crate::families::shelf::Shelf;
use crate::model::Model;
use crate::plan::{Budget, Facts, Machine, Plan, check_budget};
use crate::progress::{Event, Progress};
use crate::request::{Adapter, ModelChoice, Request};

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
        let plan = Plan::settle(&self.choice, request, &self.facts()?, &self.machine)?;
        self.with_costs(plan)
    }

    pub(super) fn plan_of_latents(
        &self,
        request: &Request,
        latents: &[usize],
        metadata: &HashMap<String, String>,
    ) -> Result<Plan> {
        let asked = (&self.choice, request);
        let plan = Plan::of_latents(asked, (&self.facts()?, &self.machine), latents, metadata)?;
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
    pub(super) fn check_weights(&self, other: &ModelChoice) -> Result<()> {
        if self.choice.has_weights_of(other) {
            return Ok(());
        }
        Err(Error::usage(format!("this session holds {}, and the run is of {other}", self.choice))
            .hint("open a session of the run's own weights: its plan names them"))
    }

    /// Where the stages of a plan compute.
    pub(super) fn compute(&self, plan: &Plan) -> Result<Compute> {
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
    pub(super) fn busy(&self) -> MutexGuard<'_, ()> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_device(plan: &Plan) -> Result<candle_core::Device> {
    let device = device::open(&plan.settings.device)?;
    device::dtype(&plan.settings.dtype, &device)?;
    Ok(device)
}
