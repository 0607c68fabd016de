//! Frames per second as an exact fraction: no film drifts because 29.97 was rounded.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// The slowest and the fastest rate that is taken.
const RANGE: std::ops::RangeInclusive<f64> = 1.0..=240.0;
/// Larger denominators come from no camera and no player.
const MAX_DENOMINATOR: u64 = 100_000;

/// Frames per second, in lowest terms: 16 is 16/1, "29.97" is 30000/1001.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fps {
    numerator: u32,
    denominator: u32,
}

impl Fps {
    /// The rate `numerator / denominator`, reduced to lowest terms.
    ///
    /// # Errors
    /// A usage error when the rate is not between 1 and 240, or its reduced denominator is above 100000.
    pub fn new(numerator: u32, denominator: u32) -> Result<Self> {
        Self::reduced(numerator.into(), denominator.into()).ok_or_else(|| refuse(&format!("{numerator}/{denominator}")))
    }

    fn reduced(numerator: u64, denominator: u64) -> Option<Self> {
        let divisor = gcd(numerator, denominator);
        if denominator == 0 || divisor == 0 {
            return None;
        }
        let (numerator, denominator) = (numerator / divisor, denominator / divisor);
        let fps = numerator as f64 / denominator as f64;
        if !RANGE.contains(&fps) || denominator > MAX_DENOMINATOR {
            return None;
        }
        Some(Self { numerator: u32::try_from(numerator).ok()?, denominator: u32::try_from(denominator).ok()? })
    }

    /// The numerator, in lowest terms.
    pub fn numerator(self) -> u32 {
        self.numerator
    }

    /// The denominator, in lowest terms: 1 for whole rates, 1001 for those of NTSC.
    pub fn denominator(self) -> u32 {
        self.denominator
    }

    /// The rate as the nearest f64.
    pub fn as_f64(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }

    /// How long `frames` frames last, in seconds.
    pub fn seconds(self, frames: usize) -> f64 {
        frames as f64 * f64::from(self.denominator) / f64::from(self.numerator)
    }

    /// How many samples, `rate` of them in a second, last as long as `frames` frames: to the nearest whole one.
    pub fn samples(self, frames: usize, rate: u32) -> usize {
        let (numerator, denominator) = (u128::from(self.numerator), u128::from(self.denominator));
        let samples = (frames as u128 * u128::from(rate) * denominator * 2 + numerator) / (numerator * 2);
        usize::try_from(samples).unwrap_or(usize::MAX)
    }
}

/// A whole rate prints as `16`, another as `30000/1001`: both can be parsed again.
impl fmt::Display for Fps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator {
            1 => write!(f, "{}", self.numerator),
            denominator => write!(f, "{}/{denominator}", self.numerator),
        }
    }
}

/// Reads `16`, `12.5`, `30000/1001`, and the customary names of the NTSC rates (`23.976`, `29.97`, `59.94`, …), which
/// stand for the nearest multiple of 24 or 30 times 1000/1001.
impl FromStr for Fps {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let fps = match text.split_once('/') {
            Some((numerator, denominator)) => digits(numerator).zip(digits(denominator)),
            None => decimal(text),
        };
        fps.and_then(|(numerator, denominator)| Self::reduced(numerator, denominator)).ok_or_else(|| refuse(text))
    }
}

/// Digits only, at most nine: what `u32` holds, and no sign, exponent or blank.
fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// `12.5` as (125, 10), and `29.97` as (30000, 1001).
fn decimal(text: &str) -> Option<(u64, u64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.len() > 6 {
        return None;
    }
    let scale = 10_u64.pow(fraction.len() as u32);
    let numerator = digits(whole)? * scale + digits(fraction)?;
    let value = numerator as f64 / scale as f64;
    let near = value.ceil();
    let ntsc = !numerator.is_multiple_of(scale)
        && (near % 24.0 == 0.0 || near % 30.0 == 0.0)
        && (value - near * 1000.0 / 1001.0).abs() < 0.005;
    Some(if ntsc { (near as u64 * 1000, 1001) } else { (numerator, scale) })
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn refuse(text: &str) -> Error {
    Error::usage(format!("`{text}` is no number of frames per second that can be used"))
        .hint("a rate from 1 to 240: 16, 24, 29.97 or 30000/1001")
}

/// Whole rates are numbers, others text (`"30000/1001"`).
impl Serialize for Fps {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.denominator {
            1 => serializer.serialize_u32(self.numerator),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Fps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Whole(u32),
            Number(f64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Whole(number) => number.to_string(),
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}
