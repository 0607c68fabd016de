//! Encoder: frames to latents.

use candle_core::{DType, Device, Tensor};

use super::blocks::{Head, MidBlock, ResidualBlock, pointwise};
use super::cache::StreamedConv;
use super::config::Config;
use super::resample::{AverageDown, Downsample};
use crate::error::{Error, Result};
use crate::families::vae::Grid;
use crate::families::vae::cache::{Cache, Slots};
use crate::families::vae::patch::patchify;
use crate::nn::conv::Conv2d;
use crate::plan::Tiling;
use crate::weights::Weights;

/// A video to encode, with random access to its frames.
pub struct Frames<'a> {
    /// Number of frames: at least one.
    pub count: usize,
    /// A frame by index: (1, 3, 1, H, W), in [−1, 1].
    pub frame: &'a dyn Fn(usize) -> Result<Tensor>,
}

/// The encoder of the autoencoder.
#[derive(Debug)]
pub struct Encoder {
    config: Config,
    dtype: DType,
    device: Device,
    conv_in: StreamedConv,
    blocks: Vec<DownBlock>,
    mid: MidBlock,
    head: Head,
    quant_conv: Conv2d,
    slots: Slots,
}

impl Encoder {
    /// Loads the encoder; the decoder's tensors stay in their file.
    ///
    /// # Errors
    /// A missing tensor, one of another shape, or one that belongs to neither half.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        config.check()?;
        let mut slots = Slots::default();
        let inner = weights.pp("encoder");
        let dims: Vec<usize> = config.dim_mult.iter().map(|mult| mult * config.base_dim).collect();
        let (last, moments) = (dims[dims.len() - 1], 2 * config.z_dim);
        let conv_in =
            StreamedConv::load(&inner.pp("conv_in"), config.in_channels, config.base_dim, [3; 3], &mut slots)?;
        let down_blocks = inner.pp("down_blocks");
        let mut blocks = Vec::with_capacity(dims.len());
        for level in 0..dims.len() {
            blocks.push(DownBlock::load(&down_blocks, config, level, &mut slots)?);
        }
        let encoder = Self {
            dtype: weights.dtype(),
            device: weights.device().clone(),
            conv_in,
            blocks,
            mid: MidBlock::load(&inner.pp("mid_block"), last, &mut slots)?,
            head: Head::load(&inner, last, moments, &mut slots)?,
            quant_conv: pointwise(&weights.pp("quant_conv"), moments, moments)?,
            config: config.clone(),
            slots,
        };
        weights.finish(&["decoder.", "post_quant_conv."])?;
        Ok(encoder)
    }

    /// The encoder's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The latents of a whole video. Frames at the end that do not fill a latent frame are dropped.
    ///
    /// With `tiling`, frames larger than a tile are encoded in overlapping tiles and blended: each tile is
    /// encoded for the whole video before the next, so each frame is requested once per tile.
    ///
    /// # Shapes
    /// - output: (1, z, 1 + (t − 1) / [`Config::temporal_factor`], h, w), un-normalised ([`super::normalise`])
    ///
    /// # Errors
    /// Frames or tiles that do not fit the network, and errors of the frames and of `on_frame`.
    pub fn encode(
        &self,
        video: &Frames<'_>,
        tiling: Option<Tiling>,
        on_frame: &mut dyn FnMut(usize, usize) -> Result<()>,
    ) -> Result<Tensor> {
        let (config, patch) = (&self.config, self.config.patch());
        let first = (video.frame)(0)?;
        let (h, w) = self.check(&first)?;
        let grid = |tiling: Tiling| tiling.encode_grid((h / patch, w / patch), config.spatial_factor(), patch);
        let grid = tiling.map(grid).transpose()?.flatten();
        let tiles = grid.as_ref().map_or(1, Grid::tiles);
        let mut latents = Vec::with_capacity(tiles);
        for tile in 0..tiles {
            let (mut cache, mut made) = (self.slots.cache(), Vec::new());
            for i in 0..video.count {
                let frame = (video.frame)(i)?;
                if frame.dims() != first.dims() {
                    return Err(misshapen(&frame, config.frame_channels()));
                }
                let frame = self.patches(&frame)?;
                let frame = if let Some(grid) = &grid { grid.tile(&frame, tile)? } else { frame };
                made.extend(self.frame(frame, &mut cache)?);
                on_frame(tile * video.count + i + 1, tiles * video.count)?;
            }
            latents.push(Tensor::stack(&made, 2)?);
        }
        if let Some(grid) = grid { grid.merge(latents) } else { Ok(latents.remove(0)) }
    }

    /// Rows and columns of a frame (1, 3, 1, H, W), which must fit the network.
    fn check(&self, frame: &Tensor) -> Result<(usize, usize)> {
        let (factor, patch) = (self.config.spatial_factor(), self.config.patch());
        let channels = self.config.frame_channels();
        let (h, w) = match frame.dims() {
            &[1, given, 1, h, w] if given == channels => (h, w),
            _ => return Err(misshapen(frame, channels)),
        };
        // Shortcuts and patches need sides that divide evenly; convolutions alone would round down.
        let whole = if self.config.is_residual { factor } else { patch };
        if h < factor || w < factor || !h.is_multiple_of(whole) || !w.is_multiple_of(whole) {
            return Err(Error::failed(format!("frames of {w}x{h} pixels cannot be encoded"))
                .hint(format!("use a width and a height that are multiples of {factor}")));
        }
        Ok((h, w))
    }

    /// One frame (1, 3, 1, H, W) as the network's input (1, in_channels, h, w), patches in the channels.
    fn patches(&self, frame: &Tensor) -> Result<Tensor> {
        let frame = frame.squeeze(2)?.to_device(&self.device)?.to_dtype(self.dtype)?;
        Ok(patchify(&frame, self.config.patch())?.force_contiguous()?)
    }

    /// The latent frame that a frame of a video, or of one of its tiles, completes: the mode of its
    /// distribution.
    ///
    /// # Shapes
    /// - `frame`: (1, in_channels, h, w), patches in the channels
    /// - output: (1, z, h', w'), or nothing yet
    fn frame(&self, frame: Tensor, cache: &mut Cache) -> Result<Option<Tensor>> {
        let mut xs = self.conv_in.forward(frame, cache)?;
        for block in &self.blocks {
            match block.forward(xs, cache)? {
                Some(ys) => xs = ys,
                None => return Ok(None),
            }
        }
        let xs = self.head.forward(&self.mid.forward(&xs, cache)?, cache)?;
        // Means, then log-variances; the mode is the mean.
        let mean = self.quant_conv.forward(&xs)?.narrow(1, 0, self.config.z_dim)?;
        Ok(Some(mean.force_contiguous()?))
    }
}

/// One level of the encoder, and the step down after it.
#[derive(Debug)]
struct DownBlock {
    resnets: Vec<ResidualBlock>,
    downsample: Option<Downsample>,
    shortcut: Option<AverageDown>,
}

impl DownBlock {
    /// `weights` is `down_blocks`, where Wan 2.2 numbers the levels and Wan 2.1 all layers of all levels.
    fn load(weights: &Weights, config: &Config, level: usize, slots: &mut Slots) -> Result<Self> {
        let channels = |level: usize| config.dim_mult[level] * config.base_dim;
        let outputs = channels(level);
        let inputs = if level == 0 { config.base_dim } else { channels(level - 1) };
        let count = config.num_res_blocks;
        let flat = level * (count + 1);
        let mut resnets = Vec::with_capacity(count);
        for i in 0..count {
            let weights = if config.is_residual { weights.pp(level).pp("resnets").pp(i) } else { weights.pp(flat + i) };
            resnets.push(ResidualBlock::load(&weights, if i == 0 { inputs } else { outputs }, outputs, slots)?);
        }
        let halves = config.temperal_downsample.get(level).copied();
        let step = if config.is_residual { weights.pp(level).pp("downsampler") } else { weights.pp(flat + count) };
        let downsample = halves.map(|halves| Downsample::load(&step, outputs, halves, slots)).transpose()?;
        let space = if halves.is_some() { 2 } else { 1 };
        let shortcut = (config.is_residual)
            .then(|| AverageDown::new(inputs, outputs, space, halves.unwrap_or(false), slots))
            .transpose()?;
        Ok(Self { resnets, downsample, shortcut })
    }

    /// (1, inputs, h, w) to a frame of the next level, or nothing yet.
    fn forward(&self, xs: Tensor, cache: &mut Cache) -> Result<Option<Tensor>> {
        let shortcut = match &self.shortcut {
            Some(shortcut) => shortcut.forward(&xs, cache)?,
            None => None,
        };
        let mut xs = xs;
        for resnet in &self.resnets {
            xs = resnet.forward(&xs, cache)?;
        }
        let ys = match &self.downsample {
            Some(downsample) => downsample.forward(&xs, cache)?,
            None => Some(xs),
        };
        // Both paths wait for the same frames.
        match (ys, shortcut) {
            (Some(ys), Some(shortcut)) => Ok(Some((ys + shortcut)?)),
            (ys, _) => Ok(ys),
        }
    }
}

fn misshapen(frame: &Tensor, channels: usize) -> Error {
    let given = frame.dims();
    Error::failed(format!("the shape of a frame must be (1, {channels}, 1, rows, columns), not {given:?}"))
}
