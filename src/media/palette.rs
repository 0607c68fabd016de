//! Colour quantisation for GIF: median cut and ordered dither.
//!
//! Median cut: P. Heckbert, "Color image quantization for frame buffer display", SIGGRAPH 1982. Dither:
//! Bayer's 8×8 matrix, whose pattern stays in place from frame to frame, where error diffusion would crawl.

use rayon::prelude::*;

/// Colours are counted, and looked up, at five bits a channel.
const BITS: u32 = 5;
/// Colours of a GIF's palette at most.
const COLOURS: usize = 256;
/// Peak-to-peak amplitude of the dither in a channel: about the distance of neighbouring colours in the
/// palette.
const DITHER: i32 = 16;

/// A picture of at most 256 colours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indexed {
    /// The colours as (red, green, blue): at least 1, at most 256.
    pub palette: Vec<[u8; 3]>,
    /// One index into `palette` per pixel.
    pub indices: Vec<u8>,
}

/// Finds 256 colours for interleaved 8-bit RGB of `width` pixels a row, and an index for each pixel.
///
/// # Panics
/// When `rgb` is empty or not a whole number of rows.
pub fn quantise(rgb: &[u8], width: usize) -> Indexed {
    assert!(!rgb.is_empty() && rgb.len().is_multiple_of(width * 3), "whole rows of pixels");
    let palette = median_cut(histogram(rgb));
    let nearest: Vec<u8> = (0..1 << (3 * BITS)).into_par_iter().map(|bin| nearest(&palette, centre(bin))).collect();
    let mut indices = vec![0; rgb.len() / 3];
    indices.par_chunks_mut(width).zip(rgb.par_chunks(width * 3)).enumerate().for_each(|(row, (indices, rgb))| {
        for (column, (index, pixel)) in indices.iter_mut().zip(rgb.chunks_exact(3)).enumerate() {
            let shift = (bayer(row, column) * 2 - 63) * DITHER / 128;
            let moved = [0, 1, 2].map(|c| (i32::from(pixel[c]) + shift).clamp(0, 255) as u8);
            *index = nearest[bin_of(moved)];
        }
    });
    Indexed { palette, indices }
}

/// Histogram bin: count of pixels of similar colour, and the sums of their channels.
#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    colour: [u8; 3],
    count: u64,
    sums: [u64; 3],
}

fn histogram(rgb: &[u8]) -> Vec<Bin> {
    let mut bins = vec![Bin::default(); 1 << (3 * BITS)];
    for pixel in rgb.chunks_exact(3) {
        let colour = [pixel[0], pixel[1], pixel[2]];
        let bin = &mut bins[bin_of(colour)];
        bin.count += 1;
        for (sum, channel) in bin.sums.iter_mut().zip(colour) {
            *sum += u64::from(channel);
        }
    }
    for (at, bin) in bins.iter_mut().enumerate() {
        bin.colour = centre(at);
    }
    bins.retain(|bin| bin.count > 0);
    bins
}

/// Cuts the box with the most to gain at its median, until the palette is full.
fn median_cut(mut bins: Vec<Bin>) -> Vec<[u8; 3]> {
    let mut boxes: Vec<&mut [Bin]> = vec![&mut bins];
    while boxes.len() < COLOURS {
        let gain = |part: &[Bin]| widest(part).1 * part.iter().map(|bin| bin.count).sum::<u64>().isqrt();
        let Some(most) = (0..boxes.len()).max_by_key(|&at| gain(boxes[at])).filter(|&at| boxes[at].len() > 1) else {
            break;
        };
        let part = boxes.swap_remove(most);
        let axis = widest(part).0;
        part.sort_unstable_by_key(|bin| (bin.colour[axis], bin.colour));
        let (low, high) = part.split_at_mut(median(part));
        boxes.extend([low, high]);
    }
    boxes.iter().map(|part| mean(part)).collect()
}

/// The channel in which a box is widest, and that width.
fn widest(part: &[Bin]) -> (usize, u64) {
    let width = |axis: usize| {
        let values = || part.iter().map(|bin| bin.colour[axis]);
        u64::from(values().max().unwrap_or(0) - values().min().unwrap_or(0))
    };
    let axis = (0..3).max_by_key(|&axis| width(axis)).unwrap_or(0);
    (axis, width(axis))
}

/// Where half of the pixels lie on either side, with at least one bin on each.
fn median(part: &[Bin]) -> usize {
    let half = part.iter().map(|bin| bin.count).sum::<u64>() / 2;
    let mut before = 0;
    let at = part.iter().position(|bin| {
        before += bin.count;
        before > half
    });
    at.unwrap_or(1).clamp(1, part.len() - 1)
}

fn mean(part: &[Bin]) -> [u8; 3] {
    let count = part.iter().map(|bin| bin.count).sum::<u64>().max(1);
    [0, 1, 2].map(|c| ((part.iter().map(|bin| bin.sums[c]).sum::<u64>() + count / 2) / count) as u8)
}

fn nearest(palette: &[[u8; 3]], colour: [u8; 3]) -> u8 {
    let distance =
        |other: &[u8; 3]| -> i32 { other.iter().zip(colour).map(|(a, b)| (i32::from(*a) - i32::from(b)).pow(2)).sum() };
    let index = (0..palette.len()).min_by_key(|&index| distance(&palette[index])).unwrap_or(0);
    index as u8
}

fn bin_of(colour: [u8; 3]) -> usize {
    colour.iter().fold(0, |bin, channel| bin << BITS | usize::from(channel >> (8 - BITS)))
}

/// The colour in the middle of a bin.
fn centre(bin: usize) -> [u8; 3] {
    [2, 1, 0].map(|c| ((bin >> (c * BITS) & 31) << 3 | 4) as u8)
}

/// Bayer's matrix, 0..=63: the bits of the row and of row ⊕ column, interleaved, least significant first.
fn bayer(row: usize, column: usize) -> i32 {
    let bit = |value: usize, at: usize| value >> at & 1;
    (0..3).fold(0, |value, at| value << 2 | (bit(row ^ column, at) << 1 | bit(row, at)) as i32)
}
