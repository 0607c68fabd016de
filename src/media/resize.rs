//! Image resampling in Pillow's fixed-point arithmetic, so that a resized image has the bytes of the
//! reference pipelines.
//!
//! After `ImagingResample` in Pillow's `src/libImaging/Resample.c`: horizontally, then vertically, each pass
//! rounded to 8 bits, with coefficients in 22-bit fixed point. (Pillow 13 goes vertically first for some
//! images that shrink in height: those differ by the rounding in between.)

use rayon::prelude::*;

use super::Rgb;

/// Bits of the fraction: 32 less 8 of the sample and 2 for the overshoot of the filter.
const PRECISION: u32 = 32 - 8 - 2;
/// Lobes of the Lanczos filter on each side.
const LOBES: f64 = 3.0;

/// A resampling filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Lanczos, of three lobes.
    Lanczos,
    /// Bilinear: a triangle.
    Bilinear,
}

impl Filter {
    /// Radius of the filter, in pixels of the smaller image.
    fn support(self) -> f64 {
        match self {
            Self::Lanczos => LOBES,
            Self::Bilinear => 1.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        match self {
            Self::Lanczos => lanczos(x),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
        }
    }
}

/// A range of one axis, in pixels, possibly fractional. f32 as in Pillow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: f32,
    pub(super) end: f32,
}

/// A rectangle of an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    pub(super) across: Span,
    pub(super) down: Span,
}

/// The input samples of one output sample, and their weights.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// Scales a region of `image` to `width` × `height`.
pub(super) fn resample(image: &Rgb, region: Region, (width, height): (u32, u32), filter: Filter) -> Rgb {
    let columns = windows(image.width as usize, region.across, width as usize, filter);
    let rows = windows(image.height as usize, region.down, height as usize, filter);
    let wide = horizontal(&image.data, image.width as usize, &columns);
    Rgb { width, height, data: vertical(&wide, width as usize * 3, &rows) }
}

/// Resamples rows of `width` pixels, interleaved RGB, to one pixel per window.
fn horizontal(data: &[u8], width: usize, windows: &[Window]) -> Vec<u8> {
    let mut out = vec![0; data.len() / width * windows.len()];
    out.par_chunks_mut(windows.len() * 3).zip(data.par_chunks(width * 3)).for_each(|(out, row)| {
        for (pixel, window) in out.chunks_exact_mut(3).zip(windows) {
            for (channel, value) in pixel.iter_mut().enumerate() {
                *value = window.apply(row[window.first * 3 + channel..].iter().step_by(3));
            }
        }
    });
    out
}

/// Resamples rows of `stride` bytes to one row per window.
fn vertical(data: &[u8], stride: usize, windows: &[Window]) -> Vec<u8> {
    let mut out = vec![0; stride * windows.len()];
    out.par_chunks_mut(stride).zip(windows).for_each(|(out, window)| {
        for (at, value) in out.iter_mut().enumerate() {
            *value = window.apply(data[window.first * stride + at..].iter().step_by(stride));
        }
    });
    out
}

impl Window {
    fn apply<'a>(&self, samples: impl Iterator<Item = &'a u8>) -> u8 {
        let half = 1 << (PRECISION - 1);
        let sum: i32 = self.weights.iter().zip(samples).map(|(weight, sample)| weight * i32::from(*sample)).sum();
        ((half + sum) >> PRECISION).clamp(0, 255) as u8
    }
}

/// The window of each of `outputs` samples over `inputs` samples.
fn windows(inputs: usize, span: Span, outputs: usize, filter: Filter) -> Vec<Window> {
    let scale = f64::from(span.end - span.start) / outputs as f64;
    // When enlarging, the filter keeps its width.
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let window = |output| {
        let centre = f64::from(span.start) + (output as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let last = ((centre + support + 0.5) as usize).min(inputs);
        let weights: Vec<f64> = (first..last).map(|input| filter.at((input as f64 - centre + 0.5) / stretch)).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: &f64| (weight / sum * f64::from(1 << PRECISION)).round() as i32;
        Window { first, weights: weights.iter().map(fixed).collect() }
    };
    (0..outputs).map(window).collect()
}

/// The Lanczos kernel, `sinc(x) · sinc(x / 3)` between −3 and 3.
fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
    if (-LOBES..LOBES).contains(&x) { sinc(x) * sinc(x / LOBES) } else { 0.0 }
}
