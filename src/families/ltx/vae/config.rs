//! What `vae/config.json` says of an autoencoder.

mod check;

use std::path::Path;

use serde::Deserialize;

use crate::error::{Context, Result};
use crate::nn::conv::Edges;

/// The shape of an LTX-2 autoencoder, with the names and defaults of diffusers' `AutoencoderKLLTX2Video`.
///
/// Unknown keys are passed over: every release of diffusers adds some that change nothing here. The decoder's lists run
/// from its end to its beginning, as the encoder's run from beginning to end, but for `upsample_type`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels of a frame that the encoder takes.
    pub in_channels: usize,
    /// Channels of a frame that the decoder makes.
    pub out_channels: usize,
    /// Channels of a latent frame.
    pub latent_channels: usize,
    /// Channels after each level of the encoder.
    pub block_out_channels: Vec<usize>,
    /// Kind of each level of the encoder: there is one.
    pub down_block_types: Vec<String>,
    /// Channels of each level of the decoder, the last level first.
    pub decoder_block_out_channels: Vec<usize>,
    /// Residual blocks of each level of the encoder, and of its middle.
    pub layers_per_block: Vec<usize>,
    /// Residual blocks of each level of the decoder, the last level first, and of its middle.
    pub decoder_layers_per_block: Vec<usize>,
    /// Which levels of the encoder end with a step down.
    pub spatio_temporal_scaling: Each,
    /// Which levels of the decoder begin with a step up, the last level first.
    pub decoder_spatio_temporal_scaling: Each,
    /// Noise inside the decoder: in no model that was released.
    pub decoder_inject_noise: Each,
    /// What each step down makes smaller.
    pub downsample_type: Vec<Scaling>,
    /// What each step up makes larger, the first level first.
    pub upsample_type: Vec<Scaling>,
    /// Which steps up have a shortcut, the last level first.
    pub upsample_residual: Each,
    /// By how much each step up divides the channels, the last level first.
    pub upsample_factor: Vec<usize>,
    /// A decoder that is told the noise level of its latents: none that was released.
    pub timestep_conditioning: bool,
    /// Width and height of the patches of pixels that become channels.
    pub patch_size: usize,
    /// Frames of a patch: 1.
    pub patch_size_t: usize,
    /// Epsilon of the norm in a shortcut between different numbers of channels.
    pub resnet_norm_eps: f64,
    /// By how much normalised latents are multiplied.
    pub scaling_factor: f64,
    /// Whether the encoder sees no future. It does not, in any model that was released.
    pub encoder_causal: bool,
    /// Whether the decoder sees no future.
    pub decoder_causal: bool,
    /// What the encoder's convolutions see beyond the edges.
    pub encoder_spatial_padding_mode: Edges,
    /// What the decoder's convolutions see beyond the edges.
    pub decoder_spatial_padding_mode: Edges,
    /// Pixels per latent pixel: what follows from the levels, where it says something.
    pub spatial_compression_ratio: Option<usize>,
    /// Frames per latent frame: what follows from the levels, where it says something.
    pub temporal_compression_ratio: Option<usize>,
}

/// How the convolutions of an encoder or decoder see what is not there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings {
    /// Whether convolutions see two frames before their own, or one on either side.
    pub(super) causal: bool,
    /// Beyond the edges of a frame.
    pub(super) edges: Edges,
}

/// A switch for all levels, or one for each.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Each {
    /// The same everywhere.
    All(bool),
    /// Level by level.
    One(Vec<bool>),
}

impl Each {
    /// The switch of a level, which [`Config::check`] knows to be there.
    pub fn at(&self, level: usize) -> bool {
        match self {
            Self::All(on) => *on,
            Self::One(each) => each.get(level).copied().unwrap_or(false),
        }
    }

    fn fits(&self, levels: usize) -> bool {
        matches!(self, Self::All(_)) || matches!(self, Self::One(each) if each.len() == levels)
    }

    fn any(&self) -> bool {
        matches!(self, Self::All(true)) || matches!(self, Self::One(each) if each.contains(&true))
    }
}

/// What a step between levels halves or doubles.
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
    /// Frames on one side of the step per frame on the other.
    pub fn time(self) -> usize {
        if self == Self::Spatial { 1 } else { 2 }
    }

    /// Rows, and columns, on one side of the step per row on the other.
    pub fn space(self) -> usize {
        if self == Self::Temporal { 1 } else { 2 }
    }

    /// Values on one side of the step per value on the other.
    pub fn volume(self) -> usize {
        self.time() * self.space() * self.space()
    }
}

impl Default for Config {
    /// The defaults of the class: the shape of 2.0, but for the decoder, which is not causal there.
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

const DOWN: &str = "LTX2VideoDownBlock3D";

/// Far beyond every released model, and small enough that no product of a few of them overflows.
const MOST_CHANNELS: usize = 1 << 16;
const MOST_LEVELS: usize = 8;

/// One level of the decoder, in the order in which latents meet them.
#[derive(Debug, Clone, Copy)]
pub(super) struct UpLevel {
    /// Channels that come in.
    pub inputs: usize,
    /// Channels of its residual blocks.
    pub outputs: usize,
    /// The step up.
    pub step: Option<Scaling>,
    /// By how much the step up divides the channels.
    pub factor: usize,
    /// Whether the step up has a shortcut.
    pub shortcut: bool,
    /// Residual blocks.
    pub layers: usize,
}

impl Config {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// A file that cannot be read, is not JSON, or describes no network that could be built.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).context(|| format!("cannot use the autoencoder's configuration {}", path.display()))
    }

    /// The configuration in the JSON of `text`, checked.
    ///
    /// # Errors
    /// Text that is not JSON, or that describes no network that could be built.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(text).context(|| "it is not the JSON of an LTX-2 autoencoder")?;
        config.check()?;
        Ok(config)
    }

    /// Pixels per latent pixel, along rows and along columns.
    pub fn spatial_factor(&self) -> usize {
        self.patch_size * self.steps_down().map(Scaling::space).product::<usize>()
    }

    /// Frames per latent frame, after the first, which stands for one.
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

    /// The levels of a decoder of which [`Config::check`] knows that every list is as long as it should be.
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
