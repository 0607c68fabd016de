//! Catalogue of the models that can be run by name: the files of `models/`, embedded and parsed.
//! `models/README.md` describes their fields.

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
    /// The argument of `-m`: lower case, without spaces.
    pub name: String,
    /// Its family, such as `wan`.
    pub family: String,
    /// Its display name.
    pub title: String,
    /// Location of its files.
    pub place: Place,
    /// Its tasks; at least one.
    pub tasks: Vec<Task>,
    /// The files to fetch, for [`crate::hub::Hub::fetch`]: names, or patterns in which `*` is any run of
    /// characters. Empty for a bundled model.
    #[serde(default)]
    pub files: Vec<String>,
    /// Notes for users who choose it.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Its pipeline class in diffusers.
    pub pipeline: String,
    /// How its output was verified.
    pub checked: String,
    /// The licence of the weights.
    pub licence: Licence,
    /// Number of parameters of each network.
    pub parameters: Parameters,
    /// Sizes, lengths and frame rates of its training.
    pub geometry: Geometry,
    /// Its authors' sampling defaults.
    pub sampling: Sampling,
    /// Few-step recipes by name, each for weights distilled from this model's.
    #[serde(default)]
    pub presets: BTreeMap<String, FewSteps>,
    /// Its `model_index.json` without the components.
    #[serde(default)]
    pub index: Map<String, Value>,
    /// Its components, as its folder describes them: enough to plan a film before anything is fetched.
    #[serde(default)]
    pub components: BTreeMap<String, Described>,
}

/// Location of the files of a model.
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
    /// Bundled: a folder that comes with talkie.
    Box {
        /// Its name; in the source it is under `models/`.
        folder: String,
    },
}

impl Entry {
    /// The hub repository, `org/name`, of a model that is not bundled.
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

    /// All sampling settings by name: first its defaults, with an empty name, then the few-step recipes.
    pub fn presets(&self) -> Vec<(String, Sampling)> {
        let own = (String::new(), self.sampling.clone());
        let few = self.presets.iter().map(|(name, recipe)| (name.clone(), recipe.over(&self.sampling)));
        std::iter::once(own).chain(few).collect()
    }
}

/// One component of a model.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Described {
    /// Its class in diffusers or transformers.
    pub class: String,
    /// Its hub repository, if it is not the model's. Such a component is optional.
    pub repo: Option<String>,
    /// Its configuration, as far as it differs from the class's defaults.
    #[serde(default)]
    pub config: Map<String, Value>,
}

/// Inputs that a video is generated from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Text to video.
    T2v,
    /// Image to video: a prompt and the first frame.
    I2v,
}

impl Task {
    /// The task in a word: `text` or `image`.
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
    /// SPDX identifier.
    pub name: String,
    /// URL of its text.
    pub url: String,
    /// Its terms beyond attribution, in a sentence.
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
    /// The text encoder as stored: without a decoder, but with a vision tower if it has one.
    pub text_encoder: u64,
    /// The connectors between the text encoder and the transformer.
    pub connectors: Option<u64>,
    /// The video autoencoder, both halves.
    pub vae: u64,
    /// The audio autoencoder, both halves.
    pub audio_vae: Option<u64>,
    /// The vocoder.
    pub vocoder: Option<u64>,
    /// The latent upsampler between two phases.
    pub latent_upsampler: Option<u64>,
}

impl Parameters {
    /// Number of parameters of a component, by its name in the folder; 0 without parameters.
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

/// Sizes, lengths and frame rates of a model's training.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Geometry {
    /// (width, height) in pixels; the first is the default.
    pub sizes: Vec<(u32, u32)>,
    /// Number of frames.
    pub frames: u32,
    /// Frames per second.
    pub fps: f64,
}

/// The sampling defaults of a model's authors.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Sampling steps.
    pub steps: u32,
    /// Scale of classifier-free guidance; with two experts, that of the high-noise one.
    pub guidance: f64,
    /// Guidance scale of the low-noise expert.
    pub guidance_2: Option<f64>,
    /// Flow shift `s` of the sigmas: `s·σ / (1 + (s − 1)·σ)`.
    pub flow_shift: f64,
    /// Flow shift for small frames, if different.
    pub small_flow_shift: Option<SmallShift>,
    /// The fraction of the 1000 timesteps from which on the high-noise expert runs.
    pub boundary_ratio: Option<f64>,
    /// Default negative prompt.
    pub negative_prompt: String,
    /// The sigmas, if fixed.
    #[serde(default)]
    pub sigmas: Vec<f64>,
    /// The sigmas of a second phase, at twice the width and height; empty for one phase.
    #[serde(default)]
    pub refine_sigmas: Vec<f64>,
    /// Guidance of a model with audio.
    pub av: Option<AvSampling>,
    /// The few-step recipe of distilled weights. It decides the sampler and the sigmas.
    pub few_steps: Option<FewSteps>,
}

/// A few-step recipe. The weights distilled for it predict the guided result in one pass, at these sigmas.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FewSteps {
    /// Its weights and where to find them, in words.
    pub weights: String,
    /// The sampler.
    pub sampler: Sampler,
    /// Flow shift that the sigmas include; 1 for none.
    pub flow_shift: f64,
    /// The sigmas, decreasing from at most 1, without the final 0.
    pub sigmas: Vec<f64>,
    /// The timesteps for the transformer, one per sigma, if they are not 1000 times the sigmas.
    #[serde(default)]
    pub timesteps: Vec<f64>,
    /// Whether fewer steps work too: the first of these sigmas.
    #[serde(default)]
    pub fewer: bool,
}

impl FewSteps {
    /// The sampling settings of this recipe: without guidance, and otherwise those of the model.
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

/// The guidance of a model that generates video and audio together.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AvSampling {
    /// Scale of classifier-free guidance of the audio.
    pub audio_guidance: f64,
    /// Scale of spatio-temporal guidance of the video; 0 for none.
    pub stg_scale: f64,
    /// The same for the audio.
    pub audio_stg_scale: f64,
    /// Transformer blocks that spatio-temporal guidance perturbs.
    pub stg_blocks: Vec<usize>,
    /// Scale of modality guidance of the video, away from streams without cross-attention; 1 for none.
    pub modality_scale: f64,
    /// The same for the audio.
    pub audio_modality_scale: f64,
    /// Rescaling of the guided video prediction, 0 to 1.
    pub rescale: f64,
    /// The same for the audio.
    pub audio_rescale: f64,
    /// Whether the cross-attention between video and audio is modulated by the other stream's timestep.
    pub cross_timestep: bool,
    /// CRF of the H.264 compression of a first image before it is encoded.
    pub image_crf: u8,
}

/// A flow shift for frames up to a number of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SmallShift {
    /// The most pixels, width times height.
    pub pixels: u64,
    /// Flow shift.
    pub value: f64,
}

impl Sampling {
    /// The flow shift for frames of `width` by `height` pixels.
    pub fn flow_shift_at(&self, width: u32, height: u32) -> f64 {
        let pixels = u64::from(width) * u64::from(height);
        self.small_flow_shift.filter(|small| pixels <= small.pixels).map_or(self.flow_shift, |small| small.value)
    }
}

/// All entries, in display order.
///
/// # Errors
/// A file of `models/` that does not parse; not in a released talkie.
pub fn entries() -> Result<Vec<Entry>> {
    FILES
        .iter()
        .map(|(name, text)| toml::from_str(text).context(|| format!("models/{name}.toml does not parse")))
        .collect()
}

/// The entry with a name or a hub repository, ignoring case.
///
/// # Errors
/// No such entry; the hint has similar names.
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
