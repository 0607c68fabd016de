//! Frames for FFmpeg's encoders: BT.709 4:2:0, or a palette of 256 colours per frame for GIF.

use ffmpeg_next::{color, format::Pixel, frame};

use super::{FilmSpec, palette, yuv};
use crate::error::{Error, Result};

/// The frame as BT.709 4:2:0, with its tags.
pub(super) fn yuv_frame(rgb: &[u8], spec: &FilmSpec) -> Result<frame::Video> {
    let image = yuv::from_rgb(rgb, spec.width as usize);
    let mut frame = allocate(Pixel::YUV420P, spec)?;
    frame.set_color_space(color::Space::BT709);
    frame.set_color_range(color::Range::MPEG);
    frame.set_color_primaries(color::Primaries::BT709);
    frame.set_color_transfer_characteristic(color::TransferCharacteristic::BT709);
    let width = spec.width as usize;
    for (plane, (data, width)) in [(image.y, width), (image.cb, width / 2), (image.cr, width / 2)].iter().enumerate() {
        copy_plane(&mut frame, plane, data, *width);
    }
    Ok(frame)
}

/// The frame with its palette of 256 colours.
#[expect(unsafe_code, clippy::cast_ptr_alignment, reason = "the binding has no access to the palette of a frame")]
pub(super) fn indexed_frame(rgb: &[u8], spec: &FilmSpec) -> Result<frame::Video> {
    let image = palette::quantise(rgb, spec.width as usize);
    let mut frame = allocate(Pixel::PAL8, spec)?;
    copy_plane(&mut frame, 0, &image.indices, spec.width as usize);
    let opaque = |[r, g, b]: [u8; 3]| u32::from_be_bytes([0xFF, r, g, b]);
    // Unused entries repeat the last: a transparent one would make the encoder treat the frame as
    // transparent.
    let last = image.palette.last().copied().unwrap_or_default();
    let colours = image.palette.into_iter().chain(std::iter::repeat(last)).map(opaque).take(256);
    // SAFETY: `allocate` made a PAL8 frame, whose second plane is 256 native-endian u32 (ARGB); nothing
    // else refers to the frame yet. The binding has no access to that plane, as its stride is not set.
    unsafe {
        let entries = (*frame.as_mut_ptr()).data[1].cast::<u32>();
        for (at, colour) in colours.enumerate() {
            entries.add(at).write_unaligned(colour);
        }
    }
    Ok(frame)
}

/// A newly allocated frame: encoders may keep it for a while.
#[expect(unsafe_code, reason = "the binding does not report that the allocation failed")]
fn allocate(format: Pixel, spec: &FilmSpec) -> Result<frame::Video> {
    let frame = frame::Video::new(format, spec.width, spec.height);
    // SAFETY: the frame is valid; only a pointer is compared. The binding does not report that the allocation
    // failed.
    if unsafe { (*frame.as_ptr()).data[0].is_null() } {
        return Err(Error::failed(format!("no memory for a frame of {}x{}", spec.width, spec.height)));
    }
    Ok(frame)
}

/// Copies rows of `width` bytes into a plane, whose rows are padded.
fn copy_plane(frame: &mut frame::Video, plane: usize, data: &[u8], width: usize) {
    let stride = frame.stride(plane);
    for (row, data) in frame.data_mut(plane).chunks_mut(stride).zip(data.chunks_exact(width)) {
        row[..width].copy_from_slice(data);
    }
}
