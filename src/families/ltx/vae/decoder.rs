//! Latents to frames, a latent frame at a time.

use candle_core::{DType, Device, Tensor};

use super::config::Surroundings;
use super::config::{Config, UpLevel};
use super::network::{Film, Network, Step};
use crate::error::{Error, Result};
use crate::plan::Tiling;
use crate::weights::Weights;

/// The half of the autoencoder that makes frames.
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    dtype: DType,
    device: Device,
    network: Network,
    /// The fewest latent rows, or columns.
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
        let around = Surroundings { causal: config.decoder_causal, edges: config.decoder_spatial_padding_mode };
        let mut network = Network::default();
        let (mut dim, levels) = (config.decoder_middle(), config.up_levels());
        network.conv(&inner.pp("conv_in"), config.latent_channels, dim, around)?;
        let middle = config.decoder_layers_per_block[levels.len()];
        network.resnets(&inner.pp("mid_block"), middle, dim, around)?;
        for (level, UpLevel { inputs, outputs, step, factor, shortcut, layers }) in levels.into_iter().enumerate() {
            let block = inner.pp("up_blocks").pp(level);
            if inputs != outputs * factor {
                network.resnet(&block.pp("conv_in"), (inputs, outputs), around, config.resnet_norm_eps)?;
            }
            if let Some(scaling) = step {
                let dims = (outputs * factor, outputs);
                network.up(&block.pp("upsamplers.0"), (scaling, shortcut), dims, around)?;
            }
            network.resnets(&block, layers, outputs, around)?;
            dim = outputs;
        }
        network.norm_conv(&inner.pp("conv_out"), dim, config.out_channels * config.patch_size.pow(2), around)?;
        network.then(Step::Unpatchify(config.patch_size));
        weights.finish(&["encoder.", "latents_mean", "latents_std"])?;
        let (dtype, device) = (weights.dtype(), weights.device().clone());
        Ok(Self { config: config.clone(), dtype, device, network, least: around.edges.least_side() })
    }

    /// What the decoder was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A new film. With `tiling`, frames that are larger than a tile are decoded in overlapping tiles and blended.
    pub fn stream(&self, tiling: Option<Tiling>) -> DecodeStream<'_> {
        DecodeStream { decoder: self, tiling, film: None }
    }
}

/// One film being decoded.
///
/// A decoder that is not causal looks far ahead: the 2.0 release gives its first frame after some twenty latent frames, and
/// all that it has not given yet when [`DecodeStream::finish`] is called. Each layer remembers a few of its own frames at
/// most, however long the film is.
#[derive(Debug)]
pub struct DecodeStream<'a> {
    decoder: &'a Decoder,
    tiling: Option<Tiling>,
    film: Option<Film>,
}

impl DecodeStream<'_> {
    /// The frames that are complete now that one more latent frame is there: `None` where there is none yet, and at most
    /// [`Config::temporal_factor`].
    ///
    /// # Shapes
    /// - `latent`: (1, z, 1, h, w), un-normalised ([`super::Statistics::denormalise`])
    /// - output: (1, 3, t, H, W), in [−1, 1] but for what overshoots
    ///
    /// # Errors
    /// A latent frame of another shape than the network or the frames before it have, or one after
    /// [`DecodeStream::finish`].
    pub fn push(&mut self, latent: &Tensor) -> Result<Option<Tensor>> {
        let decoder = self.decoder;
        let film = match &mut self.film {
            Some(film) => film,
            None => self.film.insert(begin(decoder, self.tiling.as_ref(), latent)?),
        };
        let (z, (h, w)) = (decoder.config.latent_channels, film.size);
        if latent.dims() != [1, z, 1, h, w] {
            let given = latent.dims();
            return Err(Error::failed(format!(
                "a latent frame has the shape {given:?}, where [1, {z}, 1, {h}, {w}] belongs"
            )));
        }
        if film.is_over() {
            return Err(Error::failed("a latent frame came after the end of its film"));
        }
        let latent = latent.squeeze(2)?.to_device(&decoder.device)?.to_dtype(decoder.dtype)?;
        film.push(&decoder.network, &latent)
    }

    /// The next frames of those that were held back, when the last latent frame has been pushed: call it until it answers
    /// `None`. No answer has more than [`Config::temporal_factor`] frames.
    ///
    /// # Shapes
    /// - output: (1, 3, t, H, W), as of [`DecodeStream::push`]
    pub fn finish(&mut self) -> Result<Option<Tensor>> {
        match &mut self.film {
            Some(film) => film.finish(&self.decoder.network),
            None => Ok(None),
        }
    }
}

/// What the first latent frame settles.
fn begin(decoder: &Decoder, tiling: Option<&Tiling>, latent: &Tensor) -> Result<Film> {
    let config = &decoder.config;
    let (z, factor, least) = (config.latent_channels, config.spatial_factor(), decoder.least);
    let (h, w) = match latent.dims() {
        &[1, channels, 1, h, w] if channels == z && h > 0 && w > 0 => (h, w),
        given => {
            return Err(Error::failed(format!(
                "a latent frame has the shape {given:?}, where (1, {z}, 1, rows, columns) belongs"
            ))
            .hint("latents can only be decoded by the model, or a model of the family, that made them"));
        }
    };
    if h < least || w < least {
        return Err(Error::failed(format!(
            "latents of {h} rows and {w} columns are too small: the decoder mirrors them at their edges, and a mirror \
             image takes two"
        ))
        .hint(format!("use a width and a height of {} pixels at least", least * factor)));
    }
    let grid = match tiling {
        Some(tiling) => tiling.decode_grid((h, w), factor, 1)?,
        None => None,
    };
    Ok(Film::new(&decoder.network, (h, w), grid.map(|grid| grid.without_slivers(least))))
}
