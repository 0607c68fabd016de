//! What a family says of a model before any weight is read.

use serde::{Deserialize, Serialize};

use super::{Shape, Tiling, Vocabulary, few_steps};
use crate::error::{Error, Result};
use crate::fps::Fps;
use crate::media::Filter;
use crate::model::catalogue;
use crate::request::Request;
use crate::sampling::schedule::SchedulerConfig;

/// The soundtrack as latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sound {
    /// The latents, as tokens: (1, T, C).
    pub latents: [usize; 3],
    /// Channels of the audio autoencoder; each has C / `channels` bins of frequency.
    pub channels: usize,
    /// What is heard; nothing where the model lacks the parts for it.
    pub heard: Option<Heard>,
}

/// The sound that a vocoder makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Samples per second.
    pub rate: u32,
    /// 1 or 2.
    pub channels: usize,
}

/// The facts of a model that are known before any weight is read: plain data, from its configurations and the catalogue.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about a model")]
pub struct Facts {
    /// The model in a few words.
    pub title: String,
    /// Pixels of a latent's side.
    pub spatial: usize,
    /// Frames of a latent frame; the first latent frame is one frame alone.
    pub temporal: usize,
    /// Latent frames, rows and columns of a token.
    pub patch: [usize; 3],
    /// The longest side in tokens, the number of frames included, that the transformer has positions for.
    pub longest: usize,
    /// The fewest rows, or columns, of latents that become pictures.
    pub least: usize,
    /// Channels of the latents.
    pub channels: usize,
    /// Tokens that a prompt may have.
    pub text_length: usize,
    /// Whether a film can, or must, begin with an image.
    pub image: ImageUse,
    /// What a first image becomes, in words for the plan.
    pub image_becomes: &'static str,
    /// The resampling of a first image of another size, as in the model's reference.
    pub filter: Filter,
    /// The share of the noise above which the first of two transformers works.
    pub boundary: Option<f64>,
    /// The folder's scheduler.
    pub scheduler: SchedulerConfig,
    /// What the text encoder reads of a request: its prompt, with what is said and heard in the family's own words.
    pub render: fn(&Request) -> String,
    /// The words that the model was trained with, where they are so few that a prompt may have others.
    pub vocabulary: Option<Vocabulary>,
    /// The soundtrack that comes with the film.
    pub sound: Option<SoundFacts>,
    /// Why there will be no sound all the same, as a note.
    pub silent: Option<String>,
    /// Whether the transformer knows perturbed attention. Without it, spatio-temporal guidance changes nothing.
    pub perturbs: bool,
    /// Whether a film of twice the sides can be made from latents, in a second stage.
    pub upsamples: bool,
    /// Whether Euler's sigmas are evenly spaced before they are shifted, as far as the number of tokens says (LTX).
    pub even_sigmas: bool,
    /// The tiles that the autoencoder works in where whole frames do not fit into memory.
    pub tiling: Tiling,
    /// Sizes, frames and rate where the user says nothing.
    pub film: catalogue::Geometry,
    /// How to sample where the user says nothing: by name, the default first.
    pub presets: Vec<(String, catalogue::Sampling)>,
    /// Whether the shift of the schedule is the one in `presets` rather than the folder's: the folders of some released
    /// models carry a shift that their authors do not use.
    pub own_shift: bool,
}

/// The soundtrack of a model.
#[derive(Debug, Clone, Copy)]
pub struct SoundFacts {
    /// Latents a second.
    pub rate: f64,
    /// Channels of the audio autoencoder.
    pub channels: usize,
    /// Channels times bins of frequency: the width of a token.
    pub width: usize,
    /// What becomes of the latents.
    pub heard: Option<Heard>,
}

impl SoundFacts {
    /// The latents of a soundtrack as long as a film.
    pub(super) fn settle(&self, shape: &Shape, fps: Fps) -> Sound {
        let length = (fps.seconds(shape.frames) * self.rate).round_ties_even().max(1.0);
        Sound { latents: [1, length as usize, self.width], channels: self.channels, heard: self.heard }
    }
}

impl Facts {
    /// How to sample: as the preset of the request says, or as the model's own. With its name, where it has one.
    ///
    /// # Errors
    /// A preset that the model does not have, and what a recipe of few steps does not know.
    pub(super) fn sampling(&self, request: &Request) -> Result<(Option<String>, catalogue::Sampling)> {
        let name = request.preset.as_deref();
        let found = self.presets.iter().find(|(preset, _)| name.is_none_or(|name| name == preset));
        if let Some((preset, sampling)) = found {
            sampling.few_steps.as_ref().map_or(Ok(()), |recipe| few_steps::check(request, preset, recipe))?;
            return Ok((Some(preset.clone()).filter(|preset| !preset.is_empty()), sampling.clone()));
        }
        let names: Vec<&str> =
            self.presets.iter().map(|(name, _)| name.as_str()).filter(|name| !name.is_empty()).collect();
        let hint = if names.is_empty() { "leave it out".into() } else { format!("it has {}", names.join(" and ")) };
        Err(Error::usage(format!("{} has no preset `{}`", self.title, name.unwrap_or_default())).hint(hint))
    }
}

/// Whether a film can begin with a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageUse {
    /// The model reads no picture.
    None,
    /// It may have one.
    Optional,
    /// It cannot do without.
    Required,
}
