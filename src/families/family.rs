//! The seam between the pipeline and the families of models: what a family implements. `wan/` and `ltx/` are such families.
//!
//! A family holds one model: its configurations and the paths of its weights, but no weight. Its [`Facts`] are data, its
//! [`Costs`] arithmetic on shapes, its [`Stages`] the work. Each stage asks the session's [shelf](super::shelf::Shelf) for its networks: they are
//! dropped after their use, or stay loaded for the next film.

use candle_core::{Device, Tensor};

use super::conditioning::{Conditioned, Conditioning, Embedding, Mask};
use super::latents::Latents;
pub use super::shelf::Compute;
use crate::audio::Waveform;
use crate::error::{Error, Result};
use crate::media::Rgb;
use crate::plan::{Costs, Facts, Pass, Settings, Shape};
use crate::progress::Progress;

/// A family that runs one model.
pub trait Family: Costs + Stages {
    /// The facts of the model.
    ///
    /// # Errors
    /// A configuration that does not fit the family.
    fn facts(&self) -> Result<Facts>;
}

/// The work of a model, stage by stage. Every method that loads weights says so in events.
pub trait Stages: Send + Sync {
    /// The tokens of each prompt, as the text encoder reads them. A note says which prompt was cut.
    ///
    /// # Errors
    /// A tokenizer that cannot be read.
    fn tokens(
        &self,
        prompts: &[&str],
        settings: &Settings,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Vec<u32>>>;

    /// The embeddings of prompts. A note says which prompt was cut.
    ///
    /// # Errors
    /// Weights that do not load, a prompt that cannot be read.
    fn text(
        &self,
        prompts: &[&str],
        settings: &Settings,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Embedding>>;

    /// What the conditions of a film become, for latents of the shape that its denoising begins with.
    ///
    /// # Errors
    /// Weights that do not load, a kind that the model does not take.
    fn condition(
        &self,
        given: &[Given],
        film: (&Settings, &Shape),
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Conditioned>;

    /// One of the transformers, ready to predict velocities of latents of `shape` on `conditioning`.
    ///
    /// # Errors
    /// Weights that do not load.
    fn denoiser(
        &self,
        expert: usize,
        film: Film<'_>,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Box<dyn Denoiser>>;

    /// The latents (1, C, T, H, W) of a film of twice the sides, for the next phase of a model that works in two.
    ///
    /// # Errors
    /// A model that has one phase, weights that do not load.
    fn upsample(&self, video: &Tensor, compute: &Compute, progress: &mut Progress<'_>) -> Result<Tensor> {
        let _ = (video, compute, progress);
        Err(Error::failed("this model works in one phase"))
    }

    /// The decoder of the video's latents.
    ///
    /// # Errors
    /// Weights that do not load.
    fn decoder(
        &self,
        settings: &Settings,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Box<dyn VideoDecoder>>;

    /// The soundtrack of latents (1, T, C). None where the model makes films without sound.
    ///
    /// # Errors
    /// Weights that do not load.
    fn sound(&self, audio: &Tensor, compute: &Compute, progress: &mut Progress<'_>) -> Result<Option<Waveform>> {
        let _ = (audio, compute, progress);
        Ok(None)
    }
}

/// A condition of a request, read and fitted to the film: what [`Stages::condition`] encodes.
#[derive(Debug, Clone)]
pub enum Given {
    /// The first image, of exactly the size that the denoising begins with.
    Image(Rgb),
}

/// What a denoiser predicts velocities for.
#[derive(Clone, Copy)]
pub struct Film<'a> {
    /// The settings of the plan.
    pub settings: &'a Settings,
    /// The shape of the phase.
    pub shape: &'a Shape,
    /// What predictions are conditioned on.
    pub conditioning: &'a Conditioning,
}

/// The prompt that a prediction is conditioned on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    /// What should be seen.
    Positive,
    /// What should not be seen.
    Negative,
}

/// The inputs of one denoiser call.
#[derive(Debug, Clone, Copy)]
pub struct DenoiserInput<'a> {
    /// The latents, in f32.
    pub latents: &'a Latents,
    /// The timestep, in [0, 1000].
    pub timestep: f64,
    /// Which cells of the video are given: their tokens are at timestep 0.
    pub pin: Option<&'a Mask>,
}

/// A loaded transformer with what it predicts on.
pub trait Denoiser: Send + Sync {
    /// The predicted velocity, of the shape of the latents, in f32.
    ///
    /// # Errors
    /// Shapes that do not fit, and those of candle.
    fn velocity(&self, input: DenoiserInput<'_>, prompt: Prompt, pass: Pass) -> Result<Latents>;

    /// The velocities of several passes, in their order: one after another, unless a denoiser can do better.
    ///
    /// # Errors
    /// As [`Denoiser::velocity`].
    fn velocities(&self, input: DenoiserInput<'_>, passes: &[(Pass, Prompt)]) -> Result<Vec<Latents>> {
        passes.iter().map(|&(pass, prompt)| self.velocity(input, prompt, pass)).collect()
    }
}

/// A loaded decoder of video latents.
pub trait VideoDecoder: Send + Sync {
    /// Decodes latents (1, C, T, H, W), several films in turn where there are several, and hands frames on as soon as they are
    /// made.
    ///
    /// # Errors
    /// Latents of another model, and what `frames` answers.
    fn decode(&self, latents: &[Tensor], frames: FrameSink<'_>) -> Result<()>;
}

/// Where decoded frames go.
pub type FrameSink<'a> = &'a mut dyn FnMut(Decoded) -> Result<()>;

/// What a decoder has made.
#[derive(Debug)]
pub enum Decoded {
    /// The next frames: (1, 3, n, height, width) in [-1, 1].
    Frames(Tensor),
    /// No frame yet, but this share of the work of the whole film, from 0 to 1.
    Share(f64),
}

/// An image as one frame, (1, 3, 1, height, width) in [-1, 1]: what the encoders of all families take.
///
/// # Errors
/// Those of candle.
pub fn frame(image: &Rgb, device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = image.data.iter().map(|&byte| 2.0 * (f32::from(byte) / 255.0) - 1.0).collect();
    let frame = Tensor::from_vec(values, (1, 1, image.height as usize, image.width as usize, 3), device)?;
    Ok(frame.permute((0, 4, 1, 2, 3))?.contiguous()?)
}
