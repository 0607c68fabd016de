//! What `latent_upsampler/config.json` says.

use std::path::Path;

use serde::Deserialize;

use super::{BLUR, GROUPS};
use crate::error::{Context, Error, Result};

/// The shape of a latent upsampler, with the names and defaults of diffusers' `LTX2LatentUpsamplerModel`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels of the latents.
    pub in_channels: usize,
    /// Channels inside.
    pub mid_channels: usize,
    /// Residual blocks before the step up, and as many after it.
    pub num_blocks_per_stage: usize,
    /// 3 for a network that sees the frames before and after, 2 for one that sees single frames.
    pub dims: usize,
    /// Whether there are more rows and columns afterwards.
    pub spatial_upsample: bool,
    /// Whether there are more frames afterwards.
    pub temporal_upsample: bool,
    /// How many times as many rows and columns, where the resampler is rational: 0.75, 1.5, 2 or 4.
    pub rational_spatial_scale: f64,
    /// Whether the step up in rows and columns has a rational scale (2.0), or just doubles (2.3).
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

/// What the step up makes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Twice the rows and columns.
    Space,
    /// `up` times as many rows and columns, of which every `down`th stays.
    Rational { up: usize, down: usize },
    /// Twice the frames.
    Time,
    /// Twice the frames, rows and columns.
    Both,
}

impl Mode {
    /// Frames that one frame becomes.
    pub(super) fn time(self) -> usize {
        if matches!(self, Self::Time | Self::Both) { 2 } else { 1 }
    }

    /// Rows, and columns, that one becomes at first.
    pub(super) fn space(self) -> usize {
        match self {
            Self::Time => 1,
            Self::Space | Self::Both => 2,
            Self::Rational { up, .. } => up,
        }
    }

    /// Values that one becomes at first.
    pub(super) fn volume(self) -> usize {
        self.time() * self.space() * self.space()
    }
}

impl Config {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// A file that cannot be read, is not JSON, or describes no network that could be built.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).context(|| format!("cannot use the upsampler's configuration {}", path.display()))
    }

    /// The configuration in the JSON of `text`, checked.
    ///
    /// # Errors
    /// Text that is not JSON, or that describes no network that could be built.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(text).context(|| "it is not the JSON of a latent upsampler")?;
        config.check()?;
        Ok(config)
    }

    /// The rows, or columns, that `side` rows or columns of latents become.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn side(&self, side: usize) -> Result<usize> {
        Ok(match self.mode()? {
            Mode::Rational { up, down } if down > 1 => (side * up + BLUR / 2 * 2).saturating_sub(BLUR) / down + 1,
            mode => side * mode.space(),
        })
    }

    /// Fails on what no network could be built from.
    ///
    /// # Errors
    /// The key, its value, and what it would have to be.
    pub fn check(&self) -> Result<()> {
        let sizes = [("in_channels", self.in_channels), ("mid_channels", self.mid_channels)];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..=1 << 14).contains(size)) {
            return Err(wrong(format!("`{name}` is {size}, where 1 to {} belongs", 1 << 14)));
        }
        if !self.mid_channels.is_multiple_of(GROUPS) {
            return Err(wrong(format!("`mid_channels` is {}, not a multiple of {GROUPS}", self.mid_channels)));
        }
        if self.num_blocks_per_stage > 64 {
            return Err(wrong(format!("`num_blocks_per_stage` is {}, and 64 is the most", self.num_blocks_per_stage)));
        }
        if !matches!(self.dims, 2 | 3) {
            return Err(wrong(format!("`dims` is {}, where 2 or 3 belongs", self.dims)));
        }
        if self.dims == 2 && self.temporal_upsample {
            return Err(wrong("`temporal_upsample` needs 3 `dims`".into()));
        }
        self.mode().map(|_| ())
    }

    pub(super) fn mode(&self) -> Result<Mode> {
        match (self.spatial_upsample, self.temporal_upsample, self.use_rational_resampler) {
            (true, true, _) => Ok(Mode::Both),
            (false, true, _) => Ok(Mode::Time),
            (false, false, _) => Err(wrong("neither `spatial_upsample` nor `temporal_upsample` is on".into())),
            (true, false, false) => Ok(Mode::Space),
            (true, false, true) => {
                let scales = [(0.75, 3, 4), (1.5, 3, 2), (2.0, 2, 1), (4.0, 4, 1)];
                let found = scales.iter().find(|(scale, ..)| *scale == self.rational_spatial_scale);
                let (_, up, down) = *found.ok_or_else(|| {
                    let given = self.rational_spatial_scale;
                    wrong(format!("`rational_spatial_scale` is {given}, where 0.75, 1.5, 2 or 4 belongs"))
                })?;
                Ok(Mode::Rational { up, down })
            }
        }
    }
}

fn wrong(what: String) -> Error {
    Error::failed(format!("the upsampler's configuration is wrong: {what}"))
        .hint("fetch `latent_upsampler/config.json` again from the model's page")
}
