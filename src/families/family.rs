//! What a family of models implements: two traits. `wan/` and `ltx/` are such families.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use crate::audio::Waveform;
use crate::error::{Error, Result};
use crate::families::latents::Latents;
use crate::media::{Filter, Rgb};
use crate::plan::Tiling;
use crate::plan::{Geometry, Plan, Shape, StageMemory};
use crate::progress::{Chore, Progress};
use crate::weights::Weights;

/// Where a stage computes, and in which type.
#[derive(Debug, Clone)]
pub struct Compute {
    /// The device.
    pub device: Device,
    /// The type of activations.
    pub dtype: DType,
}

/// A family, holding one model: its configurations and the paths of its weights, but no weight.
///
/// Each stage loads what it needs, uses it and drops it: no two networks are in memory together.
pub trait Family {
    /// What the plan needs to know.
    ///
    /// # Errors
    /// A configuration that does not fit the family.
    fn geometry(&self) -> Result<Geometry>;

    /// The memory of each stage of a plan, for a film of a shape.
    fn memory(&self, plan: &Plan, shape: &Shape) -> Vec<StageMemory>;

    /// The tokens of each prompt of a plan, as the text encoder reads them. Says aloud which prompt was cut.
    ///
    /// # Errors
    /// A tokenizer that cannot be read.
    fn tokens(&self, prompts: &[&str], plan: &Plan, progress: &mut Progress<'_>) -> Result<Vec<Vec<u32>>>;

    /// The floating-point operations of a part of a plan: see [`crate::compute::flops`] for what counts.
    fn flops(&self, plan: &Plan, job: Workload<'_>) -> f64;

    /// The embeddings of prompts. Says aloud which prompt was cut.
    ///
    /// # Errors
    /// Weights that do not load, a prompt that cannot be read.
    fn encode_text(
        &self,
        prompts: &[&str],
        plan: &Plan,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Embedding>>;

    /// A first picture, of exactly the size that the denoising begins with, as what [`Denoiser::velocity`] takes for it.
    ///
    /// # Errors
    /// Weights that do not load.
    fn encode_image(&self, image: &Rgb, plan: &Plan, compute: &Compute, progress: &mut Progress<'_>) -> Result<Tensor>;

    /// What a first picture of another size is resampled with: what the model's reference takes.
    fn filter(&self) -> Filter {
        Filter::Lanczos
    }

    /// Whether a first picture's latents are the first latent frame of the film, from the noise to the end. Otherwise the
    /// transformer reads them beside the film.
    fn begins_with_image(&self) -> bool;

    /// Loads one of the transformers.
    ///
    /// # Errors
    /// Weights that do not load.
    fn denoiser(
        &self,
        expert: usize,
        plan: &Plan,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Box<dyn Denoiser>>;

    /// The latents (1, C, T, H, W) of a film of twice the sides, for the second stage of a model that works in two.
    ///
    /// # Errors
    /// A model that has no second stage, weights that do not load.
    fn upsample(&self, video: &Tensor, compute: &Compute) -> Result<Tensor> {
        let _ = (video, compute);
        Err(Error::failed("this model works in one stage"))
    }

    /// Decodes latents (1, C, T, H, W), several films in turn where there are several, and hands frames on as soon as they
    /// are made.
    ///
    /// # Errors
    /// Weights that do not load, and what `frames` answers.
    fn decode(
        &self,
        latents: &[Tensor],
        tiling: Option<Tiling>,
        compute: &Compute,
        frames: FrameSink<'_>,
    ) -> Result<()>;

    /// The soundtrack of latents (1, T, C). None where the model makes films without sound.
    ///
    /// # Errors
    /// Weights that do not load.
    fn decode_sound(&self, audio: &Tensor, compute: &Compute) -> Result<Option<Waveform>> {
        let _ = (audio, compute);
        Ok(None)
    }
}

/// A part of a run, as its arithmetic is counted.
#[derive(Debug, Clone, Copy)]
pub enum Workload<'a> {
    /// Reading prompts of so many tokens.
    Text(&'a [usize]),
    /// A forward of the transformer.
    Forward {
        /// What it works on.
        shape: &'a Shape,
        /// What of it works.
        pass: Pass,
        /// Tokens of the prompt that it is told.
        text_tokens: usize,
    },
    /// Making the frames of latents.
    Decode(&'a Shape),
}

/// Where decoded frames go.
pub type FrameSink<'a> = &'a mut dyn FnMut(Decoded) -> Result<()>;

/// What a decoder has made.
#[derive(Debug)]
pub enum Decoded {
    /// Nothing yet: the weights have been loaded, and the work begins.
    Loaded,
    /// The next frames: (1, 3, n, height, width) in [-1, 1].
    Frames(Tensor),
    /// No frame yet, but this share of the work of the whole film, from 0 to 1.
    Share(f64),
}

/// What a text encoder made of a prompt: tensors (1, length, width).
#[derive(Debug, Clone)]
pub struct Embedding {
    /// What the pictures are told.
    pub video: Tensor,
    /// What the sound is told, where the model makes sound.
    pub audio: Option<Tensor>,
}

/// What the predictions are conditioned on.
pub struct Conditioning {
    /// The embedding of the prompt.
    pub text: Embedding,
    /// The embedding of the negative prompt, where there is guidance.
    pub negative: Option<Embedding>,
    /// The first picture.
    pub image: Option<Tensor>,
}

impl Conditioning {
    /// By name, as a run's folder keeps it.
    pub fn pack(&self) -> Vec<(String, Tensor)> {
        let negative = self.negative.as_ref();
        let named = [
            ("text", Some(&self.text.video)),
            ("text_audio", self.text.audio.as_ref()),
            ("negative", negative.map(|negative| &negative.video)),
            ("negative_audio", negative.and_then(|negative| negative.audio.as_ref())),
            ("image", self.image.as_ref()),
        ];
        named.into_iter().filter_map(|(name, tensor)| Some((name.to_owned(), tensor?.clone()))).collect()
    }

    /// The way back from [`Conditioning::pack`].
    ///
    /// # Errors
    /// No embedding of the prompt.
    pub fn unpack(mut tensors: HashMap<String, Tensor>) -> Result<Self> {
        let mut embedding = |video: &str, audio: &str| {
            let audio = tensors.remove(audio);
            tensors.remove(video).map(|video| Embedding { video, audio })
        };
        let text = embedding("text", "text_audio").ok_or_else(|| {
            Error::failed("the run's folder holds no embedding of the prompt")
                .hint("start the run again with `talkie generate`")
        })?;
        let negative = embedding("negative", "negative_audio");
        Ok(Self { text, negative, image: tensors.remove("image") })
    }
}

/// Where a transformer is asked for a velocity.
#[derive(Debug, Clone, Copy)]
pub struct DenoiserInput<'a> {
    /// The latents, in f32.
    pub latents: &'a Latents,
    /// The timestep, in [0, 1000].
    pub timestep: f64,
    /// The tensor of [`Family::encode_image`].
    pub image: Option<&'a Tensor>,
}

/// What of a transformer works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// All of it.
    Whole,
    /// Some blocks do not look around (spatio-temporal guidance, Hyung et al. 2024).
    Perturbed,
    /// Pictures and sound do not see each other.
    Isolated,
}

/// A loaded transformer.
pub trait Denoiser {
    /// The velocity that it predicts, of the shape of the latents, in f32.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn velocity(&self, at: DenoiserInput<'_>, text: &Embedding, pass: Pass) -> Result<Latents>;
}

/// Loads a network, and reports how much of its weights has been read.
///
/// # Errors
/// What `load` answers, or a stop.
pub fn load<T: Send>(
    name: &str,
    weights: &Weights,
    progress: &mut Progress<'_>,
    load: impl FnOnce(&Weights) -> Result<T> + Send,
) -> Result<T> {
    let start = std::time::Instant::now();
    let network = progress.reading(name, weights.bytes(), &weights.tally(), || load(weights))?;
    progress.spent(Chore::Load, start.elapsed())?;
    Ok(network)
}

/// A picture as one frame, (1, 3, 1, height, width) in [-1, 1]: what the encoders of all families take.
pub fn frame(image: &Rgb, device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = image.data.iter().map(|&byte| 2.0 * (f32::from(byte) / 255.0) - 1.0).collect();
    let frame = Tensor::from_vec(values, (1, 1, image.height as usize, image.width as usize, 3), device)?;
    Ok(frame.permute((0, 4, 1, 2, 3))?.contiguous()?)
}
