//! Configuration of a Wan video autoencoder: `vae/config.json`.

use serde::Deserialize;

use crate::error::{Context, Result};
use crate::families::check::Check;
use crate::model::statistics;

const CHECK: Check = Check { network: "autoencoder", hint: "fetch `vae/config.json` again from the model's page" };

/// The fields and defaults of diffusers' `AutoencoderKLWan`. Unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels of the encoder's first layer.
    pub base_dim: usize,
    /// Channels of the decoder's last layer; [`Config::base_dim`] by default.
    pub decoder_base_dim: Option<usize>,
    /// Channels of a latent frame.
    pub z_dim: usize,
    /// Channels of each level, as multiples of the base. Each step to the next level halves rows and columns.
    pub dim_mult: Vec<usize>,
    /// Residual blocks per level of the encoder; the decoder has one more.
    pub num_res_blocks: usize,
    /// Levels with attention: not in any released model.
    pub attn_scales: Vec<f64>,
    /// Whether each step to the next level halves the frames too: one entry less than levels.
    pub temperal_downsample: Vec<bool>,
    /// Mean of each latent channel.
    pub latents_mean: Vec<f64>,
    /// Standard deviation of each latent channel.
    pub latents_std: Vec<f64>,
    /// Wan 2.2: shortcuts around levels, averaging on the way down and repeating on the way up.
    pub is_residual: bool,
    /// Encoder's input channels: a frame's channels times the pixels of a patch.
    pub in_channels: usize,
    /// Decoder's output channels, likewise.
    pub out_channels: usize,
    /// Rows and columns of pixels per patch (pixel unshuffle); 1 by default.
    pub patch_size: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            base_dim: 96,
            decoder_base_dim: None,
            z_dim: 16,
            dim_mult: vec![1, 2, 4, 4],
            num_res_blocks: 2,
            attn_scales: Vec::new(),
            temperal_downsample: vec![false, true, true],
            latents_mean: vec![
                -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632,
                -0.1922, -0.9497, 0.2503, -0.2921,
            ],
            latents_std: vec![
                2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579, 1.6382,
                1.1253, 2.8251, 1.9160,
            ],
            is_residual: false,
            in_channels: 3,
            out_channels: 3,
            patch_size: None,
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
        let config: Self = serde_json::from_str(text).context(|| "it is not the JSON of an autoencoder")?;
        config.check()?;
        Ok(config)
    }

    /// Channels at the base of the decoder.
    pub fn decoder_base(&self) -> usize {
        self.decoder_base_dim.unwrap_or(self.base_dim)
    }

    /// Rows and columns of a patch: 1 without patches.
    pub fn patch(&self) -> usize {
        self.patch_size.unwrap_or(1)
    }

    /// Pixels per latent pixel along either axis.
    pub fn spatial_factor(&self) -> usize {
        self.patch() << (self.dim_mult.len() - 1)
    }

    /// Frames per latent frame; the first latent frame holds one frame.
    pub fn temporal_factor(&self) -> usize {
        1 << self.temperal_downsample.iter().filter(|&&halves| halves).count()
    }

    /// Channels of the encoder's input frames, as pixels.
    pub fn frame_channels(&self) -> usize {
        self.in_channels / self.patch().pow(2)
    }

    /// Refuses sizes that no network could be built from.
    ///
    /// # Errors
    /// The key, what it must be, and its value.
    pub fn check(&self) -> Result<()> {
        self.check_sizes()?;
        let levels = self.dim_mult.len();
        if self.temperal_downsample.len() + 1 != levels {
            let (given, wanted) = (self.temperal_downsample.len(), levels - 1);
            return Err(CHECK.wrong(format!(
                "`temperal_downsample` must have {wanted} values for {levels} levels in `dim_mult`, not {given}"
            )));
        }
        CHECK.exactly("attn_scales", self.attn_scales.as_slice(), &[])?;
        statistics::check_values(&self.latents_mean, &self.latents_std, self.z_dim).map_err(|why| CHECK.wrong(why))
    }

    fn check_sizes(&self) -> Result<()> {
        let sizes = [
            ("levels of dim_mult", self.dim_mult.len(), 8),
            ("base_dim", self.base_dim, MOST_CHANNELS),
            ("decoder_base_dim", self.decoder_base(), MOST_CHANNELS),
            ("z_dim", self.z_dim, MOST_CHANNELS),
            ("num_res_blocks", self.num_res_blocks, 64),
            ("in_channels", self.in_channels, MOST_CHANNELS),
            ("out_channels", self.out_channels, MOST_CHANNELS),
            ("patch_size", self.patch(), 64),
        ];
        sizes.into_iter().try_for_each(|(name, value, most)| CHECK.within(name, value, 1..=most))?;
        for &mult in &self.dim_mult {
            CHECK.within("dim_mult", mult, 1..=MOST_CHANNELS)?;
            CHECK.within("base_dim · dim_mult", mult * self.base_dim.max(self.decoder_base()), 1..=MOST_CHANNELS)?;
        }
        for (name, channels) in [("in_channels", self.in_channels), ("out_channels", self.out_channels)] {
            if !channels.is_multiple_of(self.patch().pow(2)) {
                let patch = self.patch();
                return Err(CHECK.must(name, format!("a multiple of {patch}·{patch}, a patch's pixels"), channels));
            }
        }
        Ok(())
    }
}
