//! Latent upsampler: more rows and columns, or frames, between the two phases of a generation.
//!
//! It works on un-normalised latents, and on a whole video at once: its norms take statistics over all frames.
//! <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/pipelines/ltx2/latent_upsampler.py#L245-L285>

mod config;

use candle_core::{DType, Device, Result, Tensor};

use crate::error::Error;
use crate::families::ltx::vae::unfold;
use crate::nn::activation::silu;
use crate::nn::conv::{Conv2d, Conv3d};
use crate::nn::norm::GroupNorm;
use crate::weights::Weights;
pub use config::Config;
use config::{BLUR, GROUPS, Mode};

/// Epsilon of the group norms: torch's default.
const EPS: f64 = 1e-5;
const KERNEL: usize = 3;

/// The latent upsampler.
#[derive(Debug)]
pub struct Upsampler {
    config: Config,
    dtype: DType,
    device: Device,
    initial_conv: Conv,
    initial_norm: GroupNorm,
    before: Vec<Block>,
    step: Conv,
    /// Blur kernel of the rational resampler: (1, 1, [`BLUR`], [`BLUR`]).
    blur: Option<Tensor>,
    after: Vec<Block>,
    final_conv: Conv,
}

impl Upsampler {
    /// Loads the upsampler.
    ///
    /// # Errors
    /// A missing tensor, one of another shape, or one left over.
    pub fn load(config: &Config, weights: &Weights) -> crate::error::Result<Self> {
        config.check()?;
        let (dims, width) = (config.dims, config.mid_channels);
        let blocks = |name: &str| -> crate::error::Result<Vec<Block>> {
            let weights = weights.pp(name);
            (0..config.num_blocks_per_stage).map(|i| Block::load(&weights.pp(i), width, dims)).collect()
        };
        let (mode, upsampler) = (config.mode()?, weights.pp("upsampler"));
        let name = if matches!(mode, Mode::Rational { .. }) { "conv" } else { "0" };
        // The convolution spans frames only if frames are upsampled.
        let step_dims = if mode.time() == 2 { 3 } else { 2 };
        let network = Self {
            dtype: weights.dtype(),
            device: weights.device().clone(),
            initial_conv: Conv::load(&weights.pp("initial_conv"), config.in_channels, width, dims)?,
            initial_norm: GroupNorm::load(&weights.pp("initial_norm"), GROUPS, width, EPS)?,
            before: blocks("res_blocks")?,
            step: Conv::load(&upsampler.pp(name), width, width * mode.volume(), step_dims)?,
            blur: match mode {
                Mode::Rational { .. } => Some(upsampler.compute("blur_down.kernel", (1, 1, BLUR, BLUR))?),
                _ => None,
            },
            after: blocks("post_upsample_res_blocks")?,
            final_conv: Conv::load(&weights.pp("final_conv"), width, config.in_channels, dims)?,
            config: config.clone(),
        };
        weights.finish(&[])?;
        Ok(network)
    }

    /// The upsampler's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// # Shapes
    /// - `latents`: (1, z, t, h, w), un-normalised ([`crate::families::ltx::vae::Statistics::denormalise`])
    /// - output: (1, z, t', h', w'), un-normalised, with h' and w' from [`Config::side`], and t' = 2·t − 1 if
    ///   frames are upsampled
    ///
    /// # Errors
    /// Latents of another shape.
    pub fn forward(&self, latents: &Tensor) -> crate::error::Result<Tensor> {
        let z = self.config.in_channels;
        match latents.dims() {
            &[1, channels, t, h, w] if channels == z && t * h * w > 0 => {}
            given => {
                return Err(Error::failed(format!(
                    "the shape of latents must be (1, {z}, frames, rows, columns), not {given:?}"
                ))
                .hint("use the upsampler that belongs to the model that made the latents"));
            }
        }
        let xs = latents.to_device(&self.device)?.to_dtype(self.dtype)?;
        let frames = (0..xs.dim(2)?).map(|i| xs.narrow(2, i, 1)?.squeeze(2)?.force_contiguous());
        let frames = self.initial_conv.forward(&frames.collect::<Result<Vec<_>>>()?)?;
        let mut frames = self.normalised(&self.initial_norm, &frames)?.iter().map(silu).collect::<Result<Vec<_>>>()?;
        for block in &self.before {
            frames = self.block(block, &frames)?;
        }
        frames = self.upsample(frames)?;
        for block in &self.after {
            frames = self.block(block, &frames)?;
        }
        Ok(Tensor::stack(&self.final_conv.forward(&frames)?, 2)?)
    }

    /// Residual block: twice convolution and norm, with SiLU between, and after adding the input.
    fn block(&self, block: &Block, frames: &[Tensor]) -> Result<Vec<Tensor>> {
        let ys = self.normalised(&block.norm1, &block.conv1.forward(frames)?)?;
        let ys = block.conv2.forward(&ys.iter().map(silu).collect::<Result<Vec<_>>>()?)?;
        let ys = self.normalised(&block.norm2, &ys)?;
        ys.iter().zip(frames).map(|(ys, xs)| silu(&(ys + xs)?)).collect()
    }

    /// Group norm, with statistics over all frames (3 dimensions) or per frame (2 dimensions).
    fn normalised(&self, norm: &GroupNorm, frames: &[Tensor]) -> Result<Vec<Tensor>> {
        if self.config.dims == 2 {
            return frames.iter().map(|frame| norm.forward(frame)).collect();
        }
        let video = norm.forward(&Tensor::stack(frames, 2)?)?;
        (0..frames.len()).map(|i| video.narrow(2, i, 1)?.squeeze(2)?.contiguous()).collect()
    }

    /// The step up in rows and columns, frames, or both. The first frame stays one frame.
    fn upsample(&self, frames: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let mode = self.config.mode().map_err(candle_core::Error::wrap)?;
        let frames = self.step.forward(&frames)?;
        let frames = frames.iter().enumerate().map(|(index, frame)| {
            let skipped = if index == 0 { mode.time() - 1 } else { 0 };
            unfold(frame, mode.time(), mode.space(), skipped)
        });
        let frames = frames.collect::<Result<Vec<_>>>()?.concat();
        match (mode, &self.blur) {
            (Mode::Rational { down, .. }, Some(blur)) if down > 1 => {
                frames.iter().map(|frame| blurred(frame, blur, down)).collect()
            }
            _ => Ok(frames),
        }
    }
}

/// Every `stride`th row and column of a blurred frame. Channels are the batch of the convolution, so they do
/// not mix.
fn blurred(frame: &Tensor, blur: &Tensor, stride: usize) -> Result<Tensor> {
    let (_, channels, h, w) = frame.dims4()?;
    let ys = frame.reshape((channels, 1, h, w))?.conv2d(blur, BLUR / 2, stride, 1, 1)?;
    let (_, _, h, w) = ys.dims4()?;
    ys.reshape((1, channels, h, w))
}

/// A convolution over frames, rows and columns, or over each frame alone, with zero padding.
#[derive(Debug)]
enum Conv {
    Video(Conv3d),
    Frame(Conv2d),
}

impl Conv {
    fn load(weights: &Weights, inputs: usize, outputs: usize, dims: usize) -> crate::error::Result<Self> {
        match dims {
            2 => Ok(Self::Frame(Conv2d::load(weights, inputs, outputs, KERNEL)?.padding(KERNEL / 2))),
            _ => Ok(Self::Video(Conv3d::load(weights, inputs, outputs, [KERNEL; 3])?)),
        }
    }

    /// (1, inputs, h, w) to (1, outputs, h, w) for each frame.
    fn forward(&self, frames: &[Tensor]) -> Result<Vec<Tensor>> {
        let conv = match self {
            Self::Frame(conv) => return frames.iter().map(|frame| conv.forward(frame)).collect(),
            Self::Video(conv) => conv,
        };
        let Some(last) = frames.last() else { return Ok(Vec::new()) };
        let after = last.zeros_like()?;
        let around = |index: usize| {
            // Before the first frame, the convolution itself pads with zeros.
            let mut window = frames[index.saturating_sub(1)..=index].to_vec();
            window.push(frames.get(index + 1).unwrap_or(&after).clone());
            conv.forward(&window)
        };
        (0..frames.len()).map(around).collect()
    }
}

/// The layers of a residual block.
#[derive(Debug)]
struct Block {
    conv1: Conv,
    norm1: GroupNorm,
    conv2: Conv,
    norm2: GroupNorm,
}

impl Block {
    fn load(weights: &Weights, width: usize, dims: usize) -> crate::error::Result<Self> {
        let conv = |name: &str| Conv::load(&weights.pp(name), width, width, dims);
        let norm = |name: &str| GroupNorm::load(&weights.pp(name), GROUPS, width, EPS);
        Ok(Self { conv1: conv("conv1")?, norm1: norm("norm1")?, conv2: conv("conv2")?, norm2: norm("norm2")? })
    }
}
