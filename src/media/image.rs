//! Images: reading (PNG, JPEG, WebP), fitting to a size, and writing PNG.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageReader, Limits};

use super::resize::{Filter, Region, Span, resample};
use crate::error::{Context, Error, Result};
use crate::files::atomic::{AtomicFile, DISK};

/// Most pixels of an image, 8192 × 8192: far above any model's frame.
const MAX_PIXELS: u64 = 1 << 26;
/// Most bytes of an image's file and of its decoder: [`MAX_PIXELS`] of four 16-bit samples.
const MAX_BYTES: u64 = 1 << 29;
const KNOWN: &str = "check the name: PNG, JPEG and WebP can be read";

/// An image: `height` rows of `width` pixels, three bytes each (red, green, blue).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `width · height · 3` bytes, row by row from the top.
    pub data: Vec<u8>,
}

/// Reads a PNG, JPEG or WebP image as 8-bit RGB, with its Exif orientation applied.
///
/// As Pillow's `convert("RGB")` in the reference pipelines: an alpha channel is dropped, not composited, and
/// grey repeats.
///
/// # Errors
/// When the file is missing, damaged, of another format, or has more than 64 million pixels.
pub fn read_image(path: &Path) -> Result<Rgb> {
    let failed = |cause| Error::failed(format!("cannot read the image {}", path.display())).because(cause).hint(KNOWN);
    let image = decode(path).map_err(failed)?.into_rgb8();
    Ok(Rgb { width: image.width(), height: image.height(), data: image.into_raw() })
}

fn decode(path: &Path) -> Result<DynamicImage> {
    let file = File::open(path).context(|| "it cannot be opened")?;
    let bytes = file.metadata().context(|| "it cannot be opened")?.len();
    if bytes > MAX_BYTES {
        return Err(Error::failed(format!("its {bytes} bytes are more than any useful image has")));
    }
    let reader = ImageReader::new(BufReader::new(file)).with_guessed_format();
    let mut reader = reader.context(|| "it cannot be read")?;
    if reader.format().is_none() {
        return Err(Error::failed("its format is not known"));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().context(|| "its header cannot be read")?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Error::failed(format!("{width}x{height} is more than 64 million pixels")));
    }
    let orientation = decoder.orientation().context(|| "its orientation is damaged")?;
    let mut image = DynamicImage::from_decoder(decoder).context(|| "its pixels are damaged")?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Scales `image` to cover `width` × `height` pixels, and crops the rest evenly on both sides.
///
/// Pillow's `ImageOps.fit(image, size, filter)`, bit for bit. An image of that size is unchanged.
///
/// # Panics
/// When a side of `image` or of the size is zero.
pub fn fit(image: &Rgb, width: u32, height: u32, filter: Filter) -> Rgb {
    assert!(![image.width, image.height, width, height].contains(&0), "an image has at least one pixel");
    if (image.width, image.height) == (width, height) {
        return image.clone();
    }
    let whole = [f64::from(image.width), f64::from(image.height)];
    let ratio = f64::from(width) / f64::from(height);
    let kept = if whole[0] / whole[1] >= ratio { [ratio * whole[1], whole[1]] } else { [whole[0], whole[0] / ratio] };
    let span = |axis: usize| {
        let start = (whole[axis] - kept[axis]) / 2.0;
        Span { start: start as f32, end: (start + kept[axis]) as f32 }
    };
    resample(image, Region { across: span(0), down: span(1) }, (width, height), filter)
}

/// Refuses a path that does not end in `.png`. `option` is the option that it was given with, such as
/// `--preview`.
///
/// # Errors
/// A usage error.
pub fn check_png(option: &str, path: &Path) -> Result<()> {
    if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")) {
        return Ok(());
    }
    let name = option.trim_start_matches('-');
    Err(Error::usage(format!("`{option}` is a PNG image, which {} is not", path.display()))
        .hint(format!("name it like `{option} {name}.png`")))
}

/// Writes a PNG, atomically.
///
/// # Errors
/// When the folder is missing or cannot be written, or the disk is full: then nothing is left behind.
pub fn write_png(path: &Path, image: &Rgb) -> Result<()> {
    let part = AtomicFile::file(path)?;
    File::create(part.path())
        .context(|| "cannot create the file")
        .and_then(|file| encode_png(BufWriter::new(file), &image.data, (image.width, image.height)))
        .context(|| format!("cannot write the image {}", path.display()))
        .map_err(|error| error.hint(DISK))?;
    part.commit(path)
}

/// Encodes 8-bit RGB of `size` (width, height) as PNG, to the last byte.
///
/// # Errors
/// When `data` does not have that size, or `file` fails.
pub(super) fn encode_png(mut file: impl Write, data: &[u8], size: (u32, u32)) -> Result<()> {
    if data.len() as u64 != u64::from(size.0) * u64::from(size.1) * 3 {
        return Err(Error::failed(format!(
            "an image of {}x{} pixels cannot have {} bytes",
            size.0,
            size.1,
            data.len()
        )));
    }
    let written = PngEncoder::new(&mut file).write_image(data, size.0, size.1, ExtendedColorType::Rgb8);
    written.context(|| "cannot encode the PNG")?;
    file.flush().context(|| "cannot write the last bytes")
}
