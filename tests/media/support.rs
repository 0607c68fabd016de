//! Synthetic footage, and what `ffprobe` and `ffmpeg` say of a file.

use std::path::Path;

use talkie::Result;
use talkie::audio::Waveform;
use talkie::media::{Film, FilmSpec, Written};

/// What a film of `frames` frames of `width` × `height` pixels at 16 a second is specified as.
pub fn spec(width: u32, height: u32, frames: usize) -> FilmSpec {
    let fps = "16".parse().expect("a rate");
    FilmSpec { width, height, fps, frames, recipe: r#"{"prompt":"a cat"}"#.to_owned(), encoder: None }
}

/// A sky over hills with a disc that moves: gradients, an edge, saturated colour.
pub fn landscape(width: u32, height: u32, frame: usize) -> Vec<u8> {
    let (w, h) = (f64::from(width), f64::from(height));
    let pixel = |x: f64, y: f64| -> [f64; 3] {
        let hill = h * (0.65 + 0.1 * (x / w * 9.0 + frame as f64 * 0.05).sin());
        let disc = (x - w * (0.2 + 0.02 * frame as f64)).hypot(y - h * 0.3) < h * 0.15;
        match (disc, y > hill) {
            (true, _) => [250.0, 190.0, 40.0],
            (_, true) => [40.0 + 30.0 * (x * 0.2).sin(), 110.0 - 40.0 * y / h, 35.0],
            _ => [90.0 + 90.0 * y / h, 140.0 + 60.0 * y / h, 235.0 - 20.0 * y / h],
        }
    };
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (f64::from(x), f64::from(y))));
    pixels.flat_map(|(x, y)| pixel(x, y).map(|value| value.clamp(0.0, 255.0) as u8)).collect()
}

/// Noise without any pattern.
pub fn noise(width: u32, height: u32, frame: usize) -> Vec<u8> {
    let mut random = generator(frame);
    (0..width * height * 3).map(|_| random() as u8).collect()
}

/// SplitMix64.
pub fn generator(seed: usize) -> impl FnMut() -> u32 {
    let mut state = seed as u64;
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 32) as u32
    }
}

/// Writes a silent film of what `picture` draws.
pub fn write(path: &Path, spec: &FilmSpec, picture: impl Fn(usize) -> Vec<u8>) -> Result<Written> {
    write_with(path, spec, None, picture)
}

/// Writes a film of what `picture` draws, with a sound.
pub fn write_with(
    path: &Path,
    spec: &FilmSpec,
    sound: Option<&Waveform>,
    picture: impl Fn(usize) -> Vec<u8>,
) -> Result<Written> {
    let mut film = Film::create(path, spec, sound)?;
    for frame in 0..spec.frames {
        film.push(&picture(frame))?;
    }
    film.finish()
}

/// Everything in a folder, hidden files too.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The mean absolute difference of two lots of samples.
pub fn mean_error(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len(), "as many samples");
    a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
}
