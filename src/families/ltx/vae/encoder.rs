//! Encoder: frames to latents.

use candle_core::{DType, Device, Tensor};

use super::config::{Config, Padding};
use super::network::{Network, State, Step};
use crate::error::{Error, Result};
use crate::plan::Tiling;
use crate::weights::Weights;

/// The encoder of the autoencoder.
#[derive(Debug)]
pub struct Encoder {
    config: Config,
    dtype: DType,
    device: Device,
    network: Network,
    /// The fewest latent rows and columns that the padding allows.
    least: usize,
}

impl Encoder {
    /// Loads the encoder, and leaves the decoder's tensors in their file.
    ///
    /// # Errors
    /// A missing tensor, one of another shape, or one that belongs to neither half.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        config.check()?;
        let inner = weights.pp("encoder");
        let padding = Padding { causal: config.encoder_causal, edges: config.encoder_spatial_padding_mode };
        let mut network = Network::new(padding);
        network.then(Step::Patchify(config.patch_size));
        let mut inputs = config.latent_channels;
        network.conv(&inner.pp("conv_in"), config.in_channels * config.patch_size.pow(2), inputs)?;
        for (level, &outputs) in config.block_out_channels.iter().enumerate() {
            let block = inner.pp("down_blocks").pp(level);
            network.resnets(&block, config.layers_per_block[level], inputs)?;
            if let Some(scaling) = config.step_down(level) {
                network.down(&block.pp("downsamplers.0"), scaling, inputs, outputs)?;
            }
            inputs = outputs;
        }
        let middle = config.layers_per_block[config.block_out_channels.len()];
        network.resnets(&inner.pp("mid_block"), middle, inputs)?;
        // The means, and one log-variance for all of them.
        network.norm_conv(&inner.pp("conv_out"), inputs, config.latent_channels + 1)?;
        weights.finish(&["decoder.", "latents_mean", "latents_std"])?;
        let (dtype, device) = (weights.dtype(), weights.device().clone());
        Ok(Self { config: config.clone(), dtype, device, network, least: padding.edges.least_side() })
    }

    /// The encoder's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Starts a video. With `tiling`, frames larger than a tile are encoded in overlapping tiles and blended.
    pub fn stream(&self, tiling: Option<Tiling>) -> EncodeStream<'_> {
        EncodeStream { encoder: self, tiling, state: None }
    }

    /// The latents of a whole video. Frames at the end that do not fill a latent frame are dropped.
    ///
    /// # Shapes
    /// - `frames`: (1, 3, t, H, W), in [−1, 1]
    /// - output: (1, z, 1 + (t − 1) / [`Config::temporal_factor`], h, w), un-normalised
    ///
    /// # Errors
    /// As [`EncodeStream::push`]; a video without frames.
    pub fn encode(&self, frames: &Tensor, tiling: Option<Tiling>) -> Result<Tensor> {
        let latents = self.stream(tiling).push(frames)?;
        latents.ok_or_else(|| Error::failed("there is no frame to encode"))
    }
}

/// One video being encoded.
#[derive(Debug)]
pub struct EncodeStream<'a> {
    encoder: &'a Encoder,
    tiling: Option<Tiling>,
    state: Option<State>,
}

impl EncodeStream<'_> {
    /// The latent frames that these frames complete: one from the first frame, then one from every
    /// [`Config::temporal_factor`] frames. `None` if more frames are needed.
    ///
    /// # Shapes
    /// - `frames`: (1, 3, t, H, W), in [−1, 1], with any t
    /// - output: (1, z, t', h, w), the modes of their distributions, un-normalised
    ///   ([`super::Statistics::normalise`])
    ///
    /// # Errors
    /// Frames whose shape does not fit the network or the frames before them.
    pub fn push(&mut self, frames: &Tensor) -> Result<Option<Tensor>> {
        let encoder = self.encoder;
        let state = match &mut self.state {
            Some(state) => state,
            None => self.state.insert(begin(encoder, self.tiling.as_ref(), frames)?),
        };
        let (channels, (h, w)) = (encoder.config.in_channels, state.size);
        match frames.dims() {
            &[1, c, _, rows, columns] if (c, rows, columns) == (channels, h, w) => {}
            given => {
                return Err(Error::failed(format!(
                    "the shape of frames must be (1, {channels}, any, {h}, {w}), not {given:?}"
                )));
            }
        }
        let mut latents = Vec::new();
        for i in 0..frames.dim(2)? {
            let frame = frames.narrow(2, i, 1)?.squeeze(2)?.to_device(&encoder.device)?.to_dtype(encoder.dtype)?;
            latents.extend(state.push(&encoder.network, &frame)?);
        }
        if latents.is_empty() {
            return Ok(None);
        }
        // The mode of a distribution is its mean.
        let means = Tensor::cat(&latents, 2)?.narrow(1, 0, encoder.config.latent_channels)?;
        Ok(Some(means.force_contiguous()?))
    }
}

/// The state for a video of which these are the first frames.
fn begin(encoder: &Encoder, tiling: Option<&Tiling>, frames: &Tensor) -> Result<State> {
    let config = &encoder.config;
    let (factor, least) = (config.spatial_factor(), encoder.least);
    let (_, _, _, h, w) = frames.dims5()?;
    let small = h < least * factor || w < least * factor;
    if small || !h.is_multiple_of(factor) || !w.is_multiple_of(factor) {
        return Err(Error::failed(format!("frames of {w}x{h} pixels cannot be encoded")).hint(format!(
            "use a width and a height that are multiples of {factor}, and {} at least",
            least * factor
        )));
    }
    let grid = match tiling {
        Some(tiling) => tiling.encode_grid((h, w), factor, 1)?,
        None => None,
    };
    Ok(State::new(&encoder.network, (h, w), grid.map(|grid| grid.without_slivers(least * factor))))
}
