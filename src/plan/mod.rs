//! What will happen, settled before a tensor exists: sizes, sigmas, files, memory, refusals.

mod costs;
mod facts;
mod few_steps;
mod inputs;
mod keep;
mod machine;
mod memory;
mod parameters;
mod print;
mod settings;
mod settle;
mod shape;
mod tiling;
mod vocabulary;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::{Model, PlannedFile};
use crate::progress::Stage;
use crate::request::{ModelChoice, Request};
use crate::sampling::Scales;
use crate::sampling::schedule::{MAX_STEPS, Sampling, Schedule};
pub use costs::{Costs, Pass, Workload};
pub use facts::{Facts, Heard, ImageUse, Sound, SoundFacts};
pub use few_steps::check_weights;
pub use inputs::{Input, Role};
pub use keep::Budget;
pub(crate) use keep::check_budget;
pub use machine::{Free, Machine};
pub use memory::{BASE, Streams};
pub use print::{human_bytes, one_line};
pub use settings::Settings;
pub use settle::{of_latents, settle};
pub use shape::Shape;
pub use tiling::Tiling;
pub use vocabulary::Vocabulary;

/// The version of talkie: plans of another one are not carried out.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One denoising step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The share of noise before the step, in (0, 1].
    pub sigma: f64,
    /// The timestep that the transformer reads, in [0, 1000].
    pub timestep: f64,
    /// The transformer that works: 0, or 1 for the second of two.
    pub expert: usize,
    /// Guidance of the video.
    pub guidance: Scales,
    /// Guidance of the audio.
    pub audio_guidance: Option<Scales>,
}

/// A phase of the denoising: steps on latents of one shape. Between two phases the latents are upsampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Sides, frames, latents and tokens that it works on.
    pub shape: Shape,
    /// Its steps.
    pub steps: Vec<Step>,
}

impl Phase {
    /// The noise schedule of its steps.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            sigmas: self.steps.iter().map(|step| step.sigma).chain([0.0]).collect(),
            timesteps: self.steps.iter().map(|step| step.timestep).collect(),
        }
    }
}

/// The memory that a stage takes at its peak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageMemory {
    /// The stage.
    pub stage: Stage,
    /// Bytes of weights.
    pub weights: u64,
    /// Bytes of everything else: activations, caches, widened weights.
    pub scratch: u64,
}

impl StageMemory {
    /// Bytes at the peak.
    pub fn peak(&self) -> u64 {
        self.weights.saturating_add(self.scratch)
    }
}

/// Everything that will happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The version of talkie that settled it.
    pub talkie: String,
    /// The weights that were asked for, with every path absolute.
    pub choice: ModelChoice,
    /// The film that was asked for, with every path absolute.
    pub request: Request,
    /// Whether something is under the output's name that the film will replace. What comes there later will not be.
    pub replaces: bool,
    /// The model in a few words.
    pub model: String,
    /// The model's folder; the repository where it is not here yet.
    pub folder: PathBuf,
    /// The prompt, as the text encoder reads it.
    pub prompt: String,
    /// The negative prompt; none where guidance is off throughout.
    pub negative: Option<String>,
    /// The seed of the noise.
    pub seed: u64,
    /// Sides, frames, latents and tokens of the film: those of the last phase.
    pub shape: Shape,
    /// The name of the way of sampling, where the model has several and this one has a name.
    pub preset: Option<String>,
    /// The sampler with its settings, the user's and the model's put together.
    pub sampling: Sampling,
    /// The shift of the sigmas. Has no effect where the sigmas themselves are given.
    pub flow_shift: f64,
    /// The denoising, phase by phase.
    pub phases: Vec<Phase>,
    /// What the stages of the family read.
    #[serde(flatten)]
    pub settings: Settings,
    /// Every sampling parameter that `--set` reaches, with its value.
    pub parameters: BTreeMap<String, Value>,
    /// Files that the run reads.
    pub files: Vec<PlannedFile>,
    /// What each condition of the request becomes, in their order.
    pub conditions: Vec<String>,
    /// Files of the request that the film is made from, besides the model.
    pub inputs: Vec<Input>,
    /// Memory of each stage.
    pub stages: Vec<StageMemory>,
    /// Stages whose networks stay loaded for the next film of the session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keeps: Vec<Stage>,
    /// Memory that may be used, where it is known.
    pub memory: Option<u64>,
    /// What was rounded, cut or chosen, in sentences.
    pub notes: Vec<String>,
}

impl Plan {
    /// Adds the files of a model that is on this machine.
    #[must_use]
    pub fn with_files(mut self, model: &Model) -> Self {
        self.folder.clone_from(&model.folder);
        self.notes.extend(model.notes.iter().cloned());
        let planned = |component: &str, file: &crate::model::WeightFile| PlannedFile {
            component: component.to_owned(),
            path: file.path.clone(),
            bytes: Some(file.bytes),
            present: true,
        };
        self.files =
            model.components.iter().flat_map(|part| part.files.iter().map(|file| planned(&part.name, file))).collect();
        self
    }

    /// Whether a model's files have the sizes of those of the plan. Where they have not, the film will be another one than it
    /// would have been.
    pub fn has_files_of(&self, model: &Model) -> bool {
        let sizes =
            |plan: &Self| plan.files.iter().map(|file| (file.component.clone(), file.bytes)).collect::<Vec<_>>();
        sizes(self) == sizes(&self.clone().with_files(model))
    }

    /// Refuses a plan from a file that this model cannot carry out: one that was damaged, or another model's.
    ///
    /// # Errors
    /// A shape, a step or a tile that is not of this model.
    pub fn check(&self, facts: &Facts) -> Result<()> {
        let experts = 1 + usize::from(facts.boundary.is_some());
        let Settings { fps, sound, text_length, tiling, .. } = &self.settings;
        let shapes = match self.phases.as_slice() {
            [only] => only.shape == self.shape,
            [first, last] => facts.upsamples && last.shape == self.shape && first.shape.is_half_of(&self.shape, facts),
            _ => false,
        };
        let fits = shapes
            && self.shape.is_of(facts)
            && *sound == facts.sound.map(|sound| sound.settle(&self.shape, *fps))
            && self.phases.iter().all(|phase| !phase.steps.is_empty())
            && self.step_count() <= MAX_STEPS
            && self.steps().all(|(_, step)| step.expert < experts)
            && (1..=facts.text_length).contains(text_length)
            && tiling.is_none_or(|tiling| tiling.check(facts.spatial).is_ok());
        if fits {
            return Ok(());
        }
        Err(Error::failed(format!("the plan of the run does not fit {}", facts.title))
            .hint("its folder is damaged, or the model is another one now: start again with `talkie generate`"))
    }

    /// Every step, with the number of its phase.
    pub fn steps(&self) -> impl Iterator<Item = (usize, &Step)> + Clone {
        self.phases
            .iter()
            .enumerate()
            .flat_map(|(phase, Phase { steps, .. })| steps.iter().map(move |step| (phase, step)))
    }

    /// Steps of all phases.
    pub fn step_count(&self) -> usize {
        self.phases.iter().map(|phase| phase.steps.len()).sum()
    }

    /// The number of the phase of step `index`.
    pub fn phase_of(&self, index: usize) -> Option<usize> {
        self.steps().nth(index).map(|(phase, _)| phase)
    }

    /// The shape that the denoising begins with.
    pub fn first_shape(&self) -> &Shape {
        self.phases.first().map_or(&self.shape, |phase| &phase.shape)
    }

    /// Tokens of the longer of the two prompts, more or less: how many a text encoder makes of a prompt is known later.
    pub fn tokens(&self) -> usize {
        let tokens = |text: &str| {
            let (short, long): (Vec<char>, Vec<char>) = text.chars().partition(char::is_ascii);
            short.len() / 4 + long.len() + 1
        };
        tokens(&self.prompt).max(self.negative.as_deref().map_or(0, tokens)).min(self.settings.text_length)
    }

    /// Length of the film in seconds.
    pub fn seconds(&self) -> f64 {
        self.settings.fps.seconds(self.shape.frames)
    }
}
