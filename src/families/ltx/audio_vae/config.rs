//! Configuration of an audio autoencoder: `audio_vae/config.json`.

use serde::Deserialize;

use crate::error::{Context, Result};
use crate::families::check::Check;

const CHECK: Check =
    Check { network: "audio autoencoder", hint: "fetch `audio_vae/config.json` again from the model's page" };

/// Rows of the mel spectrogram per latent row, and bins per latent bin: fixed by the three levels.
pub const COMPRESSION: usize = 4;

/// Limit on the values of an intermediate image: 32 MiB in f32, of which about five exist at once. Some five
/// seconds of audio reach it.
pub(super) const VALUES: usize = 8 << 20;

/// Levels; each step between two halves rows and bins.
pub(super) const LEVELS: usize = 3;

/// The fields and defaults of diffusers' `AutoencoderKLLTX2Audio`. Unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels of the first level, and width of an audio token.
    pub base_channels: usize,
    /// Audio channels of the decoder's output.
    pub output_channels: usize,
    /// Channels of each level, as multiples of the base.
    pub ch_mult: Vec<usize>,
    /// Residual blocks per level of the encoder; the decoder has one more.
    pub num_res_blocks: usize,
    /// Sizes with attention: not in any released model.
    pub attn_resolutions: Option<Vec<usize>>,
    /// Audio channels of the encoder's input.
    pub in_channels: usize,
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Normalisation: `pixel` in every released model.
    pub norm_type: String,
    /// Causal axis: `height`, which is time, in every released model.
    pub causality_axis: Option<String>,
    /// Attention in the middle block: not in any released model.
    pub mid_block_add_attention: bool,
    /// Samples per second of the audio.
    pub sample_rate: u32,
    /// Samples per row of the mel spectrogram.
    pub mel_hop_length: usize,
    /// Bins of the mel spectrogram.
    pub mel_bins: usize,
    /// Whether the encoder outputs means and log-variances: true.
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

/// Far above every released model, and low enough that products of two of them do not overflow.
const MOST_CHANNELS: usize = 1 << 16;

impl Config {
    /// Parses and checks the text of a `config.json`.
    ///
    /// # Errors
    /// Text that is not JSON, and the refusals of [`Config::check`].
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(text).context(|| "it is not the JSON of an audio autoencoder")?;
        config.check()?;
        Ok(config)
    }

    /// Bins of a latent.
    pub fn latent_bins(&self) -> usize {
        self.mel_bins / COMPRESSION
    }

    /// Width of an audio token: latent channels times latent bins.
    pub fn width(&self) -> usize {
        self.latent_channels * self.latent_bins()
    }

    /// Latent rows per second.
    pub fn latents_per_second(&self) -> f64 {
        f64::from(self.sample_rate) / self.mel_hop_length as f64 / COMPRESSION as f64
    }

    /// Latent rows of `seconds` of audio, at least one. Ties round to even, as Python's `round` does.
    pub fn latent_rows(&self, seconds: f64) -> usize {
        ((seconds * self.latents_per_second()).round_ties_even() as usize).max(1)
    }

    /// Mel rows of `latents` latent rows: one for the first, [`COMPRESSION`] for each other.
    pub fn mel_rows(&self, latents: usize) -> usize {
        (COMPRESSION * latents).saturating_sub(COMPRESSION - 1)
    }

    /// Channels of a level; level 0 has the most rows.
    pub(super) fn channels(&self, level: usize) -> usize {
        self.base_channels * self.ch_mult[level]
    }

    /// Refuses sizes that no network could be built from.
    ///
    /// # Errors
    /// The key, what it must be, and its value.
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
            CHECK.within(name, value, 1..=most)?;
        }
        CHECK.exactly("levels of ch_mult", self.ch_mult.len(), LEVELS)?;
        let most = MOST_CHANNELS / self.base_channels;
        self.ch_mult.iter().try_for_each(|&mult| CHECK.within("ch_mult", mult, 1..=most))?;
        if !self.mel_bins.is_multiple_of(COMPRESSION) {
            return Err(CHECK.must("mel_bins", format!("a multiple of {COMPRESSION}"), self.mel_bins));
        }
        // The statistics have a value per base channel, and are applied to tokens.
        if self.width() != self.base_channels {
            let (channels, bins) = (self.latent_channels, self.latent_bins());
            let wanted = format!("{}, for {channels} latent channels of {bins} bins", self.width());
            return Err(CHECK.must("base_channels", wanted, self.base_channels));
        }
        self.check_kind()
    }

    /// Refuses kinds of layers that no release has.
    fn check_kind(&self) -> Result<()> {
        CHECK.exactly("norm_type", self.norm_type.as_str(), "pixel")?;
        CHECK.exactly("causality_axis", self.causality_axis.as_deref().unwrap_or("null"), "height")?;
        CHECK.exactly("attn_resolutions", self.attn_resolutions.as_deref().unwrap_or_default(), &[])?;
        CHECK.exactly("mid_block_add_attention", self.mid_block_add_attention, false)?;
        CHECK.exactly("double_z", self.double_z, true)
    }
}
