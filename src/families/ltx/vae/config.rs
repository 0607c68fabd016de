//! Configuration of an LTX-2 video autoencoder: `vae/config.json`.

use serde::Deserialize;

use crate::nn::conv::Edges;

/// The fields and defaults of diffusers' `AutoencoderKLLTX2Video`. Unknown keys are ignored.
///
/// Both the encoder's and the decoder's lists run from the pixels to the latents, except `upsample_type`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels of the encoder's input frames.
    pub in_channels: usize,
    /// Channels of the decoder's output frames.
    pub out_channels: usize,
    /// Channels of a latent frame.
    pub latent_channels: usize,
    /// Channels after each level of the encoder.
    pub block_out_channels: Vec<usize>,
    /// Class of each level of the encoder; one is known.
    pub down_block_types: Vec<String>,
    /// Channels of each level of the decoder, the last level first.
    pub decoder_block_out_channels: Vec<usize>,
    /// Residual blocks of each level of the encoder, and last of its middle.
    pub layers_per_block: Vec<usize>,
    /// Residual blocks of each level of the decoder, the last level first, and last of its middle.
    pub decoder_layers_per_block: Vec<usize>,
    /// Which levels of the encoder end with a step down.
    pub spatio_temporal_scaling: Each,
    /// Which levels of the decoder begin with a step up, the last level first.
    pub decoder_spatio_temporal_scaling: Each,
    /// Noise inside the decoder: not in any released model.
    pub decoder_inject_noise: Each,
    /// Axes that each step down halves.
    pub downsample_type: Vec<Scaling>,
    /// Axes that each step up doubles, the first level first.
    pub upsample_type: Vec<Scaling>,
    /// Which steps up have a shortcut, the last level first.
    pub upsample_residual: Each,
    /// Divisor of the channels at each step up, the last level first.
    pub upsample_factor: Vec<usize>,
    /// A decoder conditioned on the noise level of its latents: not in any released model.
    pub timestep_conditioning: bool,
    /// Rows and columns of pixels per patch (pixel unshuffle).
    pub patch_size: usize,
    /// Frames per patch: 1.
    pub patch_size_t: usize,
    /// Epsilon of the norm in a shortcut that changes the number of channels.
    pub resnet_norm_eps: f64,
    /// Factor on normalised latents.
    pub scaling_factor: f64,
    /// Whether the encoder is causal in time, as in every released model.
    pub encoder_causal: bool,
    /// Whether the decoder is causal in time.
    pub decoder_causal: bool,
    /// Spatial padding of the encoder's convolutions.
    pub encoder_spatial_padding_mode: Edges,
    /// Spatial padding of the decoder's convolutions.
    pub decoder_spatial_padding_mode: Edges,
    /// Pixels per latent pixel; if given, it must agree with the levels.
    pub spatial_compression_ratio: Option<usize>,
    /// Frames per latent frame; if given, it must agree with the levels.
    pub temporal_compression_ratio: Option<usize>,
}

/// Padding of the convolutions of an encoder or decoder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Padding {
    /// Two frames before (causal), or one on either side.
    pub(super) causal: bool,
    /// Rows and columns beyond the edges of a frame.
    pub(super) edges: Edges,
}

/// One switch for all levels, or one per level.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Each {
    /// The same for all levels.
    All(bool),
    /// One per level.
    One(Vec<bool>),
}

impl Each {
    /// The switch of a level. [`Config::check`] ensures that it exists.
    pub fn at(&self, level: usize) -> bool {
        match self {
            Self::All(on) => *on,
            Self::One(each) => each.get(level).copied().unwrap_or(false),
        }
    }

    /// Whether there is a switch for each of `levels`.
    pub(super) fn fits(&self, levels: usize) -> bool {
        matches!(self, Self::All(_)) || matches!(self, Self::One(each) if each.len() == levels)
    }

    /// Whether any switch is on.
    pub(super) fn any(&self) -> bool {
        matches!(self, Self::All(true)) || matches!(self, Self::One(each) if each.contains(&true))
    }
}

/// Axes that a step between levels halves or doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scaling {
    /// Rows and columns.
    Spatial,
    /// Frames.
    Temporal,
    /// Frames, rows and columns.
    Spatiotemporal,
}

impl Scaling {
    /// Factor in frames: 1 or 2.
    pub fn time(self) -> usize {
        if self == Self::Spatial { 1 } else { 2 }
    }

    /// Factor in rows and in columns: 1 or 2.
    pub fn space(self) -> usize {
        if self == Self::Temporal { 1 } else { 2 }
    }

    /// Factor in values: 2, 4 or 8.
    pub fn volume(self) -> usize {
        self.time() * self.space() * self.space()
    }
}

impl Default for Config {
    /// The class's defaults: those of 2.0, except that its decoder is not causal.
    fn default() -> Self {
        use Scaling::{Spatial, Spatiotemporal, Temporal};
        Self {
            in_channels: 3,
            out_channels: 3,
            latent_channels: 128,
            block_out_channels: vec![256, 512, 1024, 2048],
            down_block_types: vec![DOWN.to_owned(); 4],
            decoder_block_out_channels: vec![256, 512, 1024],
            layers_per_block: vec![4, 6, 6, 2, 2],
            decoder_layers_per_block: vec![5; 4],
            spatio_temporal_scaling: Each::All(true),
            decoder_spatio_temporal_scaling: Each::All(true),
            decoder_inject_noise: Each::All(false),
            downsample_type: vec![Spatial, Temporal, Spatiotemporal, Spatiotemporal],
            upsample_type: vec![Spatiotemporal; 3],
            upsample_residual: Each::All(true),
            upsample_factor: vec![2; 3],
            timestep_conditioning: false,
            patch_size: 4,
            patch_size_t: 1,
            resnet_norm_eps: 1e-6,
            scaling_factor: 1.0,
            encoder_causal: true,
            decoder_causal: true,
            encoder_spatial_padding_mode: Edges::Zeros,
            decoder_spatial_padding_mode: Edges::Reflect,
            spatial_compression_ratio: None,
            temporal_compression_ratio: None,
        }
    }
}

/// The class of a level of the encoder.
pub(super) const DOWN: &str = "LTX2VideoDownBlock3D";

/// Far above every released model, and low enough that products of a few of them do not overflow.
pub(super) const MOST_CHANNELS: usize = 1 << 16;
/// The most levels.
pub(super) const MOST_LEVELS: usize = 8;

/// One level of the decoder, from the latents to the pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct UpLevel {
    /// Input channels.
    pub inputs: usize,
    /// Channels of the residual blocks.
    pub outputs: usize,
    /// The step up.
    pub step: Option<Scaling>,
    /// Divisor of the channels at the step up.
    pub factor: usize,
    /// Whether the step up has a shortcut.
    pub shortcut: bool,
    /// Residual blocks.
    pub layers: usize,
}

impl Config {
    /// Pixels per latent pixel along either axis.
    pub fn spatial_factor(&self) -> usize {
        self.patch_size * self.steps_down().map(Scaling::space).product::<usize>()
    }

    /// Frames per latent frame; the first latent frame holds one frame.
    pub fn temporal_factor(&self) -> usize {
        self.steps_down().map(Scaling::time).product()
    }

    /// The step down at the end of a level of the encoder.
    pub(super) fn step_down(&self, level: usize) -> Option<Scaling> {
        self.spatio_temporal_scaling.at(level).then(|| self.downsample_type.get(level).copied()).flatten()
    }

    fn steps_down(&self) -> impl Iterator<Item = Scaling> {
        (0..self.block_out_channels.len()).filter_map(|level| self.step_down(level))
    }

    /// Channels of the middle of the decoder.
    pub(super) fn decoder_middle(&self) -> usize {
        self.decoder_block_out_channels.last().copied().unwrap_or(0)
    }

    /// The levels of the decoder. [`Config::check`] ensures the lengths of all lists.
    pub(super) fn up_levels(&self) -> Vec<UpLevel> {
        let count = self.decoder_block_out_channels.len();
        let mut inputs = self.decoder_middle();
        let levels = (0..count).map(|level| {
            let mirror = count - 1 - level;
            let factor = self.upsample_factor[mirror];
            let outputs = self.decoder_block_out_channels[mirror] / factor;
            UpLevel {
                inputs: std::mem::replace(&mut inputs, outputs),
                outputs,
                step: self.decoder_spatio_temporal_scaling.at(mirror).then(|| self.upsample_type[level]),
                factor,
                shortcut: self.upsample_residual.at(mirror),
                layers: self.decoder_layers_per_block[mirror],
            }
        });
        levels.collect()
    }
}
