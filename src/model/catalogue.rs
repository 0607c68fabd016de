//! What can be run by name: the files of `models/`, embedded and parsed. `models/README.md` describes their fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Context, Error, Result, nearest};
pub use crate::request::IN_THE_BOX;
use crate::sampling::schedule::Sampler;

/// The entries' files: (name, text). A test sees to it that every file of `models/` is here.
const FILES: &[(&str, &str)] = &[
    (IN_THE_BOX, include_str!("../../models/toybox.toml")),
    ("wan2.1-t2v-1.3b", include_str!("../../models/wan2.1-t2v-1.3b.toml")),
    ("wan2.1-t2v-14b", include_str!("../../models/wan2.1-t2v-14b.toml")),
    ("wan2.2-ti2v-5b", include_str!("../../models/wan2.2-ti2v-5b.toml")),
    ("fastwan2.2-ti2v-5b", include_str!("../../models/fastwan2.2-ti2v-5b.toml")),
    ("wan2.2-t2v-a14b", include_str!("../../models/wan2.2-t2v-a14b.toml")),
    ("wan2.2-i2v-a14b", include_str!("../../models/wan2.2-i2v-a14b.toml")),
    ("ltx-2", include_str!("../../models/ltx-2.toml")),
    ("ltx-2-distilled", include_str!("../../models/ltx-2-distilled.toml")),
    ("ltx-2.3", include_str!("../../models/ltx-2.3.toml")),
    ("ltx-2.3-distilled", include_str!("../../models/ltx-2.3-distilled.toml")),
];

/// One released checkpoint.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What is typed after `-m`: lower case, without spaces.
    pub name: String,
    /// The family that runs it, e.g. `wan`.
    pub family: String,
    /// Its name in words.
    pub title: String,
    /// Where its files are.
    pub place: Place,
    /// What it makes a film from; at least one.
    pub tasks: Vec<Task>,
    /// The files needed, as [`crate::hub::Hub::fetch`] takes them: names, or patterns in which `*` is any run of characters.
    /// None of a model that is in the box: its folder is whole.
    #[serde(default)]
    pub files: Vec<String>,
    /// What a user should know before choosing it.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The class that diffusers runs it with.
    pub pipeline: String,
    /// How it was checked that talkie runs it rightly.
    pub checked: String,
    /// The licence of the weights.
    pub licence: Licence,
    /// How large each network is.
    pub parameters: Parameters,
    /// Sizes, lengths and rates that it was trained for.
    pub geometry: Geometry,
    /// How its authors sample from it.
    pub sampling: Sampling,
    /// Recipes of few steps by name, each for weights that were distilled from this model's.
    #[serde(default)]
    pub presets: BTreeMap<String, FewSteps>,
    /// What its `model_index.json` says besides the parts.
    #[serde(default)]
    pub index: Map<String, Value>,
    /// Its parts, as its folder describes them: enough to plan a film before anything is fetched.
    #[serde(default)]
    pub components: BTreeMap<String, Described>,
}

/// Where the files of a model are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Place {
    /// A repository of the hub.
    Hub {
        /// `org/name`.
        repo: String,
        /// The commit, tag or branch.
        revision: String,
    },
    /// In the box: a folder that comes with talkie.
    Box {
        /// Its name; in the source it is under `models/`.
        folder: String,
    },
}

impl Entry {
    /// The hub repository, `org/name`, of a model that is not in the box.
    pub fn repo(&self) -> Option<&str> {
        match &self.place {
            Place::Hub { repo, .. } => Some(repo),
            Place::Box { .. } => None,
        }
    }

    /// Whether the model comes with talkie.
    pub fn is_boxed(&self) -> bool {
        matches!(self.place, Place::Box { .. })
    }

    /// Every way of sampling from it by name: its own, which has none, and then the recipes of few steps.
    pub fn presets(&self) -> Vec<(String, Sampling)> {
        let own = (String::new(), self.sampling.clone());
        let few = self.presets.iter().map(|(name, recipe)| (name.clone(), recipe.over(&self.sampling)));
        std::iter::once(own).chain(few).collect()
    }
}

/// One part of a model.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Described {
    /// Its class in diffusers or transformers.
    pub class: String,
    /// The hub repository that has it, where it is not the model's. The model can do without such a part.
    pub repo: Option<String>,
    /// Its configuration, as far as it is not that of the class.
    #[serde(default)]
    pub config: Map<String, Value>,
}

/// What a film is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A prompt.
    T2v,
    /// A prompt and the first frame.
    I2v,
}

impl Task {
    /// The task in a word: what a film is made from.
    pub fn label(self) -> &'static str {
        match self {
            Self::T2v => "text",
            Self::I2v => "image",
        }
    }
}

/// The licence of the weights.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// Its SPDX identifier.
    pub name: String,
    /// Where its text is.
    pub url: String,
    /// What it asks of a user, in a sentence, where that is more than to name the authors.
    pub terms: Option<String>,
}

/// Numbers of parameters, computed from the configuration of each network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The transformer, or the expert for high noise.
    pub transformer: u64,
    /// The expert for low noise.
    pub transformer_2: Option<u64>,
    /// The text encoder as its files hold it: without a decoder, but with eyes where it has them.
    pub text_encoder: u64,
    /// What is between the text encoder and the transformer.
    pub connectors: Option<u64>,
    /// The video autoencoder, both halves.
    pub vae: u64,
    /// The audio autoencoder, both halves.
    pub audio_vae: Option<u64>,
    /// The vocoder, which makes sound of spectra.
    pub vocoder: Option<u64>,
    /// What enlarges latents between two stages.
    pub latent_upsampler: Option<u64>,
}

impl Parameters {
    /// The number of a part's parameters, by its name in the folder; 0 where it has none.
    pub fn of(&self, part: &str) -> u64 {
        let optional = match part {
            "transformer" => Some(self.transformer),
            "transformer_2" => self.transformer_2,
            "text_encoder" => Some(self.text_encoder),
            "connectors" => self.connectors,
            "vae" => Some(self.vae),
            "audio_vae" => self.audio_vae,
            "vocoder" => self.vocoder,
            "latent_upsampler" => self.latent_upsampler,
            _ => None,
        };
        optional.unwrap_or(0)
    }
}

/// Sizes, lengths and rates that a model was trained for.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Geometry {
    /// Widths and heights in pixels; the first is the default.
    pub sizes: Vec<(u32, u32)>,
    /// Frames of a film.
    pub frames: u32,
    /// Frames a second.
    pub fps: f64,
}

/// The sampling defaults of a model's own authors.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Steps of the sampler.
    pub steps: u32,
    /// Classifier-free guidance; with two experts, that of the one for high noise.
    pub guidance: f64,
    /// Guidance of the expert for low noise.
    pub guidance_2: Option<f64>,
    /// The shift `s` of the sigmas, `s·σ / (1 + (s − 1)·σ)`.
    pub flow_shift: f64,
    /// The shift for small pictures, where it differs.
    pub small_flow_shift: Option<SmallShift>,
    /// The share of the 1000 timesteps from which on the expert for high noise works.
    pub boundary_ratio: Option<f64>,
    /// The negative prompt for a request that has none.
    pub negative_prompt: String,
    /// The sigmas, where they are not those of a number of steps.
    #[serde(default)]
    pub sigmas: Vec<f64>,
    /// The sigmas of a second stage, on a film of twice the sides; empty where there is one stage.
    #[serde(default)]
    pub refine_sigmas: Vec<f64>,
    /// How a model that makes sound is guided.
    pub av: Option<AvSampling>,
    /// The recipe of few steps, of weights that know no other. It decides the sampler and the sigmas.
    pub few_steps: Option<FewSteps>,
}

/// A recipe of few steps. The weights that were distilled for it predict the guided film at once, at these sigmas.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FewSteps {
    /// The weights that it is for, and where they are, in words.
    pub weights: String,
    /// The sampler.
    pub sampler: Sampler,
    /// The shift that the sigmas were made with; 1 for none.
    pub flow_shift: f64,
    /// The sigmas, falling from at most 1, without the last 0.
    pub sigmas: Vec<f64>,
    /// The timesteps that the transformer is told, one for each sigma, where they are not 1000 times these.
    #[serde(default)]
    pub timesteps: Vec<f64>,
    /// Whether fewer steps are known too: the first ones of these.
    #[serde(default)]
    pub fewer: bool,
}

impl FewSteps {
    /// How to sample by this recipe: without guidance, and what it says nothing of as from the model itself.
    pub fn over(&self, own: &Sampling) -> Sampling {
        Sampling {
            steps: self.sigmas.len() as u32,
            guidance: 1.0,
            guidance_2: own.guidance_2.map(|_| 1.0),
            flow_shift: self.flow_shift,
            small_flow_shift: None,
            few_steps: Some(self.clone()),
            ..own.clone()
        }
    }
}

/// The guidance of a model that makes pictures and sound at once.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AvSampling {
    /// Classifier-free guidance of the sound.
    pub audio_guidance: f64,
    /// Spatio-temporal guidance of pictures and of sound; 0 means none.
    pub stg_scale: f64,
    /// That of the sound.
    pub audio_stg_scale: f64,
    /// Blocks of the transformer that spatio-temporal guidance perturbs.
    pub stg_blocks: Vec<usize>,
    /// Guidance away from pictures and sound that do not see each other; 1 means none.
    pub modality_scale: f64,
    /// That of the sound.
    pub audio_modality_scale: f64,
    /// Rescaling of the guided prediction, 0 to 1.
    pub rescale: f64,
    /// That of the sound.
    pub audio_rescale: f64,
    /// Whether pictures and sound are told each other's timestep where they see each other.
    pub cross_timestep: bool,
    /// How much a first picture is compressed before it is encoded, as a CRF of H.264.
    pub image_crf: u8,
}

/// A flow shift for pictures of at most so many pixels.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SmallShift {
    /// Width times height up to which it holds, inclusive.
    pub pixels: u64,
    /// The shift.
    pub value: f64,
}

impl Sampling {
    /// The flow shift for pictures of `width` by `height` pixels.
    pub fn flow_shift_at(&self, width: u32, height: u32) -> f64 {
        let pixels = u64::from(width) * u64::from(height);
        self.small_flow_shift.filter(|small| pixels <= small.pixels).map_or(self.flow_shift, |small| small.value)
    }
}

/// Every entry, in the order in which they are shown.
///
/// # Errors
/// A file of `models/` that does not parse, which no released talkie holds.
pub fn entries() -> Result<Vec<Entry>> {
    FILES
        .iter()
        .map(|(name, text)| toml::from_str(text).context(|| format!("models/{name}.toml does not parse")))
        .collect()
}

/// The entry of that name, or of that hub repository; the case of letters does not matter.
///
/// # Errors
/// No such entry: the hint gives the names that look like it.
pub fn find(name: &str) -> Result<Entry> {
    let entries = entries()?;
    let same = |entry: &&Entry| {
        entry.name.eq_ignore_ascii_case(name) || entry.repo().is_some_and(|repo| repo.eq_ignore_ascii_case(name))
    };
    if let Some(entry) = entries.iter().find(same) {
        return Ok(entry.clone());
    }
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let near = nearest(&name.to_lowercase(), &names);
    let hint = match near.as_slice() {
        [] => "`talkie models` lists the names; a folder or a hub repository `org/name` will do as well".to_string(),
        near => format!("did you mean {}? `talkie models` lists all the names", near.join(" or ")),
    };
    Err(Error::usage(format!("there is no model named {name}")).hint(hint))
}
