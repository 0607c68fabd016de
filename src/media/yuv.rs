//! RGB to Y′CbCr 4:2:0, BT.709, limited range, 8 bits: exact, and the same on every machine.
//!
//! From ITU-R BT.709-6 §3 with E′ in 0..=1: `Y′ = 0.2126 R + 0.7152 G + 0.0722 B`, `Cb = (B − Y′) / 1.8556`,
//! `Cr = (R − Y′) / 1.5748`, then `16 + 219 Y′` and `128 + 224 C`. Chroma samples lie on the left column of
//! their 2×2 block, half-way between its rows (MPEG-2 siting, H.264 `chroma_loc` 0, FFmpeg's "left"):
//! horizontally a 1-2-1 filter round that column, vertically the mean of the two rows. Where the filter would
//! reach past the left edge, the edge repeats.

use rayon::prelude::*;

const KR: f32 = 0.2126;
const KG: f32 = 0.7152;
const KB: f32 = 0.0722;
/// 8-bit code values per unit of R, G or B in 0..=255.
const LUMA: f32 = 219.0 / 255.0;
const CHROMA: f32 = 224.0 / 255.0;

/// A 4:2:0 image: three planes without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Yuv420 {
    /// Luma, `height` rows of `width` bytes, 16..=235.
    pub y: Vec<u8>,
    /// Blue difference, `height / 2` rows of `width / 2` bytes, 16..=240.
    pub cb: Vec<u8>,
    /// Red difference, as `cb`.
    pub cr: Vec<u8>,
}

/// Converts interleaved 8-bit RGB, `width` pixels a row, as many rows as `rgb` holds.
///
/// # Panics
/// When `width` is zero or odd, or `rgb` is not an even number of rows; [`super::Film`] checks both.
pub fn from_rgb(rgb: &[u8], width: usize) -> Yuv420 {
    assert!(
        width > 0 && width.is_multiple_of(2) && rgb.len().is_multiple_of(width * 6),
        "4:2:0 needs an even width and height"
    );
    let pixels = rgb.len() / 3;
    let mut image = Yuv420 { y: vec![0; pixels], cb: vec![0; pixels / 4], cr: vec![0; pixels / 4] };
    let rows = image.y.par_chunks_mut(width * 2).zip(image.cb.par_chunks_mut(width / 2));
    rows.zip(image.cr.par_chunks_mut(width / 2)).zip(rgb.par_chunks(width * 6)).for_each(|(((y, cb), cr), rgb)| {
        luma(rgb, y);
        chroma(rgb, width, cb, cr);
    });
    image
}

/// One pixel of Y′CbCr as RGB: the inverse, without filtering.
pub fn to_rgb(pixel: [u8; 3]) -> [u8; 3] {
    let luma = (f32::from(pixel[0]) - 16.0) / LUMA;
    let [blue, red] = [pixel[1], pixel[2]].map(|chroma| (f32::from(chroma) - 128.0) / CHROMA);
    let (r, b) = (luma + 1.5748 * red, luma + 1.8556 * blue);
    let g = (luma - KR * r - KB * b) / KG;
    [r, g, b].map(|value| (value + 0.5).clamp(0.0, 255.0) as u8)
}

/// Luma of any number of pixels.
fn luma(rgb: &[u8], y: &mut [u8]) {
    for (y, rgb) in y.iter_mut().zip(rgb.chunks_exact(3)) {
        let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(f32::from);
        *y = (16.5 + LUMA * (KR * r + KG * g + KB * b)) as u8;
    }
}

/// Chroma of two rows of `width` pixels.
fn chroma(rgb: &[u8], width: usize, cb: &mut [u8], cr: &mut [u8]) {
    let (upper, lower) = rgb.split_at(width * 3);
    for (i, (cb, cr)) in cb.iter_mut().zip(cr).enumerate() {
        let (left, here, right) = (6 * i - 3 * usize::from(i > 0), 6 * i, 6 * i + 3);
        // Eighths: whole numbers up to 2040, so nothing is rounded before the matrix.
        let [r, g, b] = [0, 1, 2].map(|c| {
            let column = |at: usize| u16::from(upper[at + c]) + u16::from(lower[at + c]);
            f32::from(column(left) + 2 * column(here) + column(right)) / 8.0
        });
        let y = KR * r + KG * g + KB * b;
        *cb = (128.5 + CHROMA * (b - y) / 1.8556) as u8;
        *cr = (128.5 + CHROMA * (r - y) / 1.5748) as u8;
    }
}
