//! The film's sides and frames, rounded to what the model can make.

use serde::{Deserialize, Serialize};

use super::Facts;
use crate::error::{Error, Result};
use crate::fps::Fps;
use crate::request::Request;

/// Frames past which a request is taken for a slip of the finger.
const MOST_FRAMES: usize = 100_000;

/// The longest side in pixels.
const MOST_PIXELS: usize = 16384;

/// Sides, frames and what follows from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Frames.
    pub frames: usize,
    /// The latents: (1, C, T, H, W).
    pub latents: [usize; 5],
    /// Tokens that the transformer works on.
    pub tokens: usize,
}

impl Shape {
    /// The shape of a film of exactly these sides and frames.
    pub fn new(width: usize, height: usize, frames: usize, facts: &Facts) -> Self {
        let latents =
            [1, facts.channels, (frames - 1) / facts.temporal + 1, height / facts.spatial, width / facts.spatial];
        let tokens = latents[2..].iter().zip(facts.patch).map(|(side, patch)| side / patch).product();
        Self { width, height, frames, latents, tokens }
    }

    /// Whether a shape that was read from a file is one that this model has.
    pub(super) fn is_of(&self, facts: &Facts) -> bool {
        let side = |side| (1..=MOST_PIXELS).contains(&side);
        let frames = (1..=MOST_FRAMES + facts.temporal).contains(&self.frames);
        frames
            && side(self.width)
            && side(self.height)
            && *self == Self::new(self.width, self.height, self.frames, facts)
    }

    /// Whether this is the shape of the first of two phases.
    pub(super) fn is_half_of(&self, whole: &Self, facts: &Facts) -> bool {
        whole.width.is_multiple_of(2)
            && whole.height.is_multiple_of(2)
            && *self == Self::new(whole.width / 2, whole.height / 2, whole.frames, facts)
    }

    /// The shapes of two phases: half the sides, and the whole, rounded once more.
    pub(super) fn in_two(&self, facts: &Facts, notes: &mut Vec<String>) -> Result<[Self; 2]> {
        let [_, rows, columns] = facts.patch;
        let width = round_side("width", self.width, 2 * facts.spatial * columns, notes)?;
        let height = round_side("height", self.height, 2 * facts.spatial * rows, notes)?;
        let shape = |width, height| Self::new(width, height, self.frames, facts);
        Ok([shape(width / 2, height / 2), shape(width, height)])
    }

    /// What was asked for, rounded, and the reasons as notes.
    pub(super) fn settle(request: &Request, facts: &Facts, fps: Fps, notes: &mut Vec<String>) -> Result<Self> {
        let default = facts.film.sizes.first().map_or((832, 480), |&(width, height)| (width as usize, height as usize));
        let (width, height) = request.size.map_or(default, |size| (size.width, size.height));
        let [_, rows, columns] = facts.patch;
        let (width, height) = (
            round_side("width", width, facts.spatial * columns, notes)?,
            round_side("height", height, facts.spatial * rows, notes)?,
        );
        let frames = match (request.frames, request.seconds) {
            (Some(_), Some(_)) => {
                return Err(Error::usage("both a number of frames and a length in seconds were given")
                    .hint("use either `--frames` or `--seconds`"));
            }
            (Some(frames), None) => frames,
            (None, Some(seconds)) => from_seconds(seconds, fps)?,
            (None, None) => facts.film.frames as usize,
        };
        let frames = round_frames(frames, facts.temporal, notes)?;
        let shape = Self::new(width, height, frames, facts);
        shape.check_sides(facts).map(|()| shape)
    }

    /// Whether the transformer has a position for every token, and the autoencoder enough latents for its edges.
    fn check_sides(&self, facts: &Facts) -> Result<()> {
        if self.latents[3..].iter().any(|&side| side < facts.least) {
            let least = facts.least * facts.spatial;
            return Err(Error::usage(format!(
                "{}x{} is too small for this model: its decoder mirrors pictures at their edges",
                self.width, self.height
            ))
            .hint(format!("ask for a width and a height of {least} pixels at least")));
        }
        let longest = self.latents[2..].iter().zip(facts.patch).map(|(side, patch)| side / patch).max().unwrap_or(0);
        if longest <= facts.longest {
            return Ok(());
        }
        let Self { width, height, frames, .. } = self;
        let most = facts.longest.saturating_sub(1).saturating_mul(facts.temporal).saturating_add(1);
        Err(Error::usage(format!(
            "{width}x{height} with {frames} frames has a side of {longest} tokens, and this transformer has positions for {}",
            facts.longest
        ))
        .hint(format!("ask for a smaller `--size`, or for at most {most} frames")))
    }
}

fn from_seconds(seconds: f64, fps: Fps) -> Result<usize> {
    let frames = (seconds * fps.as_f64()).round();
    if !(frames >= 1.0 && frames <= MOST_FRAMES as f64) {
        return Err(Error::usage(format!("a film of {seconds} seconds cannot be made"))
            .hint("`--seconds` takes a positive number, such as `--seconds 5`"));
    }
    Ok(frames as usize)
}

/// Down to a multiple of `unit`, as the reference does it.
fn round_side(name: &str, side: usize, unit: usize, notes: &mut Vec<String>) -> Result<usize> {
    let rounded = side / unit * unit;
    if rounded == 0 || side > MOST_PIXELS {
        return Err(Error::usage(format!("a {name} of {side} pixels cannot be made"))
            .hint(format!("use a multiple of {unit} between {unit} and {}", MOST_PIXELS / unit * unit)));
    }
    if rounded != side {
        notes.push(format!("{name} {side} → {rounded}: this model's films have sides divisible by {unit}"));
    }
    Ok(rounded)
}

/// Down to `temporal·n + 1`, as the reference does it.
fn round_frames(frames: usize, temporal: usize, notes: &mut Vec<String>) -> Result<usize> {
    if frames == 0 || frames > MOST_FRAMES {
        return Err(Error::usage(format!("a film of {frames} frames cannot be made"))
            .hint(format!("use a number between 1 and {MOST_FRAMES}, such as `--frames 81`")));
    }
    if frames % temporal == 1 || temporal == 1 {
        return Ok(frames);
    }
    let rounded = frames / temporal * temporal + 1;
    notes.push(format!(
        "frames {frames} → {rounded}: this model makes one frame and then {temporal} at a time, so {temporal}n + 1"
    ));
    Ok(rounded)
}
