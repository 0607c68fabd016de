//! H.264 compression of an image: models trained on video expect its artefacts.

use ffmpeg_next::{Dictionary, Packet, Rational, codec, decoder, encoder, format::Pixel, frame};

use super::{FilmSpec, Rgb, picture, yuv};
use crate::error::{Context, Error, Result};
use crate::fps::Fps;

const ENCODER: &str = "libx264";

/// Encodes an image as a single frame of H.264 with `crf` (1, the best, to 51) and decodes it. An odd last
/// row or column is dropped: 4:2:0 needs even sides.
///
/// # Errors
/// An image of less than two pixels a side, an FFmpeg without libx264.
pub fn recompress(image: &Rgb, crf: u8) -> Result<Rgb> {
    let even = even(image)?;
    let frame = through(&even, crf)
        .context(|| format!("cannot compress the image with H.264 at CRF {crf}"))
        .map_err(|error| error.hint("leave it as it is: `--set image_crf=0`"))?;
    Ok(shown(&frame))
}

/// The image with even sides.
fn even(image: &Rgb) -> Result<Rgb> {
    let (width, height) = (image.width / 2 * 2, image.height / 2 * 2);
    if width == 0 || height == 0 {
        return Err(Error::usage(format!(
            "an image of {}x{} pixels is too small to compress",
            image.width, image.height
        ))
        .hint("use a larger image, or `--set image_crf=0`"));
    }
    let rows = image.data.chunks_exact(image.width as usize * 3).take(height as usize);
    Ok(Rgb { width, height, data: rows.flat_map(|row| &row[..width as usize * 3]).copied().collect() })
}

/// Encodes and decodes the image.
fn through(image: &Rgb, crf: u8) -> Result<frame::Video> {
    super::encoder::prepare();
    let spec = FilmSpec {
        width: image.width,
        height: image.height,
        fps: Fps::new(1, 1)?,
        frames: 1,
        recipe: String::new(),
        encoder: None,
    };
    let missing = || Error::failed("this FFmpeg has no H.264");
    let found = encoder::find_by_name(ENCODER).ok_or_else(missing)?;
    let failed = || "H.264 failed on it";
    let mut context = codec::context::Context::new_with_codec(found).encoder().video().context(failed)?;
    context.set_width(image.width);
    context.set_height(image.height);
    context.set_format(Pixel::YUV420P);
    context.set_time_base(Rational(1, 1));
    let crf = crf.to_string();
    let options: Dictionary = [("crf", crf.as_str()), ("preset", "veryfast")].into_iter().collect();
    let mut encoder = context.open_with(options).context(failed)?;
    let mut frame = picture::yuv_frame(&image.data, &spec)?;
    frame.set_pts(Some(0));
    encoder.send_frame(&frame).and_then(|()| encoder.send_eof()).context(failed)?;
    let found = decoder::find(codec::Id::H264).ok_or_else(missing)?;
    let mut decoder = codec::context::Context::new_with_codec(found).decoder().video().context(failed)?;
    let mut packet = Packet::empty();
    while encoder.receive_packet(&mut packet).is_ok() {
        decoder.send_packet(&packet).context(failed)?;
    }
    decoder.send_eof().context(failed)?;
    let mut decoded = frame::Video::empty();
    decoder.receive_frame(&mut decoded).context(failed)?;
    if (decoded.width(), decoded.height(), decoded.format()) != (image.width, image.height, Pixel::YUV420P) {
        return Err(Error::failed("H.264 returned an image of another size or format"));
    }
    Ok(decoded)
}

/// The pixels of a 4:2:0 frame.
fn shown(frame: &frame::Video) -> Rgb {
    let (width, height) = (frame.width(), frame.height());
    let mut data = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height as usize {
        let row = |plane: usize, y: usize| &frame.data(plane)[y * frame.stride(plane)..];
        let (luma, cb, cr) = (row(0, y), row(1, y / 2), row(2, y / 2));
        data.extend((0..width as usize).flat_map(|x| yuv::to_rgb([luma[x], cb[x / 2], cr[x / 2]])));
    }
    Rgb { width, height, data }
}
