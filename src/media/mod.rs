//! Films and pictures: the only files that mention FFmpeg.
//!
//! [`Film`] takes a sound, then frames one by one, and writes what the ending of the name asks for. [`read`] finds the
//! recipe in a film again, [`image`] reads and writes single pictures. Without the feature `ffmpeg` a film is a folder of
//! frames.

pub mod image;
pub mod palette;
pub mod read;
pub mod yuv;

#[cfg(feature = "ffmpeg")]
mod encoder;
mod frames;
#[cfg(feature = "ffmpeg")]
mod gif;
#[cfg(feature = "ffmpeg")]
mod mux;
#[cfg(feature = "ffmpeg")]
mod picture;
#[cfg(feature = "ffmpeg")]
mod recompress;
mod resize;
mod sheet;
#[cfg(feature = "ffmpeg")]
mod sound;
#[cfg(feature = "ffmpeg")]
mod track;
mod wav;
#[cfg(feature = "ffmpeg")]
mod webm;

use std::path::{Path, PathBuf};

pub use image::{Rgb, check_png, fit, read_image, write_png};
pub use read::{EncoderInfo, comment, encoders, ffmpeg_version};
#[cfg(feature = "ffmpeg")]
pub use recompress::recompress;
pub use resize::Filter;
pub use sheet::Sheet;

use crate::audio::Waveform;
use crate::error::{Error, Result};
use crate::files::atomic::{self, Sign};
use crate::fps::Fps;

/// What a film is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// H.264 and AAC in `.mp4`.
    Mp4,
    /// H.264 and AAC in `.mov`.
    Mov,
    /// VP9 and Opus in `.webm`.
    Webm,
    /// An animation of 256 colours a frame that repeats for ever, without sound.
    Gif,
    /// A folder of numbered PNG files, and `audio.wav`.
    Frames,
}

impl Format {
    /// Chosen by the ending of `path`. A name without one, one that ends in `/` and a folder that is there mean frames.
    ///
    /// # Errors
    /// A usage error on an unknown ending, which lists those that are known.
    pub fn of(path: &Path) -> Result<Self> {
        let text = path.as_os_str().to_string_lossy();
        if text.is_empty() {
            return Err(Error::usage("the output has no name").hint("-o film.mp4"));
        }
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            _ if text.ends_with(std::path::is_separator) || path.is_dir() => Ok(Self::Frames),
            None => Ok(Self::Frames),
            Some("mp4") => Ok(Self::Mp4),
            Some("mov") => Ok(Self::Mov),
            Some("webm") => Ok(Self::Webm),
            Some("gif") => Ok(Self::Gif),
            Some(other) => Err(Error::usage(format!("no film can be written as `.{other}`: {}", path.display()))
                .hint("end the name in .mp4, .mov, .webm or .gif, or in / for a folder of PNG frames")),
        }
    }

    /// Whether there is a place for sound in it.
    pub fn has_sound(self) -> bool {
        self != Self::Gif
    }
}

/// What a film will be, known before its first frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilmSpec {
    /// Pixels in a row: even, but for GIF and frames.
    pub width: u32,
    /// Rows: even, but for GIF and frames.
    pub height: u32,
    /// Frames per second.
    pub fps: Fps,
    /// How many frames will be pushed.
    pub frames: usize,
    /// What the film was made from: it becomes the `comment` tag, or `recipe.json` beside frames.
    pub recipe: String,
    /// The encoder to use, by FFmpeg's name for it (`libx264`, `h264_nvenc`, …); `None` for the best that opens.
    pub encoder: Option<String>,
}

/// A film that was finished.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The file or folder.
    pub path: PathBuf,
    /// How many frames it has.
    pub frames: usize,
    /// How long it lasts.
    pub seconds: f64,
    /// Codecs and encoders, as `H.264 (libx264), AAC (aac)`; `PNG` or `PNG, WAV` for a folder of frames.
    pub codec: String,
}

/// A film that is being written. Frames are encoded as they come, so memory does not grow with their number.
///
/// Until [`Film::finish`] everything is under another name in the same folder; a film dropped before leaves nothing.
#[derive(Debug)]
pub struct Film {
    writer: Writer,
    path: PathBuf,
    spec: FilmSpec,
    pushed: usize,
    /// A write failed: what is there cannot become a film.
    broken: bool,
}

#[derive(Debug)]
enum Writer {
    Frames(frames::Folder),
    #[cfg(feature = "ffmpeg")]
    Container(Box<mux::Mux>),
}

impl Film {
    /// Begins a film at `path`, whose ending decides the [`Format`].
    ///
    /// `sound` is its soundtrack, the first sample with the first frame. It is cut, or goes on in silence, to where the
    /// last frame ends; a format without sound leaves it out.
    ///
    /// Proves before any frame is computed that the folder is there and can be written, and that the encoders open:
    /// create and drop one to check a request.
    ///
    /// # Errors
    /// A usage error for an unknown ending, a size or rate that the format cannot have, or a folder that is not there.
    /// A failure when nothing can be written there, FFmpeg has no encoder for it, or `sound` is none
    /// ([`Waveform::check`]).
    pub fn create(path: &Path, spec: &FilmSpec, sound: Option<&Waveform>) -> Result<Self> {
        let format = Format::of(path)?;
        check(format, spec)?;
        let sound = sound.filter(|_| format.has_sound()).map(|sound| fitted(sound, spec)).transpose()?;
        let writer = match format {
            Format::Frames => Writer::Frames(frames::Folder::create(path, &spec.recipe, sound.as_ref())?),
            _ => container(path, format, spec, sound)?,
        };
        Ok(Self { writer, path: path.to_owned(), spec: spec.clone(), pushed: 0, broken: false })
    }

    /// Adds the next frame: `height` rows of `width` pixels, interleaved 8-bit RGB.
    ///
    /// # Errors
    /// When `rgb` is not `width · height · 3` bytes, there are more frames than were announced, or the disk or the
    /// encoder fails. After that the film cannot be finished.
    pub fn push(&mut self, rgb: &[u8]) -> Result<()> {
        let (width, height) = (self.spec.width, self.spec.height);
        let result = if rgb.len() as u64 != u64::from(width) * u64::from(height) * 3 {
            let what = format!("frame {} has {} bytes, not the {width}x{height}x3 of the film", self.pushed, rgb.len());
            Err(Error::failed(what))
        } else if self.pushed == self.spec.frames {
            Err(Error::failed(format!("more frames came than the {} that were announced", self.pushed)))
        } else {
            match &mut self.writer {
                Writer::Frames(folder) => folder.push(rgb, width, height),
                #[cfg(feature = "ffmpeg")]
                Writer::Container(mux) => mux.push_video(rgb),
            }
        };
        match &result {
            Ok(()) => self.pushed += 1,
            Err(_) => self.broken = true,
        }
        result
    }

    /// Gives the film another name in the same folder.
    #[must_use]
    pub fn renamed(self, path: PathBuf) -> Self {
        Self { path, ..self }
    }

    /// Writes what the encoder still holds, and gives the film its name. What had that name is replaced only now.
    ///
    /// # Errors
    /// When frames are missing, or the disk or the encoder fails: then nothing is left, and an older film is untouched.
    pub fn finish(self) -> Result<Written> {
        self.finish_signed(&atomic::unsigned)
    }

    /// As [`Film::finish`], with a signature put on the closed file before it has its name.
    ///
    /// # Errors
    /// As [`Film::finish`], and what `sign` answers.
    pub fn finish_signed(self, sign: Sign<'_>) -> Result<Written> {
        let expected = self.spec.frames;
        if self.broken {
            return Err(Error::failed(format!("a frame could not be written: {}", self.path.display())));
        }
        if self.pushed != expected {
            let what = format!("the film has {} frames, not {expected}: {}", self.pushed, self.path.display());
            return Err(Error::failed(what));
        }
        let codec = match self.writer {
            Writer::Frames(folder) => folder.finish(&self.path, sign),
            #[cfg(feature = "ffmpeg")]
            Writer::Container(mux) => mux.finish(&self.path, sign),
        }?;
        Ok(Written { path: self.path, frames: expected, seconds: self.spec.fps.seconds(expected), codec })
    }
}

/// The frames in a second that a GIF can show: players take a delay below 2/100 s for 1/10 s.
const GIF_FPS: f64 = 50.0;
/// The longest side that a codec here takes.
const MAX_SIDE: u32 = 16384;
/// The length of QuickTime's text is a 16-bit number.
const MOV_RECIPE: usize = u16::MAX as usize;

/// Refuses what `format` cannot hold.
fn check(format: Format, spec: &FilmSpec) -> Result<()> {
    let FilmSpec { width, height, fps, .. } = *spec;
    if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
        return Err(Error::usage(format!("a film cannot have {width}x{height} pixels"))
            .hint(format!("sides from 1 to {MAX_SIDE}")));
    }
    if spec.frames == 0 {
        return Err(Error::usage("a film needs at least one frame"));
    }
    if spec.recipe.contains('\0') {
        return Err(Error::usage("the recipe has a zero byte in it, which no film can carry"));
    }
    match format {
        Format::Mp4 | Format::Mov | Format::Webm if width % 2 + height % 2 > 0 => {
            Err(Error::usage(format!("{width}x{height} cannot be encoded: both sides must be even"))
                .hint("another --size, or -o frames/"))
        }
        Format::Mov if spec.recipe.len() > MOV_RECIPE => {
            Err(Error::usage(format!("a .mov cannot carry a recipe of {} bytes", spec.recipe.len()))
                .hint("-o film.mp4"))
        }
        Format::Gif if fps.as_f64() > GIF_FPS => {
            Err(Error::usage(format!("a GIF cannot show {fps} frames in a second"))
                .hint(format!("--fps {GIF_FPS} or less, or -o film.mp4")))
        }
        _ => Ok(()),
    }
}

/// A sound as long as the film, to the nearest sample.
fn fitted(sound: &Waveform, spec: &FilmSpec) -> Result<Waveform> {
    sound.check()?;
    check_channels(sound.channels.len())?;
    Ok(sound.fitted(spec.fps.samples(spec.frames, sound.rate)))
}

/// Tries a sound of so many samples a second and channels: whether a film at `path` can carry it. For a plan, before any
/// sound is made. A format without sound takes everything.
///
/// # Errors
/// A usage error for a rate or a number of channels that the film cannot have, a failure when FFmpeg has no encoder for it.
pub fn check_sound(path: &Path, rate: u32, channels: usize) -> Result<()> {
    let format = Format::of(path)?;
    if !format.has_sound() {
        return Ok(());
    }
    Waveform { rate, channels: vec![Vec::new(); channels] }.check()?;
    check_channels(channels)?;
    encode_sound(format, rate, channels)
}

fn check_channels(channels: usize) -> Result<()> {
    match channels {
        1 | 2 => Ok(()),
        _ => Err(Error::usage(format!("a film here is mono or stereo: it cannot have {channels} channels of sound"))
            .hint("`--no-sound`")),
    }
}

#[cfg(feature = "ffmpeg")]
fn encode_sound(format: Format, rate: u32, channels: usize) -> Result<()> {
    encoder::prepare();
    sound::encoder(format).map_or(Ok(()), |encoder| encoder.open(rate, channels, true).map(drop))
}

#[cfg(not(feature = "ffmpeg"))]
#[expect(clippy::unnecessary_wraps, reason = "with FFmpeg it can fail")]
fn encode_sound(_: Format, _: u32, _: usize) -> Result<()> {
    Ok(())
}

#[cfg(feature = "ffmpeg")]
fn container(path: &Path, format: Format, spec: &FilmSpec, sound: Option<Waveform>) -> Result<Writer> {
    mux::Mux::create(path, format, spec, sound).map(Box::new).map(Writer::Container)
}

#[cfg(not(feature = "ffmpeg"))]
fn container(path: &Path, _: Format, _: &FilmSpec, _: Option<Waveform>) -> Result<Writer> {
    Err(read::without_ffmpeg(&format!("cannot write {}", path.display())))
}
