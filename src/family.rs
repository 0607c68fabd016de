//! What a family of models implements: two traits. `wan/`, later `ltx/`, are such families.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::media::Rgb;
use crate::plan::{Geometry, Plan, Shape, StageMemory};
use crate::progress::Progress;
use crate::vae::Tiling;

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

    /// The memory of each stage for a film of a shape.
    fn memory(&self, shape: &Shape, tiling: Option<Tiling>) -> Vec<StageMemory>;

    /// The embeddings of prompts, one tensor (1, length, width) each. Says aloud which prompt was cut.
    ///
    /// # Errors
    /// Weights that do not load, a prompt that cannot be read.
    fn encode_text(
        &self,
        prompts: &[&str],
        plan: &Plan,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Tensor>>;

    /// A first picture, of exactly the film's size, as what [`Denoiser::velocity`] takes for it.
    ///
    /// # Errors
    /// Weights that do not load.
    fn encode_image(&self, image: &Rgb, plan: &Plan, compute: &Compute, progress: &mut Progress<'_>) -> Result<Tensor>;

    /// Loads one of the transformers.
    ///
    /// # Errors
    /// Weights that do not load.
    fn denoiser(&self, expert: usize, compute: &Compute) -> Result<Box<dyn Denoiser>>;

    /// What the final latents become before they are decoded: where a picture was given, its frame is put in its place.
    ///
    /// # Errors
    /// Those of candle.
    fn finish(&self, latents: &Tensor, image: Option<&Tensor>) -> Result<Tensor>;

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
}

/// Where decoded frames go.
pub type FrameSink<'a> = &'a mut dyn FnMut(Made) -> Result<()>;

/// What a decoder has made.
#[derive(Debug)]
pub enum Made {
    /// The next frames: (1, 3, n, height, width) in [-1, 1].
    Frames(Tensor),
    /// No frame yet, but this share of the work of the whole film, from 0 to 1.
    Share(f64),
}

/// A loaded transformer.
pub trait Denoiser {
    /// The velocity that it predicts, (1, C, T, H, W), in f32.
    ///
    /// `latents` is (1, C, T, H, W) in f32, `timestep` in [0, 1000], `text` an embedding of [`Family::encode_text`], `image`
    /// the tensor of [`Family::encode_image`].
    ///
    /// # Errors
    /// Shapes that do not fit, and those of candle.
    fn velocity(&self, latents: &Tensor, timestep: f64, text: &Tensor, image: Option<&Tensor>) -> Result<Tensor>;
}
