//! Decoder: latents to frames, one latent frame at a time.

use candle_core::{DType, Device, Tensor};

use super::config::{Config, Padding};
use super::network::{Network, State, Step};
use crate::error::{Error, Result};
use crate::plan::Tiling;
use crate::weights::Weights;

/// The decoder of the autoencoder.
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    dtype: DType,
    device: Device,
    network: Network,
    /// The fewest latent rows and columns that the padding allows.
    least: usize,
}

impl Decoder {
    /// Loads the decoder, and leaves the encoder's tensors in their file.
    ///
    /// # Errors
    /// A missing tensor, one of another shape, or one that belongs to neither half.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        config.check()?;
        let inner = weights.pp("decoder");
        let padding = Padding { causal: config.decoder_causal, edges: config.decoder_spatial_padding_mode };
        let mut network = Network::new(padding);
        let (mut dim, levels) = (config.decoder_middle(), config.up_levels());
        network.conv(&inner.pp("conv_in"), config.latent_channels, dim)?;
        let middle = config.decoder_layers_per_block[levels.len()];
        network.resnets(&inner.pp("mid_block"), middle, dim)?;
        for (index, level) in levels.iter().enumerate() {
            let block = inner.pp("up_blocks").pp(index);
            if level.inputs != level.outputs * level.factor {
                network.resnet(&block.pp("conv_in"), level.inputs, level.outputs, config.resnet_norm_eps)?;
            }
            if let Some(scaling) = level.step {
                network.up(&block.pp("upsamplers.0"), scaling, level)?;
            }
            network.resnets(&block, level.layers, level.outputs)?;
            dim = level.outputs;
        }
        network.norm_conv(&inner.pp("conv_out"), dim, config.out_channels * config.patch_size.pow(2))?;
        network.then(Step::Unpatchify(config.patch_size));
        weights.finish(&["encoder.", "latents_mean", "latents_std"])?;
        let (dtype, device) = (weights.dtype(), weights.device().clone());
        Ok(Self { config: config.clone(), dtype, device, network, least: padding.edges.least_side() })
    }

    /// The decoder's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Starts a video. With `tiling`, frames larger than a tile are decoded in overlapping tiles and blended.
    pub fn stream(&self, tiling: Option<Tiling>) -> DecodeStream<'_> {
        DecodeStream { decoder: self, tiling, state: None }
    }
}

/// One video being decoded.
///
/// A decoder that is not causal looks far ahead: that of 2.0 returns its first frame after some twenty latent
/// frames, and the last ones from [`DecodeStream::finish`]. Each layer caches at most a few of its frames,
/// however long the video.
#[derive(Debug)]
pub struct DecodeStream<'a> {
    decoder: &'a Decoder,
    tiling: Option<Tiling>,
    state: Option<State>,
}

impl DecodeStream<'_> {
    /// The frames that one more latent frame completes: `None` if none yet, and at most
    /// [`Config::temporal_factor`].
    ///
    /// # Shapes
    /// - `latent`: (1, z, 1, h, w), un-normalised ([`super::Statistics::denormalise`])
    /// - output: (1, 3, t, H, W), in [−1, 1] except for overshoots
    ///
    /// # Errors
    /// A latent frame whose shape does not fit the network or the frames before it, or one after
    /// [`DecodeStream::finish`].
    pub fn push(&mut self, latent: &Tensor) -> Result<Option<Tensor>> {
        let decoder = self.decoder;
        let state = match &mut self.state {
            Some(state) => state,
            None => self.state.insert(begin(decoder, self.tiling.as_ref(), latent)?),
        };
        let (z, (h, w)) = (decoder.config.latent_channels, state.size);
        if latent.dims() != [1, z, 1, h, w] {
            let given = latent.dims();
            return Err(Error::failed(format!(
                "the shape of a latent frame must be [1, {z}, 1, {h}, {w}], not {given:?}"
            )));
        }
        if state.is_over() {
            return Err(Error::failed("a latent frame came after the end of its video"));
        }
        let latent = latent.squeeze(2)?.to_device(&decoder.device)?.to_dtype(decoder.dtype)?;
        state.push(&decoder.network, &latent)
    }

    /// The next frames that were held back, after the last latent frame: call it until it returns `None`.
    /// Each result has at most [`Config::temporal_factor`] frames.
    ///
    /// # Shapes
    /// - output: (1, 3, t, H, W), as from [`DecodeStream::push`]
    pub fn finish(&mut self) -> Result<Option<Tensor>> {
        match &mut self.state {
            Some(state) => state.finish(&self.decoder.network),
            None => Ok(None),
        }
    }
}

/// The state for a video of which this is the first latent frame.
fn begin(decoder: &Decoder, tiling: Option<&Tiling>, latent: &Tensor) -> Result<State> {
    let config = &decoder.config;
    let (z, factor, least) = (config.latent_channels, config.spatial_factor(), decoder.least);
    let (h, w) = match latent.dims() {
        &[1, channels, 1, h, w] if channels == z && h > 0 && w > 0 => (h, w),
        given => {
            return Err(Error::failed(format!(
                "the shape of a latent frame must be (1, {z}, 1, rows, columns), not {given:?}"
            ))
            .hint("latents can only be decoded by the model, or a model of the family, that made them"));
        }
    };
    if h < least || w < least {
        return Err(Error::failed(format!(
            "latents of {h} rows and {w} columns are too small: the decoder mirrors them at their edges, which takes two \
             of each"
        ))
        .hint(format!("use a width and a height of {} pixels at least", least * factor)));
    }
    let grid = match tiling {
        Some(tiling) => tiling.decode_grid((h, w), factor, 1)?,
        None => None,
    };
    Ok(State::new(&decoder.network, (h, w), grid.map(|grid| grid.without_slivers(least))))
}
