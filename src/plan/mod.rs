//! What will happen, settled before a tensor exists: sizes, sigmas, files, memory, refusals.

mod few_steps;
mod geometry;
mod inputs;
mod memory;
mod parameters;
mod print;
mod shape;
pub mod tiling;
mod vocabulary;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::atomic;
use crate::fps::Fps;
use crate::model::catalogue;
use crate::model::{Model, PlannedFile};
use crate::progress::Stage;
use crate::request::{MAX_PROMPT, Request, Size};
use crate::sampling::Scales;
use crate::sampling::schedule::{MAX_STEPS, Sampler, Sampling, Schedule};
pub use few_steps::check_weights;
pub use geometry::{Geometry, Heard, ImageUse, Sound, SoundGeometry};
pub use inputs::{Input, Role};
pub use memory::{BASE, Streams};
pub use print::{human_bytes, one_line};
pub use shape::Shape;
pub use tiling::Tiling;
pub use vocabulary::Vocabulary;

/// One denoising step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The share of noise before the step, in (0, 1].
    pub sigma: f64,
    /// The timestep that the transformer is told, in [0, 1000].
    pub timestep: f64,
    /// The transformer that works: 0, or 1 for the second of two.
    pub expert: usize,
    /// The stage that it belongs to: 0, or 1 for the second of two, on a film of twice the sides.
    #[serde(default)]
    pub stage: usize,
    /// The guidance of the pictures.
    pub guidance: Scales,
    /// The guidance of the sound.
    #[serde(default)]
    pub audio_guidance: Option<Scales>,
}

/// The memory that a stage takes at its peak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageMemory {
    /// The stage.
    pub stage: Stage,
    /// Bytes of weights.
    pub weights: u64,
    /// Bytes of everything else: activations, caches, widened weights.
    #[serde(alias = "work")]
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
    /// What was asked for, with every path absolute.
    pub request: Request,
    /// Whether something is under the output's name that the film will replace. What comes there later will not be.
    pub replaces: bool,
    /// The model in a few words.
    pub model: String,
    /// The model's folder; the repository where it is not here yet.
    pub folder: PathBuf,
    /// The prompt.
    pub prompt: String,
    /// The negative prompt; none where guidance is off throughout.
    pub negative: Option<String>,
    /// The seed of the noise.
    pub seed: u64,
    /// Sides, frames, latents and tokens.
    pub shape: Shape,
    /// The shape that the first of two stages works on.
    #[serde(default)]
    pub first_shape: Option<Shape>,
    /// The soundtrack, where the model makes one.
    #[serde(default)]
    pub sound: Option<Sound>,
    /// Frames per second.
    pub fps: Fps,
    /// The name of the way of sampling, where the model has several and this one has a name.
    #[serde(default)]
    pub preset: Option<String>,
    /// The sampler with its settings, the user's and the model's put together.
    pub sampling: Sampling,
    /// The shift of the sigmas. Has no effect where the sigmas themselves are given.
    pub flow_shift: f64,
    /// The steps.
    pub steps: Vec<Step>,
    /// Blocks of the transformer that do not look around under spatio-temporal guidance.
    #[serde(default)]
    pub stg_blocks: Vec<usize>,
    /// Whether pictures and sound are told each other's timestep where they see each other, rather than their own.
    #[serde(default)]
    pub cross_timestep: bool,
    /// How much a first picture is compressed with H.264 before it is encoded, as a CRF; 0 for not at all.
    #[serde(default)]
    pub image_crf: u8,
    /// Tokens that a prompt may have.
    pub text_length: usize,
    /// Every sampling parameter that `--set` reaches, with its value.
    pub parameters: BTreeMap<String, Value>,
    /// Tiles of the autoencoder, where it works in tiles.
    pub tiling: Option<Tiling>,
    /// Networks that stay in their files.
    #[serde(default)]
    pub streams: Streams,
    /// Whether the transformer's weights of eight bits are multiplied with numbers of eight bits.
    #[serde(default)]
    pub fp8: bool,
    /// The device that computes.
    pub device: String,
    /// The type that it computes in.
    pub dtype: String,
    /// Files that the run reads.
    pub files: Vec<PlannedFile>,
    /// Files of the request that the film is made from, besides the model.
    #[serde(default)]
    pub inputs: Vec<Input>,
    /// Memory of each stage.
    pub stages: Vec<StageMemory>,
    /// Memory that may be used, where it is known.
    pub memory: Option<u64>,
    /// What was rounded, cut or chosen, in sentences.
    pub notes: Vec<String>,
}

impl Plan {
    /// Settles everything but files and memory.
    ///
    /// # Errors
    /// A request that this model cannot carry out, or numbers that make no sense. Each names the field.
    pub fn settle(request: &Request, geometry: &Geometry) -> Result<Self> {
        let mut notes = Vec::new();
        check_prompts(request)?;
        check_image(request, geometry)?;
        let fps = match request.fps {
            Some(fps) => fps,
            None => geometry.film.fps.to_string().parse()?,
        };
        let shape = Shape::settle(request, geometry, fps, &mut notes)?;
        let (preset, defaults) = geometry.sampling(request)?;
        check_cache(request, &defaults)?;
        notes.extend(defaults.few_steps.as_ref().and_then(|recipe| few_steps::note(request, recipe)));
        let set = parameters::Parameters::read(request, geometry, &defaults)?;
        if geometry.sound.is_some() && !geometry.perturbs && request.set.keys().any(|key| key.contains("stg_")) {
            notes.push("spatio-temporal guidance has no effect: this transformer knows no perturbed attention".into());
        }
        let (shape, first_shape) = set.shapes(shape, geometry, &mut notes)?;
        let schedules = set.schedules(request, geometry, &defaults, first_shape.as_ref().unwrap_or(&shape))?;
        let steps = set.steps(&schedules, geometry);
        let asks = |scales: &Scales| scales.uses_text();
        let guided = steps.iter().any(|step| asks(&step.guidance) || step.audio_guidance.as_ref().is_some_and(asks));
        let negative = request.negative.clone().unwrap_or(defaults.negative_prompt);
        if request.negative.is_some() && !guided {
            notes.push("the negative prompt has no effect: guidance is 1 or less throughout".into());
        }
        notes.extend(geometry.silent.clone());
        let heard = !request.dialogue.is_empty() || !request.sounds.is_empty() || request.music.is_some();
        if heard && geometry.sound.is_none() {
            notes.push("this model makes silent films: dialogue, sounds and music are left out".into());
        }
        let prompt = (geometry.render)(request);
        notes.extend(geometry.vocabulary.as_ref().and_then(|vocabulary| vocabulary.note(&prompt)));
        let replaces = request.output.as_deref().is_some_and(atomic::is_taken);
        for path in
            [&request.output, &request.contact_sheet].into_iter().flatten().filter(|path| atomic::is_taken(path))
        {
            notes.push(format!("{} is there already, and is replaced when the new film is whole", path.display()));
        }
        let device = request.device.clone().unwrap_or_else(|| crate::compute::device::best().to_owned());
        Ok(Self {
            model: geometry.title.clone(),
            folder: PathBuf::new(),
            prompt,
            negative: guided.then_some(negative),
            seed: request.seed.unwrap_or_else(fresh_seed),
            shape,
            fps,
            parameters: set.listed(&schedules, geometry),
            preset,
            sampling: set.sampling,
            flow_shift: schedules.flow_shift,
            steps,
            stg_blocks: set.stg_blocks,
            cross_timestep: set.cross_timestep,
            image_crf: set.image_crf,
            sound: geometry.sound.as_ref().map(|sound| sound.settle(&shape, fps)),
            first_shape,
            text_length: set.text_length,
            tiling: set.tiling,
            // On a processor each of the encoder's weights is read once, in its file: to hold it would save nothing.
            streams: set.streams.unwrap_or(Streams { text: device == "cpu", transformer: false }),
            fp8: set.fp8,
            dtype: request.dtype.clone().unwrap_or_else(|| if device == "cpu" { "f32" } else { "bf16" }.to_owned()),
            device,
            files: Vec::new(),
            inputs: Input::of(request),
            stages: Vec::new(),
            memory: None,
            notes,
            replaces,
            request: request.clone(),
        })
    }

    /// The plan of a film whose latents are there already: only the decode is left.
    ///
    /// `metadata` is the latent file's; the rate in its recipe holds where the request names none.
    ///
    /// # Errors
    /// Latents that this model did not make.
    pub fn of_latents(
        request: &Request,
        geometry: &Geometry,
        latents: &[usize],
        metadata: &HashMap<String, String>,
    ) -> Result<Self> {
        let &[1, channels, frames, height, width] = latents else {
            return Err(Error::failed(format!("latents of shape {latents:?} are not one film's"))
                .hint("they have five axes: (1, C, T, H, W)"));
        };
        if channels != geometry.channels {
            return Err(Error::failed(format!(
                "the latents have {channels} channels, and those of {} have {}",
                geometry.title, geometry.channels
            ))
            .hint("decode latents with the model that made them: `-m MODEL`"));
        }
        let recipe: Option<Value> = metadata.get("recipe").and_then(|recipe| serde_json::from_str(recipe).ok());
        let kept = |field: &str| recipe.as_ref().and_then(|recipe| recipe.get(field)).cloned();
        let mut request = request.clone();
        request.prompt =
            kept("prompt").and_then(|prompt| Some(prompt.as_str()?.to_owned())).unwrap_or_else(|| "latents".into());
        request.fps = request.fps.or_else(|| serde_json::from_value(kept("fps")?).ok());
        request.size = Some(Size { width: width * geometry.spatial, height: height * geometry.spatial });
        request.frames = Some((frames.max(1) - 1) * geometry.temporal + 1);
        request.seconds = None;
        Self::settle(&request, &Geometry { image: ImageUse::Optional, upsamples: false, ..geometry.clone() })
    }

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
    pub fn check(&self, geometry: &Geometry) -> Result<()> {
        let experts = 1 + usize::from(geometry.boundary.is_some());
        let stages = 1 + usize::from(self.first_shape.is_some());
        let fits = self.shape.is_of(geometry)
            && self.first_shape.is_none_or(|first| geometry.upsamples && first.is_half_of(&self.shape, geometry))
            && self.sound == geometry.sound.map(|sound| sound.settle(&self.shape, self.fps))
            && self.steps.is_sorted_by_key(|step| step.stage)
            && self.steps.iter().all(|step| step.stage < stages)
            && (1..=MAX_STEPS).contains(&self.steps.len())
            && self.steps.iter().all(|step| step.expert < experts)
            && (1..=geometry.text_length).contains(&self.text_length)
            && self.tiling.is_none_or(|tiling| tiling.check(geometry.spatial).is_ok());
        if fits {
            return Ok(());
        }
        Err(Error::failed(format!("the plan of the run does not fit {}", geometry.title))
            .hint("its folder is damaged, or the model is another one now: start again with `talkie generate`"))
    }

    /// The schedule of the steps of a stage.
    pub fn schedule(&self, stage: usize) -> Schedule {
        let steps = || self.steps.iter().filter(move |step| step.stage == stage);
        Schedule {
            sigmas: steps().map(|step| step.sigma).chain([0.0]).collect(),
            timesteps: steps().map(|step| step.timestep).collect(),
        }
    }

    /// The shape that a stage works on.
    pub fn stage_shape(&self, stage: usize) -> &Shape {
        self.first_shape.as_ref().filter(|_| stage == 0).unwrap_or(&self.shape)
    }

    /// Tokens of the longer of the two prompts, more or less: what a text encoder makes of a prompt is known later.
    pub fn tokens(&self) -> usize {
        let tokens = |text: &str| {
            let (short, long): (Vec<char>, Vec<char>) = text.chars().partition(char::is_ascii);
            short.len() / 4 + long.len() + 1
        };
        tokens(&self.prompt).max(self.negative.as_deref().map_or(0, tokens)).min(self.text_length)
    }

    /// Blocks of a streamed network that are in memory together: a device works on one while the next is copied to it.
    pub fn blocks_at_once(&self) -> usize {
        if self.device == "cpu" { 1 } else { 2 }
    }

    /// How often the scores of an attention are in memory, of `times` that a network writes them: a processor writes none.
    pub fn scores(&self, times: f64) -> f64 {
        if self.device == "cpu" { 0.0 } else { times }
    }

    /// Length of the film in seconds.
    pub fn seconds(&self) -> f64 {
        self.fps.seconds(self.shape.frames)
    }

    /// Bytes of the files that are not on this machine, as far as they are known.
    pub fn missing_bytes(&self) -> u64 {
        self.files.iter().filter(|file| !file.present).filter_map(|file| file.bytes).sum()
    }
}

/// Whether there is a prompt, and neither it nor the negative one is longer than any model reads.
fn check_prompts(request: &Request) -> Result<()> {
    if request.prompt.trim().is_empty() {
        return Err(Error::usage("the prompt is empty")
            .hint("say what should be seen: `talkie generate \"a red ball bounces on a wooden floor\"`"));
    }
    let negative = request.negative.as_deref().unwrap_or_default();
    for (name, text) in [("prompt", request.prompt.as_str()), ("negative prompt", negative)] {
        if text.len() > MAX_PROMPT {
            return Err(Error::usage(format!("the {name} has {} bytes: {MAX_PROMPT} at most", text.len()))
                .hint("shorten it: of a long prompt only the first few hundred words are read"));
        }
    }
    Ok(())
}

/// Whether there is a picture where the model needs one, and none where it reads none.
fn check_image(request: &Request, geometry: &Geometry) -> Result<()> {
    match (&request.image, geometry.image) {
        (Some(image), ImageUse::None) => Err(Error::usage(format!("{} makes films from text alone, so `--image` has no use: {}", geometry.title, image.display()))
            .hint("leave `--image` out, or use a model that begins with a picture: `-m wan2.2-ti2v-5b` or `-m wan2.2-i2v-a14b`")),
        (None, ImageUse::Required) => Err(Error::usage(format!("{} makes films that begin with a picture, and none was given", geometry.title))
            .hint("add `--image FILE`, or use a model that makes films from text: `-m wan2.2-t2v-a14b`")),
        (Some(image), _) if !image.is_file() => {
            Err(Error::usage(format!("there is no picture at {}", image.display())).hint("check the path after `--image`"))
        }
        _ => Ok(()),
    }
}

/// Whether steps may be skipped as often as the request says.
fn check_cache(request: &Request, defaults: &catalogue::Sampling) -> Result<()> {
    let Some(cache) = request.cache else { return Ok(()) };
    if !(cache > 0.0 && cache < 1.0) {
        return Err(Error::usage(format!("`--cache` is {cache}, where a share above 0 and below 1 belongs"))
            .hint("0.05 is careful; leave it out to compute every step"));
    }
    if defaults.few_steps.is_some() || request.sampler == Some(Sampler::Renoise) {
        return Err(Error::usage(
            "`--cache` does not go with a recipe of few steps: none of them is like the one before it",
        )
        .hint("leave `--cache` out"));
    }
    Ok(())
}

/// A seed that differs from run to run, small enough to be typed again.
fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (now.as_nanos() as u64 ^ u64::from(std::process::id()) << 17) % 1_000_000_007
}
