//! Configuration of a latent upsampler: `latent_upsampler/config.json`.

use serde::Deserialize;

use crate::error::{Context, Result};
use crate::families::check::Check;

const CHECK: Check =
    Check { network: "upsampler", hint: "fetch `latent_upsampler/config.json` again from the model's page" };

/// Groups of every group norm.
pub(super) const GROUPS: usize = 32;

/// Rows and columns of the blur kernel before a stride.
pub(super) const BLUR: usize = 5;

/// The fields and defaults of diffusers' `LTX2LatentUpsamplerModel`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels of the latents.
    pub in_channels: usize,
    /// Channels of the residual blocks.
    pub mid_channels: usize,
    /// Residual blocks before the step up, and the same number after it.
    pub num_blocks_per_stage: usize,
    /// Dimensions of the convolutions: 3 over time and space, 2 over each frame alone.
    pub dims: usize,
    /// Whether rows and columns are upsampled.
    pub spatial_upsample: bool,
    /// Whether frames are upsampled.
    pub temporal_upsample: bool,
    /// Scale of the rational resampler: 0.75, 1.5, 2 or 4.
    pub rational_spatial_scale: f64,
    /// Whether rows and columns are scaled by a ratio (2.0) or doubled (2.3).
    pub use_rational_resampler: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            in_channels: 128,
            mid_channels: 1024,
            num_blocks_per_stage: 4,
            dims: 3,
            spatial_upsample: true,
            temporal_upsample: false,
            rational_spatial_scale: 2.0,
            use_rational_resampler: true,
        }
    }
}

/// Kind of the step up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Twice the rows and columns.
    Space,
    /// `up` times the rows and columns, then blur with stride `down`.
    Rational { up: usize, down: usize },
    /// Twice the frames.
    Time,
    /// Twice the frames, rows and columns.
    Both,
}

impl Mode {
    /// Factor in frames: 1 or 2.
    pub(super) fn time(self) -> usize {
        if matches!(self, Self::Time | Self::Both) { 2 } else { 1 }
    }

    /// Factor in rows and in columns, before the stride.
    pub(super) fn space(self) -> usize {
        match self {
            Self::Time => 1,
            Self::Space | Self::Both => 2,
            Self::Rational { up, .. } => up,
        }
    }

    /// Factor in values, before the stride.
    pub(super) fn volume(self) -> usize {
        self.time() * self.space() * self.space()
    }
}

impl Config {
    /// Parses and checks the text of a `config.json`.
    ///
    /// # Errors
    /// Text that is not JSON, and the refusals of [`Config::check`].
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(text).context(|| "it is not the JSON of a latent upsampler")?;
        config.check()?;
        Ok(config)
    }

    /// Output rows (or columns) for `side` rows (or columns) of latents.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn side(&self, side: usize) -> Result<usize> {
        Ok(match self.mode()? {
            Mode::Rational { up, down } if down > 1 => (side * up + BLUR / 2 * 2).saturating_sub(BLUR) / down + 1,
            mode => side * mode.space(),
        })
    }

    /// Refuses sizes that no network could be built from.
    ///
    /// # Errors
    /// The key, what it must be, and its value.
    pub fn check(&self) -> Result<()> {
        CHECK.within("in_channels", self.in_channels, 1..=1 << 14)?;
        CHECK.within("mid_channels", self.mid_channels, 1..=1 << 14)?;
        if !self.mid_channels.is_multiple_of(GROUPS) {
            return Err(CHECK.must("mid_channels", format!("a multiple of {GROUPS}"), self.mid_channels));
        }
        CHECK.within("num_blocks_per_stage", self.num_blocks_per_stage, 0..=64)?;
        CHECK.within("dims", self.dims, 2..=3)?;
        if self.dims == 2 && self.temporal_upsample {
            return Err(CHECK.wrong("`temporal_upsample` needs 3 `dims`"));
        }
        self.mode().map(|_| ())
    }

    pub(super) fn mode(&self) -> Result<Mode> {
        match (self.spatial_upsample, self.temporal_upsample, self.use_rational_resampler) {
            (true, true, _) => Ok(Mode::Both),
            (false, true, _) => Ok(Mode::Time),
            (false, false, _) => Err(CHECK.wrong("neither `spatial_upsample` nor `temporal_upsample` is on")),
            (true, false, false) => Ok(Mode::Space),
            (true, false, true) => {
                let scales = [(0.75, 3, 4), (1.5, 3, 2), (2.0, 2, 1), (4.0, 4, 1)];
                let found = scales.iter().find(|(scale, ..)| *scale == self.rational_spatial_scale);
                let (_, up, down) = *found.ok_or_else(|| {
                    CHECK.must("rational_spatial_scale", "0.75, 1.5, 2 or 4", self.rational_spatial_scale)
                })?;
                Ok(Mode::Rational { up, down })
            }
        }
    }
}
