//! A contact sheet: frames of a film, and beneath them its audio on the same time axis.

use std::path::Path;

use super::image::{Rgb, fit, write_png};
use super::resize::Filter;
use crate::audio::Waveform;
use crate::error::{Error, Result};

/// Frames per row.
const ROW: usize = 8;
/// Frames on a sheet of two rows, if the film has as many; a shorter film has one row.
const MOST_FRAMES: usize = 2 * ROW;
/// The longer side of a frame on the sheet: smaller frames are enlarged by an integer to reach it.
const LEAST_SIDE: u32 = 128;
/// The longer side of a frame on the sheet: larger frames are shrunk to it.
const MOST_SIDE: u32 = 256;
/// Pixels between frames, and around them.
const GAP: u32 = 4;
/// Height of an audio channel, in pixels.
const LANE: u32 = 40;

const PAPER: [u8; 3] = [24, 24, 28];
const SILENCE: [u8; 3] = [72, 72, 82];
const SOUND: [u8; 3] = [120, 190, 250];

/// The lowest and the highest sample of a column of pixels.
type Swing = (f32, f32);

/// A contact sheet that is being made. It keeps only the frames that it shows, at the size that it shows
/// them.
///
/// Time goes from left to right, and on in the second row. The left edge of a frame is its time, in the audio
/// too.
#[derive(Debug)]
pub struct Sheet {
    /// Frames of the film.
    frames: usize,
    /// Frames pushed so far.
    pushed: usize,
    /// Frames shown.
    count: usize,
    images: Vec<Rgb>,
    /// Width and height of a frame on the sheet.
    size: (u32, u32),
    /// The audio channels, by columns of pixels.
    lanes: Vec<Vec<Swing>>,
}

impl Sheet {
    /// A sheet of a film of `frames` frames of `size` (width, height), with audio as long as the film.
    ///
    /// # Errors
    /// A film without frames or pixels.
    pub fn new(size: (u32, u32), frames: usize, sound: Option<&Waveform>) -> Result<Self> {
        if frames == 0 || size.0 == 0 || size.1 == 0 {
            return Err(Error::failed(format!(
                "a contact sheet needs at least one frame and one pixel, not {frames} frames of {}x{}",
                size.0, size.1
            )));
        }
        let count = if frames < MOST_FRAMES { frames.min(ROW) } else { MOST_FRAMES };
        let size = shown(size);
        let columns = count * (size.0 + GAP) as usize;
        let lanes = sound.map_or_else(Vec::new, |sound| {
            sound.channels.iter().map(|channel| (0..columns).map(|at| swing(channel, at, columns)).collect()).collect()
        });
        Ok(Self { frames, pushed: 0, count, images: Vec::with_capacity(count), size, lanes })
    }

    /// Takes the next frame.
    pub fn push(&mut self, frame: &Rgb) {
        // Shown frame `n` of `count` is at `n / count` of the film.
        if self.images.len() < self.count && self.pushed == self.images.len() * self.frames / self.count {
            self.images.push(scaled(frame, self.size));
        }
        self.pushed += 1;
    }

    /// Writes the sheet as a PNG, atomically.
    ///
    /// # Errors
    /// Missing frames, or a failing disk: then nothing is left behind.
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
        for (index, image) in self.images.iter().enumerate() {
            let (column, row) = ((index % ROW) as u32, (index / ROW) as u32);
            canvas.paste(image, GAP + column * (width + GAP), GAP + row * row_height);
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

/// The size on the sheet of a frame of `size`.
fn shown((width, height): (u32, u32)) -> (u32, u32) {
    let side = width.max(height);
    if side < LEAST_SIDE {
        let times = LEAST_SIDE.div_ceil(side);
        return (width * times, height * times);
    }
    let shrunk = |length: u32| (u64::from(length) * u64::from(MOST_SIDE) / u64::from(side)).max(1) as u32;
    if side > MOST_SIDE { (shrunk(width), shrunk(height)) } else { (width, height) }
}

/// A frame at its size on the sheet: enlarged by repeating pixels, or resampled to shrink.
fn scaled(frame: &Rgb, (width, height): (u32, u32)) -> Rgb {
    if frame.width >= width {
        return fit(frame, width, height, Filter::Lanczos);
    }
    let times = (width / frame.width) as usize;
    let rows = frame.data.chunks_exact(3 * frame.width as usize);
    let wide = rows.map(|row| row.chunks_exact(3).flat_map(|pixel| pixel.repeat(times)).collect::<Vec<u8>>());
    Rgb { width, height, data: wide.flat_map(|row| row.repeat(times)).collect() }
}

/// The swing of a channel in column `at` of `columns`, each an equal share of it and at least one sample.
fn swing(channel: &[f32], at: usize, columns: usize) -> Swing {
    let place = |at: usize| (at as u128 * channel.len() as u128 / columns as u128) as usize;
    let share = &channel[place(at)..place(at + 1).max((place(at) + 1).min(channel.len()))];
    share.iter().fold((0.0, 0.0), |(low, high), &sample| (sample.min(low), sample.max(high)))
}

/// An image to draw on.
struct Canvas(Rgb);

impl Canvas {
    fn new(width: u32, height: u32) -> Self {
        Self(Rgb { width, height, data: PAPER.repeat(width as usize * height as usize) })
    }

    fn paste(&mut self, image: &Rgb, left: u32, top: u32) {
        let length = 3 * image.width as usize;
        for (row, pixels) in image.data.chunks_exact(length).enumerate() {
            let start = self.place(left, top + row as u32);
            self.0.data[start..start + length].copy_from_slice(pixels);
        }
    }

    /// Draws a channel's swings around the middle of the lane, clipped at its edges.
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
