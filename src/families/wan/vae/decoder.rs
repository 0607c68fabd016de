//! Decoder: latents to frames, one latent frame at a time.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::blocks::{Head, MidBlock, ResidualBlock, pointwise};
use super::cache::StreamedConv;
use super::config::Config;
use super::resample::{RepeatUp, Upsample};
use crate::error::{Error, Result};
use crate::families::family::{Decoded, FrameSink};
use crate::families::vae::TileSpill;
use crate::families::vae::cache::{Cache, Slots};
use crate::families::vae::patch::unpatchify;
use crate::nn::conv::Conv2d;
use crate::plan::Tiling;
use crate::weights::Weights;

/// The decoder of the autoencoder.
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    dtype: DType,
    device: Device,
    post_quant_conv: Conv2d,
    conv_in: StreamedConv,
    mid: MidBlock,
    blocks: Vec<UpBlock>,
    head: Head,
    slots: Slots,
}

impl Decoder {
    /// Loads the decoder; the encoder's tensors stay in their file.
    ///
    /// # Errors
    /// A missing tensor, one of another shape, or one that belongs to neither half.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        config.check()?;
        let mut slots = Slots::default();
        let inner = weights.pp("decoder");
        // From the level with the fewest pixels to the one with the most.
        let dims: Vec<usize> = config.dim_mult.iter().rev().map(|mult| mult * config.decoder_base()).collect();
        let (first, last) = (dims[0], dims[dims.len() - 1]);
        let conv_in = StreamedConv::load(&inner.pp("conv_in"), config.z_dim, first, [3; 3], &mut slots)?;
        let mid = MidBlock::load(&inner.pp("mid_block"), first, &mut slots)?;
        let mut blocks = Vec::with_capacity(dims.len());
        for level in 0..dims.len() {
            let weights = inner.pp("up_blocks").pp(level);
            blocks.push(UpBlock::load(&weights, config, &dims, level, &mut slots)?);
        }
        let decoder = Self {
            dtype: weights.dtype(),
            device: weights.device().clone(),
            post_quant_conv: pointwise(&weights.pp("post_quant_conv"), config.z_dim, config.z_dim)?,
            conv_in,
            mid,
            blocks,
            head: Head::load(&inner, last, config.out_channels, &mut slots)?,
            config: config.clone(),
            slots,
        };
        weights.finish(&["encoder.", "quant_conv."])?;
        Ok(decoder)
    }

    /// The decoder's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Starts a video, in whole frames.
    pub fn stream(&self) -> DecodeStream<'_> {
        DecodeStream { decoder: self, state: None }
    }

    /// Decodes a video. With `tiling`, frames larger than a tile are decoded in overlapping tiles and
    /// blended: each tile is decoded for the whole video before the next, and its pixels wait for the others
    /// in a file in `scratch`.
    ///
    /// # Shapes
    /// - `latents`: (1, z, t, h, w), un-normalised ([`super::denormalise`])
    /// - to `sink`: (1, 3, any, H, W), in [−1, 1]
    ///
    /// # Errors
    /// Latents or tiles that do not fit the network, a full disk, and errors of `sink`.
    pub fn decode(&self, latents: &Tensor, tiling: Option<Tiling>, scratch: &Path, sink: FrameSink<'_>) -> Result<()> {
        let (h, w) = self.check(latents)?;
        let config = &self.config;
        let grid =
            tiling.map(|tiling| tiling.decode_grid((h, w), config.spatial_factor(), config.patch())).transpose()?;
        let Some(grid) = grid.flatten() else {
            let mut stream = self.stream();
            return (0..latents.dim(2)?)
                .try_for_each(|i| sink(Decoded::Frames(stream.push(&latents.narrow(2, i, 1)?)?)));
        };
        let mut waiting = TileSpill::new(grid, scratch)?;
        self.tiles(latents, &mut waiting, sink)?;
        (0..waiting.parts()).try_for_each(|part| sink(Decoded::Frames(self.shown(&waiting.merged(part)?)?)))
    }

    /// Decodes tile after tile, and reports progress.
    fn tiles(&self, latents: &Tensor, waiting: &mut TileSpill, sink: FrameSink<'_>) -> Result<()> {
        let (tiles, count) = (waiting.grid().tiles(), latents.dim(2)?);
        for tile in 0..tiles {
            let mut cache = self.slots.cache();
            for i in 0..count {
                let latent = waiting.grid().tile(&self.latent(latents, i)?, tile)?;
                waiting.push(tile, &self.frames(&latent, &mut cache)?)?;
                sink(Decoded::Share((tile * count + i + 1) as f64 / (tiles * count) as f64))?;
            }
        }
        Ok(())
    }

    /// Rows and columns of latents, which must be (1, z, t, h, w).
    fn check(&self, latents: &Tensor) -> Result<(usize, usize)> {
        let z = self.config.z_dim;
        match latents.dims() {
            &[1, channels, t, h, w] if channels == z && t > 0 && h > 0 && w > 0 => Ok((h, w)),
            given => Err(Error::failed(format!(
                "the shape of latents must be (1, {z}, frames, rows, columns), not {given:?}"
            ))
            .hint("latents can only be decoded by the model, or a model of the family, that made them")),
        }
    }

    /// One latent frame (1, z, h, w), on the network's device and in its type.
    fn latent(&self, latents: &Tensor, index: usize) -> Result<Tensor> {
        Ok(latents.narrow(2, index, 1)?.squeeze(2)?.to_device(&self.device)?.to_dtype(self.dtype)?)
    }

    /// The decoder's output as frames (1, 3, t, H, W) in [−1, 1].
    fn shown(&self, frames: &Tensor) -> Result<Tensor> {
        Ok(unpatchify(frames, self.config.patch())?.clamp(-1f32, 1f32)?)
    }

    /// The output for one more latent frame of a video, or of one of its tiles.
    ///
    /// # Shapes
    /// - `latent`: (1, z, h, w)
    /// - output: (1, out_channels, t, H, W), patches still in the channels
    fn frames(&self, latent: &Tensor, cache: &mut Cache) -> Result<Tensor> {
        let xs = self.conv_in.forward(self.post_quant_conv.forward(latent)?, cache)?;
        let xs = self.mid.forward(&xs, cache)?;
        let mut frames = Vec::new();
        self.climb(&self.blocks, xs, cache, &mut frames)?;
        Ok(Tensor::stack(&frames, 2)?)
    }

    /// Runs one frame through the remaining levels. Each frame passes all levels before the next, so the
    /// large levels hold one frame at a time, although one latent frame makes four.
    fn climb(&self, blocks: &[UpBlock], xs: Tensor, cache: &mut Cache, frames: &mut Vec<Tensor>) -> Result<()> {
        let Some((block, above)) = blocks.split_first() else {
            frames.push(self.head.forward(&xs, cache)?);
            return Ok(());
        };
        for frame in block.forward(xs, cache)? {
            self.climb(above, frame, cache, frames)?;
        }
        Ok(())
    }
}

/// One level of the decoder, and the step up after it.
#[derive(Debug)]
struct UpBlock {
    resnets: Vec<ResidualBlock>,
    upsample: Option<Upsample>,
    shortcut: Option<RepeatUp>,
}

impl UpBlock {
    fn load(weights: &Weights, config: &Config, dims: &[usize], level: usize, slots: &mut Slots) -> Result<Self> {
        let outputs = dims[level];
        let below = dims[level.saturating_sub(1)];
        // In Wan 2.1 the step up before has halved the channels.
        let inputs = if level > 0 && !config.is_residual { below / 2 } else { below };
        let mut resnets = Vec::with_capacity(config.num_res_blocks + 1);
        for i in 0..=config.num_res_blocks {
            let inputs = if i == 0 { inputs } else { outputs };
            resnets.push(ResidualBlock::load(&weights.pp("resnets").pp(i), inputs, outputs, slots)?);
        }
        if level + 1 == dims.len() {
            return Ok(Self { resnets, upsample: None, shortcut: None });
        }
        let steps = config.temperal_downsample.len();
        let doubles = config.temperal_downsample[steps - 1 - level];
        let (name, next) = if config.is_residual { ("upsampler", outputs) } else { ("upsamplers.0", outputs / 2) };
        let upsample = Upsample::load(&weights.pp(name), outputs, next, doubles, slots)?;
        let shortcut = config.is_residual.then(|| RepeatUp::new(inputs, outputs, doubles, weights.device()));
        Ok(Self { resnets, upsample: Some(upsample), shortcut: shortcut.transpose()? })
    }

    /// (1, inputs, h, w) to the one or two frames of the next level.
    fn forward(&self, xs: Tensor, cache: &mut Cache) -> Result<Vec<Tensor>> {
        let input = self.shortcut.is_some().then(|| xs.clone());
        let mut xs = xs;
        for resnet in &self.resnets {
            xs = resnet.forward(&xs, cache)?;
        }
        let Some(upsample) = &self.upsample else { return Ok(vec![xs]) };
        let frames = upsample.forward(xs, cache)?;
        let (Some(shortcut), Some(input)) = (&self.shortcut, input) else { return Ok(frames) };
        let repeated = shortcut.forward(&input, frames.len())?;
        Ok(frames.iter().zip(&repeated).map(|(frame, shortcut)| frame + shortcut).collect::<Result<_, _>>()?)
    }
}

/// One video being decoded, in whole frames.
#[derive(Debug)]
pub struct DecodeStream<'a> {
    decoder: &'a Decoder,
    state: Option<State>,
}

/// The state of a video, from its first latent frame on.
#[derive(Debug)]
struct State {
    shape: Vec<usize>,
    cache: Cache,
}

impl DecodeStream<'_> {
    /// The frames of the next latent frame: one from the first, then [`Config::temporal_factor`] from each.
    ///
    /// # Shapes
    /// - `latent`: (1, z, 1, h, w), un-normalised ([`super::denormalise`])
    /// - output: (1, 3, t, H, W), in [−1, 1]
    ///
    /// # Errors
    /// A latent frame of another shape than the network or the frames before it have.
    pub fn push(&mut self, latent: &Tensor) -> Result<Tensor> {
        let decoder = self.decoder;
        let state = match &mut self.state {
            Some(state) => state,
            None => {
                decoder.check(latent)?;
                self.state
                    .insert(State { shape: latent.narrow(2, 0, 1)?.dims().to_vec(), cache: decoder.slots.cache() })
            }
        };
        if latent.dims() != state.shape {
            let (given, wanted) = (latent.dims(), &state.shape);
            return Err(Error::failed(format!("the shape of a latent frame must be {wanted:?}, not {given:?}")));
        }
        decoder.shown(&decoder.frames(&decoder.latent(latent, 0)?, &mut state.cache)?)
    }
}
