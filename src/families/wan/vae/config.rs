//! What `vae/config.json` says of an autoencoder.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Context, Error, Result};

/// The shape of a Wan autoencoder, with the names and defaults of diffusers' `AutoencoderKLWan`.
///
/// Unknown keys are passed over: every release of diffusers adds some that change nothing here.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels of the encoder's first layer.
    pub base_dim: usize,
    /// Channels of the decoder's last layer; those of the encoder's first where it says nothing.
    pub decoder_base_dim: Option<usize>,
    /// Channels of a latent frame.
    pub z_dim: usize,
    /// Channels of each level, as multiples of the base. Between two levels, rows and columns are halved.
    pub dim_mult: Vec<usize>,
    /// Residual blocks of a level of the encoder; the decoder has one more.
    pub num_res_blocks: usize,
    /// Levels with attention: none, in any model that was released.
    pub attn_scales: Vec<f64>,
    /// Whether the step from each level to the next halves the frames too. One less than the levels.
    pub temperal_downsample: Vec<bool>,
    /// Mean of each latent channel.
    pub latents_mean: Vec<f64>,
    /// Standard deviation of each latent channel.
    pub latents_std: Vec<f64>,
    /// Wan 2.2: levels have shortcuts, that average on the way down and repeat on the way up.
    pub is_residual: bool,
    /// Channels that enter the encoder: those of a frame, times the pixels of a patch.
    pub in_channels: usize,
    /// Channels that leave the decoder.
    pub out_channels: usize,
    /// Width and height of the patches of pixels that become channels.
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

/// Far beyond every released model, and small enough that no product of two of them overflows.
const MOST_CHANNELS: usize = 1 << 16;

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
        let config: Self = serde_json::from_str(text).context(|| "it is not the JSON of an autoencoder")?;
        config.check()?;
        Ok(config)
    }

    /// Channels at the base of the decoder.
    pub fn decoder_base(&self) -> usize {
        self.decoder_base_dim.unwrap_or(self.base_dim)
    }

    /// Width and height of a patch: 1 where pixels stay pixels.
    pub fn patch(&self) -> usize {
        self.patch_size.unwrap_or(1)
    }

    /// Pixels per latent pixel, along rows and along columns.
    pub fn spatial_factor(&self) -> usize {
        self.patch() << (self.dim_mult.len() - 1)
    }

    /// Frames per latent frame, after the first, which stands for one.
    pub fn temporal_factor(&self) -> usize {
        1 << self.temperal_downsample.iter().filter(|&&halves| halves).count()
    }

    /// Channels of a frame of pixels that the encoder takes.
    pub fn frame_channels(&self) -> usize {
        self.in_channels / self.patch().pow(2)
    }

    /// Fails on what no network could be built from.
    ///
    /// # Errors
    /// The key, its value, and what it would have to be.
    pub fn check(&self) -> Result<()> {
        self.check_sizes()?;
        let levels = self.dim_mult.len();
        if self.temperal_downsample.len() + 1 != levels {
            let (given, wanted) = (self.temperal_downsample.len(), levels - 1);
            return Err(wrong(format!(
                "`temperal_downsample` has {given} values, where {levels} levels in `dim_mult` need {wanted}"
            )));
        }
        if !self.attn_scales.is_empty() {
            return Err(wrong(format!("`attn_scales` is {:?}, and only [] is known", self.attn_scales)));
        }
        for (name, values) in [("latents_mean", &self.latents_mean), ("latents_std", &self.latents_std)] {
            if values.len() != self.z_dim {
                let (given, wanted) = (values.len(), self.z_dim);
                return Err(wrong(format!("`{name}` has {given} values, where `z_dim` is {wanted}")));
            }
        }
        if let Some(bad) = self.latents_std.iter().find(|std| !(std.is_finite() && **std > 0.0)) {
            return Err(wrong(format!("`latents_std` holds {bad}, and must be above 0")));
        }
        if let Some(bad) = self.latents_mean.iter().find(|mean| !mean.is_finite()) {
            return Err(wrong(format!("`latents_mean` holds {bad}, and must be finite")));
        }
        Ok(())
    }

    /// Fails on zeros and on sizes that are not of this world.
    fn check_sizes(&self) -> Result<()> {
        let bounded = |name: &str, value: usize, most: usize| match value {
            0 => Err(wrong(format!("`{name}` is 0"))),
            value if value > most => Err(wrong(format!("`{name}` is {value}, and {most} is the most"))),
            _ => Ok(()),
        };
        bounded("levels of dim_mult", self.dim_mult.len(), 8)?;
        bounded("base_dim", self.base_dim, MOST_CHANNELS)?;
        bounded("decoder_base_dim", self.decoder_base(), MOST_CHANNELS)?;
        bounded("z_dim", self.z_dim, MOST_CHANNELS)?;
        bounded("num_res_blocks", self.num_res_blocks, 64)?;
        bounded("in_channels", self.in_channels, MOST_CHANNELS)?;
        bounded("out_channels", self.out_channels, MOST_CHANNELS)?;
        bounded("patch_size", self.patch(), 64)?;
        for &mult in &self.dim_mult {
            bounded("dim_mult", mult, MOST_CHANNELS)?;
            bounded("base_dim · dim_mult", mult * self.base_dim.max(self.decoder_base()), MOST_CHANNELS)?;
        }
        for (name, channels) in [("in_channels", self.in_channels), ("out_channels", self.out_channels)] {
            if !channels.is_multiple_of(self.patch().pow(2)) {
                let patch = self.patch();
                return Err(wrong(format!(
                    "`{name}` is {channels}, not a multiple of {patch}·{patch}, a patch's pixels"
                )));
            }
        }
        Ok(())
    }
}

fn wrong(what: String) -> Error {
    Error::failed(format!("the autoencoder's configuration is wrong: {what}"))
        .hint("fetch `vae/config.json` again from the model's page")
}
