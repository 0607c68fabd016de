//! Films and pictures: what is written, read back with FFmpeg's own programs.

mod fps;
mod pictures;
mod sheet;
mod support;
mod wav;
mod yuv;

#[cfg(feature = "ffmpeg")]
mod films;
mod frames;
#[cfg(feature = "ffmpeg")]
mod sound;
