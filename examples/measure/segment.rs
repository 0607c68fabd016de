//! What stands out from the backdrop in each picture: blobs of the colours that things have.
//!
//! Things are saturated or white, backdrops are not, and they change from row to row only. Walls do as well, but stand still
//! at an edge; below the floor's edge nothing is looked for, but for what has sunk.

use crate::films::{Film, SIDE};

/// The row where the floor begins.
pub(crate) const FLOOR: f64 = 52.0;
/// Columns that a wall takes at its edge, with one in which it may be blurred.
const WALL: usize = 9;
/// The least pixels of a blob: half of a small thing is below water.
const LEAST: f64 = 7.0;

/// A pixel that differs less from its backdrop, in its most different channel, is backdrop.
const APART: f32 = 28.0;
/// The least difference between the channels of a saturated pixel, and its share of the brightest one: wood has 0.58.
const CHROMA: (f32, f32) = (58.0, 0.48);
/// The largest such share of a white one.
const GREY: f32 = 0.24;

const NONE: u8 = u8::MAX;
const WHITE: u8 = 5;
/// The colours of things, with their hue in degrees and their red, green and blue.
pub(crate) const COLOURS: [(&str, f32, [f32; 3]); 6] = [
    ("red", 359.0, [222.0, 40.0, 44.0]),
    ("yellow", 50.0, [246.0, 208.0, 40.0]),
    ("green", 132.0, [38.0, 178.0, 66.0]),
    ("blue", 225.0, [44.0, 92.0, 236.0]),
    ("purple", 283.0, [164.0, 56.0, 206.0]),
    ("white", 0.0, [246.0, 246.0, 246.0]),
];
/// How far a hue may be off, in degrees.
const HUE: f32 = 22.0;

/// Neighbouring pixels of one colour in one picture. Lengths in pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blob {
    /// Which of [`COLOURS`] it has.
    pub(crate) colour: usize,
    /// Its centre.
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// Pixels that it covers, edges in part.
    pub(crate) area: f64,
    /// Through its middle.
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Blob {
    /// The share of its box that it covers: 0.785 for a disc, 1 for a square.
    pub(crate) fn fill(&self) -> f64 {
        self.area / (self.width * self.height)
    }
}

/// What stays the same in a film.
#[derive(Debug)]
pub(crate) struct Backdrop {
    rows: Vec<[f32; 3]>,
    /// `left` or `right`, where a wall stands there.
    pub(crate) wall: Option<&'static str>,
}

impl Backdrop {
    /// The medians over time, and of these over each row: things cover less than half of a row for long.
    pub(crate) fn of(film: &Film) -> Self {
        let still: Vec<[f32; 3]> =
            (0..SIDE * SIDE).map(|at| median(film.frames.iter().map(|frame| frame[at]))).collect();
        let rows: Vec<[f32; 3]> = still.chunks(SIDE).map(|row| median(row.iter().copied())).collect();
        // Higher than anything that rolls, lower than the wall's upper end.
        let stands = |columns: std::ops::Range<usize>| {
            let places = (16..36).flat_map(|y| columns.clone().map(move |x| (y, x)));
            let other = places.clone().filter(|&(y, x)| apart(still[y * SIDE + x], rows[y]) > 14.0).count();
            other * 10 > places.count() * 7
        };
        let wall = match (stands(1..7), stands(SIDE - 7..SIDE - 1)) {
            (true, false) => Some("left"),
            (false, true) => Some("right"),
            _ => None,
        };
        Self { rows, wall }
    }

    /// The blobs of a picture.
    pub(crate) fn blobs(&self, picture: &[[f32; 3]]) -> Vec<Blob> {
        let labels = self.labels(picture);
        let mut seen = vec![false; labels.len()];
        let mut blobs = Vec::new();
        for at in 0..labels.len() {
            if labels[at] != NONE && !seen[at] {
                let pixels = flood(&labels, at, &mut seen);
                blobs.extend(self.blob(picture, &labels, &pixels));
            }
        }
        blobs
    }

    /// How much of a thing that has sunk shows through the water at column `x`: 0 for none of it, about 0.3 for all.
    pub(crate) fn sunk(&self, picture: &[[f32; 3]], colour: usize, x: f64) -> f64 {
        // Deeper than waves reach, less deep than any thing that floats.
        let rows = FLOOR as usize + 3..FLOOR as usize + 6;
        let middle = (x.floor() as usize).clamp(3, SIDE - 4);
        let places = rows.flat_map(|y| (middle - 2..=middle + 2).map(move |x| (y, x)));
        let air = self.rows[FLOOR as usize - 6];
        let towards: [f32; 3] = std::array::from_fn(|c| COLOURS[colour].2[c] - air[c]);
        let length: f32 = towards.iter().map(|value| value * value).sum();
        let share = |(y, x): (usize, usize)| {
            let other = (0..3).map(|c| (picture[y * SIDE + x][c] - self.rows[y][c]) * towards[c]);
            f64::from(other.sum::<f32>() / length)
        };
        places.clone().map(share).sum::<f64>() / places.count() as f64
    }

    /// The colour of each pixel above the floor, or [`NONE`].
    fn labels(&self, picture: &[[f32; 3]]) -> Vec<u8> {
        let columns = match self.wall {
            Some("left") => WALL..SIDE,
            Some(_) => 0..SIDE - WALL,
            None => 0..SIDE,
        };
        let mut labels = vec![NONE; FLOOR as usize * SIDE];
        // A white thing is sure where it is bright, and goes on from there into its shade.
        let (mut bright, mut shade) = (Vec::new(), vec![NONE; labels.len()]);
        for at in (0..labels.len()).filter(|at| columns.contains(&(at % SIDE))) {
            let (pixel, still) = (picture[at], self.rows[at / SIDE]);
            if apart(pixel, still) < APART {
                continue;
            }
            let (low, high) = bounds(pixel);
            if high - low >= CHROMA.0 && high - low >= CHROMA.1 * high {
                labels[at] = by_hue(hue(pixel));
            } else if high - low <= GREY * high {
                shade[at] = WHITE;
                if low >= 170.0 && low >= bounds(still).1 + 20.0 {
                    bright.push(at);
                }
            }
        }
        let mut seen = vec![false; labels.len()];
        for at in bright {
            if !seen[at] {
                flood(&shade, at, &mut seen).into_iter().for_each(|at| labels[at] = WHITE);
            }
        }
        labels
    }

    /// Measures a blob; none where it is a speck.
    fn blob(&self, picture: &[[f32; 3]], labels: &[u8], pixels: &[usize]) -> Option<Blob> {
        if (pixels.len() as f64) < LEAST {
            return None;
        }
        let colour = labels[pixels[0]];
        let share = self.share(picture, labels, pixels);
        let area: f64 = share.iter().sum();
        let centre = |place: &dyn Fn(usize) -> usize| {
            share.iter().enumerate().map(|(at, share)| share * (place(at) as f64 + 0.5)).sum::<f64>() / area
        };
        let (x, y) = (centre(&|at| at % SIDE), centre(&|at| at / SIDE));
        let through = |place: &dyn Fn(usize) -> usize, middle: f64| {
            let near = |at: usize| (place(at) as f64 + 0.5 - middle).abs() < 1.5;
            share.iter().enumerate().filter(|&(at, _)| near(at)).map(|(_, share)| share).sum::<f64>() / 3.0
        };
        let (width, height) = (through(&|at| at / SIDE, y), through(&|at| at % SIDE, x));
        Some(Blob { colour: usize::from(colour), x, y, area, width, height })
    }

    /// How much of each pixel a blob covers: its inner pixels wholly, those at its edge, within and without, as much as they
    /// are apart from the backdrop compared with those further in.
    fn share(&self, picture: &[[f32; 3]], labels: &[u8], pixels: &[usize]) -> Vec<f64> {
        let apart = |at: usize| apart(picture[at], self.rows[at / SIDE]);
        let mut own = vec![false; labels.len()];
        pixels.iter().for_each(|&at| own[at] = true);
        let is_own = |at: usize| own.get(at).is_some_and(|own| *own);
        let part = |at: usize| {
            let (x, y) = (at % SIDE, at / SIDE);
            let rows = y.saturating_sub(2)..=y + 2;
            let near = rows.flat_map(|y| (x.saturating_sub(2)..=(x + 2).min(SIDE - 1)).map(move |x| y * SIDE + x));
            let whole = near.filter(|&at| is_own(at)).map(apart).fold(1.0, f32::max);
            f64::from(apart(at) / whole).min(1.0)
        };
        let mut share = vec![0.0; labels.len()];
        for &at in pixels {
            share[at] = if around(at).all(is_own) { 1.0 } else { part(at) };
            for beside in around(at).filter(|&beside| beside < labels.len() && labels[beside] == NONE) {
                share[beside] = part(beside);
            }
        }
        share
    }
}

/// The pixels of one label that hang together with the one at `start`, marked as seen.
fn flood(labels: &[u8], start: usize, seen: &mut [bool]) -> Vec<usize> {
    let mut found = vec![start];
    seen[start] = true;
    let mut next = 0;
    while let Some(&at) = found.get(next) {
        next += 1;
        for beside in around(at).filter(|&at| at < labels.len()) {
            if labels[beside] == labels[start] && !seen[beside] {
                seen[beside] = true;
                found.push(beside);
            }
        }
    }
    found
}

/// The pixels that touch one at its sides; the lowest may be beyond a picture's end.
fn around(at: usize) -> impl Iterator<Item = usize> {
    let left = (!at.is_multiple_of(SIDE)).then(|| at - 1);
    let right = (at % SIDE + 1 < SIDE).then_some(at + 1);
    [at.checked_sub(SIDE), left, right, Some(at + SIDE)].into_iter().flatten()
}

fn by_hue(hue: f32) -> u8 {
    let off = |other: f32| ((hue - other + 540.0) % 360.0 - 180.0).abs();
    let near = (0..WHITE).min_by(|&a, &b| off(COLOURS[usize::from(a)].1).total_cmp(&off(COLOURS[usize::from(b)].1)));
    near.filter(|&near| off(COLOURS[usize::from(near)].1) <= HUE).unwrap_or(NONE)
}

/// The hue of a pixel that has one, in degrees.
fn hue(pixel: [f32; 3]) -> f32 {
    let [r, g, b] = pixel;
    let (low, high) = bounds(pixel);
    let sixth = match high {
        _ if high == r => (g - b) / (high - low),
        _ if high == g => (b - r) / (high - low) + 2.0,
        _ => (r - g) / (high - low) + 4.0,
    };
    (sixth * 60.0 + 360.0) % 360.0
}

fn bounds(pixel: [f32; 3]) -> (f32, f32) {
    (pixel.into_iter().fold(f32::MAX, f32::min), pixel.into_iter().fold(f32::MIN, f32::max))
}

fn apart(a: [f32; 3], b: [f32; 3]) -> f32 {
    (0..3).map(|c| (a[c] - b[c]).abs()).fold(0.0, f32::max)
}

/// The median of each channel.
fn median(pixels: impl Iterator<Item = [f32; 3]>) -> [f32; 3] {
    let pixels: Vec<[f32; 3]> = pixels.collect();
    std::array::from_fn(|c| {
        let mut values: Vec<f32> = pixels.iter().map(|pixel| pixel[c]).collect();
        values.sort_by(f32::total_cmp);
        values[values.len() / 2]
    })
}
