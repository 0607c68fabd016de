//! A contact sheet: frames of a film side by side, and beneath them its sound on the same time axis.

use std::path::Path;

use super::image::{Rgb, fit, write_png};
use super::resize::Filter;
use crate::audio::Waveform;
use crate::error::{Error, Result};

/// Pictures in a row.
const ROW: usize = 8;
/// Pictures of a film that has so many frames; a shorter film has one row.
const MOST_PICTURES: usize = 2 * ROW;
/// The longer side of a picture: smaller ones are repeated pixel by pixel until they have it, larger ones are shrunk.
const LEAST_SIDE: u32 = 128;
const MOST_SIDE: u32 = 256;
/// Pixels between pictures, and around them.
const GAP: u32 = 4;
/// Rows of pixels that a channel of the sound has.
const LANE: u32 = 40;

const PAPER: [u8; 3] = [24, 24, 28];
const SILENCE: [u8; 3] = [72, 72, 82];
const SOUND: [u8; 3] = [120, 190, 250];

/// The lowest and the highest sample of a column of pixels.
type Swing = (f32, f32);

/// A contact sheet that is being made. Of the frames that are pushed it keeps those that it shows, no larger than it shows
/// them.
///
/// Time goes from left to right and, where there are two rows, on in the second: the left edge of a picture is the moment of
/// its frame, for the pictures and for the sound.
#[derive(Debug)]
pub struct Sheet {
    /// Frames of the film.
    frames: usize,
    /// Frames that came so far.
    pushed: usize,
    /// How many of them are shown.
    count: usize,
    pictures: Vec<Rgb>,
    /// Width and height of a picture.
    size: (u32, u32),
    /// The channels of the sound, a column of pixels after another.
    lanes: Vec<Vec<Swing>>,
}

impl Sheet {
    /// A sheet of a film of so many frames, each of `size` (width, height), with a sound as long as the film.
    ///
    /// # Errors
    /// A film without frames or pixels.
    pub fn new(size: (u32, u32), frames: usize, sound: Option<&Waveform>) -> Result<Self> {
        if frames == 0 || size.0 == 0 || size.1 == 0 {
            return Err(Error::failed(format!("no film has {frames} frames of {}x{} pixels", size.0, size.1)));
        }
        let count = if frames < MOST_PICTURES { frames.min(ROW) } else { MOST_PICTURES };
        let size = shown(size);
        let columns = count * (size.0 + GAP) as usize;
        let lanes = sound.map_or_else(Vec::new, |sound| {
            sound.channels.iter().map(|channel| (0..columns).map(|at| swing(channel, at, columns)).collect()).collect()
        });
        Ok(Self { frames, pushed: 0, count, pictures: Vec::with_capacity(count), size, lanes })
    }

    /// Takes the next frame.
    pub fn push(&mut self, frame: &Rgb) {
        // Picture `n` of `count` begins where that share of the film is over.
        if self.pictures.len() < self.count && self.pushed == self.pictures.len() * self.frames / self.count {
            self.pictures.push(scaled(frame, self.size));
        }
        self.pushed += 1;
    }

    /// Writes the sheet as a PNG, under another name until it is whole.
    ///
    /// # Errors
    /// Frames that are missing, a disk that takes it not: then nothing is left.
    pub fn write(&self, path: &Path) -> Result<()> {
        if self.pushed != self.frames {
            let (pushed, frames) = (self.pushed, self.frames);
            return Err(Error::failed(format!(
                "the contact sheet got {pushed} frames of {frames}: {}",
                path.display()
            )));
        }
        write_png(path, &self.draw())
    }

    fn draw(&self) -> Rgb {
        let (width, height) = self.size;
        let lanes = self.lanes.len() as u32 * LANE;
        let beneath = if lanes > 0 { lanes + GAP } else { 0 };
        let (columns, rows) = (self.count.min(ROW) as u32, self.count.div_ceil(ROW) as u32);
        let row_height = height + GAP + beneath;
        let mut canvas = Canvas::new(GAP + columns * (width + GAP), GAP + rows * row_height);
        for (index, picture) in self.pictures.iter().enumerate() {
            let (column, row) = ((index % ROW) as u32, (index / ROW) as u32);
            canvas.paste(picture, GAP + column * (width + GAP), GAP + row * row_height);
        }
        let across = (columns * (width + GAP)) as usize;
        for (lane, swings) in self.lanes.iter().enumerate() {
            for (row, swings) in swings.chunks(across).enumerate() {
                let top = GAP + row as u32 * row_height + height + GAP + lane as u32 * LANE;
                canvas.wave(swings, GAP, top);
            }
        }
        canvas.0
    }
}

/// The size that a picture of `size` has on the sheet.
fn shown((width, height): (u32, u32)) -> (u32, u32) {
    let side = width.max(height);
    if side < LEAST_SIDE {
        let times = LEAST_SIDE.div_ceil(side);
        return (width * times, height * times);
    }
    let shrunk = |length: u32| (u64::from(length) * u64::from(MOST_SIDE) / u64::from(side)).max(1) as u32;
    if side > MOST_SIDE { (shrunk(width), shrunk(height)) } else { (width, height) }
}

/// A frame at the size that it is shown in: a whole number of pixels for each of its own, or resampled where it is shrunk.
fn scaled(frame: &Rgb, (width, height): (u32, u32)) -> Rgb {
    if frame.width >= width {
        return fit(frame, width, height, Filter::Lanczos);
    }
    let times = (width / frame.width) as usize;
    let rows = frame.data.chunks_exact(3 * frame.width as usize);
    let wide = rows.map(|row| row.chunks_exact(3).flat_map(|pixel| pixel.repeat(times)).collect::<Vec<u8>>());
    Rgb { width, height, data: wide.flat_map(|row| row.repeat(times)).collect() }
}

/// The swing of a channel in one of so many columns, each an equal share of it and at least one sample.
fn swing(channel: &[f32], at: usize, columns: usize) -> Swing {
    let place = |at: usize| (at as u128 * channel.len() as u128 / columns as u128) as usize;
    let share = &channel[place(at)..place(at + 1).max((place(at) + 1).min(channel.len()))];
    share.iter().fold((0.0, 0.0), |(low, high), &sample| (sample.min(low), sample.max(high)))
}

/// A picture to draw on.
struct Canvas(Rgb);

impl Canvas {
    fn new(width: u32, height: u32) -> Self {
        Self(Rgb { width, height, data: PAPER.repeat(width as usize * height as usize) })
    }

    fn paste(&mut self, picture: &Rgb, left: u32, top: u32) {
        let length = 3 * picture.width as usize;
        for (row, pixels) in picture.data.chunks_exact(length).enumerate() {
            let start = self.place(left, top + row as u32);
            self.0.data[start..start + length].copy_from_slice(pixels);
        }
    }

    /// A channel's swings, one beside the other, round a line in the middle of the lane. What clips ends at its edges.
    fn wave(&mut self, swings: &[Swing], left: u32, top: u32) {
        let half = (LANE / 2 - 1) as f32;
        let row = |sample: f32| top + (half - sample.clamp(-1.0, 1.0) * half).round() as u32;
        for (column, &(low, high)) in (left..).zip(swings) {
            let (first, last) = (row(high), row(low));
            for y in first..=last {
                let colour = if first == last { SILENCE } else { SOUND };
                let place = self.place(column, y);
                self.0.data[place..place + 3].copy_from_slice(&colour);
            }
        }
    }

    fn place(&self, column: u32, row: u32) -> usize {
        3 * (row as usize * self.0.width as usize + column as usize)
    }
}
