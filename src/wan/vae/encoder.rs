//! Frames to latents.

use candle_core::{DType, Device, Tensor};

use super::blocks::{Head, MidBlock, ResidualBlock, pointwise};
use super::cache::StreamedConv;
use super::config::Config;
use super::resample::{AverageDown, Downsample};
use crate::error::{Error, Result};
use crate::nn::conv::Conv2d;
use crate::vae::cache::{Cache, Slots};
use crate::vae::patch::patchify;
use crate::vae::{Grid, Tiling};
use crate::weights::Weights;

/// The half of the autoencoder that makes latents.
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
    /// Loads the encoder, and leaves the decoder's tensors in their file.
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

    /// What the encoder was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A new film. With `tiling`, frames that are larger than a tile are encoded in overlapping tiles and blended.
    pub fn stream(&self, tiling: Option<Tiling>) -> EncodeStream<'_> {
        EncodeStream { encoder: self, tiling, film: None }
    }

    /// The latents of a whole film. Frames at the end that make no whole latent frame are left out.
    ///
    /// # Shapes
    /// - `frames`: (1, 3, t, H, W), in [−1, 1]
    /// - output: (1, z, 1 + (t − 1) / [`Config::temporal_factor`], h, w), un-normalised
    ///
    /// # Errors
    /// As [`EncodeStream::push`]; a film without frames.
    pub fn encode(&self, frames: &Tensor, tiling: Option<Tiling>) -> Result<Tensor> {
        let latents = self.stream(tiling).push(frames)?;
        latents.ok_or_else(|| Error::failed("there is no frame to encode"))
    }

    /// The latent frame that this frame completes, for one tile: the mode of its distribution.
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
        // Means first, then logarithms of variances; the mode is the mean.
        let mean = self.quant_conv.forward(&xs)?.narrow(1, 0, self.config.z_dim)?;
        Ok(Some(mean.force_contiguous()?))
    }
}

/// One level of the encoder, and the step down from it.
#[derive(Debug)]
struct DownBlock {
    resnets: Vec<ResidualBlock>,
    downsample: Option<Downsample>,
    shortcut: Option<AverageDown>,
}

impl DownBlock {
    /// `weights` are those of `down_blocks`: Wan 2.2 numbers levels there, Wan 2.1 every layer of every level.
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
        // Both ways wait for the same frames.
        match (ys, shortcut) {
            (Some(ys), Some(shortcut)) => Ok(Some((ys + shortcut)?)),
            (ys, _) => Ok(ys),
        }
    }
}

/// One film being encoded.
#[derive(Debug)]
pub struct EncodeStream<'a> {
    encoder: &'a Encoder,
    tiling: Option<Tiling>,
    film: Option<Film>,
}

/// What the first frame settles.
#[derive(Debug)]
struct Film {
    /// Rows and columns of pixels.
    size: (usize, usize),
    grid: Option<Grid>,
    /// One per tile.
    caches: Vec<Cache>,
}

impl EncodeStream<'_> {
    /// The latent frames that these frames complete: one from the first frame, then one from every
    /// [`Config::temporal_factor`] frames. `None` says that more frames are needed.
    ///
    /// # Shapes
    /// - `frames`: (1, 3, t, H, W), in [−1, 1], with any t
    /// - output: (1, z, t', h, w), un-normalised ([`super::normalise`])
    ///
    /// # Errors
    /// Frames of another shape than the network or the frames before them have, or what candle says.
    pub fn push(&mut self, frames: &Tensor) -> Result<Option<Tensor>> {
        let encoder = self.encoder;
        let film = match &mut self.film {
            Some(film) => film,
            None => self.film.insert(Film::begin(encoder, self.tiling.as_ref(), frames)?),
        };
        let (channels, (h, w)) = (encoder.config.frame_channels(), film.size);
        match frames.dims() {
            &[1, c, _, rows, columns] if (c, rows, columns) == (channels, h, w) => {}
            given => {
                return Err(Error::failed(format!(
                    "frames have the shape {given:?}, where (1, {channels}, any, {h}, {w}) belongs"
                )));
            }
        }
        let mut latents = Vec::new();
        for i in 0..frames.dim(2)? {
            let frame = frames.narrow(2, i, 1)?.squeeze(2)?.to_device(&encoder.device)?.to_dtype(encoder.dtype)?;
            latents.extend(film.push(encoder, &frame)?);
        }
        if latents.is_empty() { Ok(None) } else { Ok(Some(Tensor::stack(&latents, 2)?)) }
    }
}

impl Film {
    fn begin(encoder: &Encoder, tiling: Option<&Tiling>, frames: &Tensor) -> Result<Self> {
        let config = &encoder.config;
        let (factor, patch) = (config.spatial_factor(), config.patch());
        let (_, _, _, h, w) = frames.dims5()?;
        // The shortcuts and the patches share pixels out evenly; convolutions alone would round down.
        let whole = if config.is_residual { factor } else { patch };
        if h < factor || w < factor || !h.is_multiple_of(whole) || !w.is_multiple_of(whole) {
            return Err(Error::failed(format!("frames of {w}x{h} pixels cannot be encoded"))
                .hint(format!("use a width and a height that are multiples of {factor}")));
        }
        let grid = match tiling {
            Some(tiling) => tiling.encode_grid((h / patch, w / patch), factor, patch)?,
            None => None,
        };
        let tiles = grid.as_ref().map_or(1, Grid::tiles);
        let caches = (0..tiles).map(|_| encoder.slots.cache()).collect();
        Ok(Self { size: (h, w), grid, caches })
    }

    /// (1, 3, H, W) to a latent frame of (1, z, h, w), or nothing yet.
    fn push(&mut self, encoder: &Encoder, frame: &Tensor) -> Result<Option<Tensor>> {
        let frame = patchify(frame, encoder.config.patch())?;
        let Some(grid) = &self.grid else { return encoder.frame(frame.force_contiguous()?, &mut self.caches[0]) };
        let tiles = grid.split(&frame)?.into_iter().zip(&mut self.caches);
        let tiles = tiles.map(|(tile, cache)| encoder.frame(tile, cache)).collect::<Result<Vec<_>>>()?;
        // All tiles wait for the same frames.
        let tiles: Option<Vec<Tensor>> = tiles.into_iter().collect();
        tiles.map(|tiles| grid.merge(tiles)).transpose()
    }
}
