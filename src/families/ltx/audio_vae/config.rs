//! What `audio_vae/config.json` says of an audio autoencoder.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Context, Error, Result};

/// Rows of the spectrum per latent row, and bins per latent bin: fixed in the reference too, where three levels make it so.
pub const COMPRESSION: usize = 4;

/// Levels, between which rows and bins are halved.
pub(super) const LEVELS: usize = 3;

/// The shape of an audio autoencoder, with the names and defaults of diffusers' `AutoencoderKLLTX2Audio`.
///
/// Unknown keys are passed over: every release of diffusers adds some that change nothing here.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels of the first level, and width of a packed latent.
    pub base_channels: usize,
    /// Channels of sound that leave the decoder.
    pub output_channels: usize,
    /// Channels of each level, as multiples of the base.
    pub ch_mult: Vec<usize>,
    /// Residual blocks of a level of the encoder; the decoder has one more.
    pub num_res_blocks: usize,
    /// Sizes at which there is attention: none, in any model that was released.
    pub attn_resolutions: Option<Vec<usize>>,
    /// Channels of sound that enter the encoder.
    pub in_channels: usize,
    /// Channels of a latent.
    pub latent_channels: usize,
    /// How values are normalised: `pixel`, in every model that was released.
    pub norm_type: String,
    /// Along what nothing depends on what comes later: `height`, which is time, in every model that was released.
    pub causality_axis: Option<String>,
    /// Attention in the middle: none, in any model that was released.
    pub mid_block_add_attention: bool,
    /// Samples per second of the sound that the spectrum is of.
    pub sample_rate: u32,
    /// Samples per row of the spectrum.
    pub mel_hop_length: usize,
    /// Bins of the spectrum.
    pub mel_bins: usize,
    /// Whether the encoder gives means and deviations.
    pub double_z: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            base_channels: 128,
            output_channels: 2,
            ch_mult: vec![1, 2, 4],
            num_res_blocks: 2,
            attn_resolutions: None,
            in_channels: 2,
            latent_channels: 8,
            norm_type: "pixel".into(),
            causality_axis: Some("height".into()),
            mid_block_add_attention: false,
            sample_rate: 16_000,
            mel_hop_length: 160,
            mel_bins: 64,
            double_z: true,
        }
    }
}

/// Far beyond every released model, and small enough that no product of two of them overflows.
const MOST_CHANNELS: usize = 1 << 16;

impl Config {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// A file that cannot be read, is not JSON, or describes no network that could be built.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).context(|| format!("cannot use the audio autoencoder's configuration {}", path.display()))
    }

    /// The configuration in the JSON of `text`, checked.
    ///
    /// # Errors
    /// Text that is not JSON, or that describes no network that could be built.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(text).context(|| "it is not the JSON of an audio autoencoder")?;
        config.check()?;
        Ok(config)
    }

    /// Bins of a latent.
    pub fn latent_bins(&self) -> usize {
        self.mel_bins / COMPRESSION
    }

    /// Width of a packed latent: its channels times its bins.
    pub fn width(&self) -> usize {
        self.latent_channels * self.latent_bins()
    }

    /// Latent rows per second.
    pub fn latents_per_second(&self) -> f64 {
        f64::from(self.sample_rate) / self.mel_hop_length as f64 / COMPRESSION as f64
    }

    /// Latent rows of a sound of `seconds`, at least one. Halves go to the even number, as Python rounds them.
    pub fn latent_rows(&self, seconds: f64) -> usize {
        ((seconds * self.latents_per_second()).round_ties_even() as usize).max(1)
    }

    /// Rows of the spectrum that `latents` latent rows stand for: the first stands for one.
    pub fn mel_rows(&self, latents: usize) -> usize {
        (COMPRESSION * latents).saturating_sub(COMPRESSION - 1)
    }

    /// Channels of a level, from 0, the one with the most rows.
    pub(super) fn channels(&self, level: usize) -> usize {
        self.base_channels * self.ch_mult[level]
    }

    /// Fails on what no network could be built from.
    ///
    /// # Errors
    /// The key, its value, and what it would have to be.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("base_channels", self.base_channels, MOST_CHANNELS),
            ("output_channels", self.output_channels, 64),
            ("num_res_blocks", self.num_res_blocks, 64),
            ("in_channels", self.in_channels, 64),
            ("latent_channels", self.latent_channels, MOST_CHANNELS),
            ("sample_rate", self.sample_rate as usize, 1 << 20),
            ("mel_hop_length", self.mel_hop_length, MOST_CHANNELS),
            ("mel_bins", self.mel_bins, MOST_CHANNELS),
        ];
        for (name, value, most) in sizes {
            if !(1..=most).contains(&value) {
                return Err(wrong(name, value, format!("1 to {most}")));
            }
        }
        if self.ch_mult.len() != LEVELS {
            return Err(wrong("ch_mult", format!("{:?}", self.ch_mult), format!("{LEVELS} levels")));
        }
        if let Some(mult) = self.ch_mult.iter().find(|&&mult| !(1..=MOST_CHANNELS / self.base_channels).contains(&mult))
        {
            return Err(wrong("ch_mult", mult, format!("1 to {}", MOST_CHANNELS / self.base_channels)));
        }
        if !self.mel_bins.is_multiple_of(COMPRESSION) {
            return Err(wrong("mel_bins", self.mel_bins, format!("a multiple of {COMPRESSION}")));
        }
        // The statistics have a value per base channel, and are applied to packed latents.
        if self.width() != self.base_channels {
            let wanted = format!("{} latent channels of {} bins", self.latent_channels, self.latent_bins());
            return Err(wrong("base_channels", self.base_channels, format!("{}, {wanted},", self.width())));
        }
        self.check_kind()
    }

    /// Fails on kinds of layers that no release has.
    fn check_kind(&self) -> Result<()> {
        if self.norm_type != "pixel" {
            return Err(wrong("norm_type", &self.norm_type, "pixel"));
        }
        if self.causality_axis.as_deref() != Some("height") {
            return Err(wrong("causality_axis", format!("{:?}", self.causality_axis), "\"height\""));
        }
        if self.attn_resolutions.as_ref().is_some_and(|sizes| !sizes.is_empty()) {
            return Err(wrong("attn_resolutions", format!("{:?}", self.attn_resolutions), "null"));
        }
        if self.mid_block_add_attention {
            return Err(wrong("mid_block_add_attention", true, "false"));
        }
        if !self.double_z {
            return Err(wrong("double_z", false, "true"));
        }
        Ok(())
    }
}

fn wrong(key: &str, value: impl std::fmt::Display, wanted: impl std::fmt::Display) -> Error {
    Error::failed(format!("the audio autoencoder's configuration says `{key}` = {value}, where {wanted} belongs"))
        .hint("fetch `audio_vae/config.json` again from the model's page")
}
