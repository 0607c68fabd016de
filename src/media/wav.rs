//! Sound beside frames: WAV with 32-bit floating-point samples.
//!
//! Frames are lossless, and so is this: 16 bits would clip peaks, and leave a quiet sound, at 1 % of full
//! scale, with an error of a thousandth of it.

use std::io::Write;

use crate::audio::Waveform;
use crate::error::{Context, Error, Result};

/// Samples in IEEE 754 format (RFC 2361, appendix A).
const FLOAT: u16 = 3;
const BYTES: usize = size_of::<f32>();
/// Bytes before the samples that the file's size field counts: `WAVE`, `fmt ` with an empty extension,
/// `fact`, `data`.
const HEAD: u32 = 4 + (8 + 18) + (8 + 4) + 8;

/// Writes a sound.
///
/// # Errors
/// A sound too long for the format, which counts its bytes in 32 bits, or a failed write.
pub(super) fn write(mut to: impl Write, sound: &Waveform) -> Result<()> {
    let failed = || "cannot write the sound";
    let (samples, channels) = (sound.len(), sound.channels.len());
    let size = (samples as u64 * (channels * BYTES) as u64).try_into().ok();
    let size: u32 = size.filter(|size: &u32| *size <= u32::MAX - HEAD).ok_or_else(|| {
        Error::usage(format!("a WAV file cannot hold {samples} samples of {channels} channels")).hint("-o film.mp4")
    })?;
    let frame = (channels * BYTES) as u16;
    let mut head = Vec::new();
    head.extend(b"RIFF");
    head.extend((HEAD + size).to_le_bytes());
    head.extend(b"WAVEfmt ");
    head.extend(18_u32.to_le_bytes());
    head.extend([FLOAT, channels as u16].map(u16::to_le_bytes).concat());
    head.extend([sound.rate, sound.rate * u32::from(frame)].map(u32::to_le_bytes).concat());
    head.extend([frame, 8 * BYTES as u16, 0].map(u16::to_le_bytes).concat());
    head.extend(b"fact");
    head.extend([4, samples as u32].map(u32::to_le_bytes).concat());
    head.extend(b"data");
    head.extend(size.to_le_bytes());
    to.write_all(&head).context(failed)?;
    for index in 0..samples {
        for channel in &sound.channels {
            to.write_all(&channel[index].to_le_bytes()).context(failed)?;
        }
    }
    to.flush().context(failed)
}
