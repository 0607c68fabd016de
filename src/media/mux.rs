//! The muxer of a file, and the tracks in it.

use std::fmt;
use std::path::{Path, PathBuf};

use ffmpeg_next as ffmpeg;
use ffmpeg_next::{Dictionary, format};

use super::encoder::{self, Opened};
use super::sound::{self, Soundtrack};
use super::track::{Clock, Times, Track};
use super::{FilmSpec, Format, gif, picture, webm};
use crate::audio::Waveform;
use crate::error::{Context, Error, Result};
use crate::files::atomic::{AtomicFile, DISK, Sign};

/// A file that is being written. [`Mux::create`] writes the header, which needs every stream.
pub(super) struct Mux {
    // Declared before `part`: the file is closed before it is removed.
    output: format::context::Output,
    video: Track,
    clock: Clock,
    sound: Option<Soundtrack>,
    part: AtomicFile,
    path: PathBuf,
    format: Format,
    spec: FilmSpec,
    codec: String,
}

impl Mux {
    /// Opens the temporary file and an encoder for each stream, and writes the header.
    ///
    /// `sound` is as long as the film; a format without audio ignores it.
    ///
    /// # Errors
    /// When the folder cannot be written or no encoder opens.
    pub(super) fn create(path: &Path, format: Format, spec: &FilmSpec, sound: Option<Waveform>) -> Result<Self> {
        encoder::prepare();
        let part = AtomicFile::file(path)?;
        let failed = || format!("cannot begin {}", path.display());
        // `file:` because FFmpeg would take a name with a colon for a protocol.
        let name = part.path().to_str().map(|name| format!("file:{name}")).ok_or_else(|| {
            Error::usage(format!("FFmpeg takes only names in Unicode: {}", path.display())).hint("-o film.mp4")
        })?;
        let mut output = format::output_as(&name, muxer(format)).context(failed)?;
        let clock = Clock::new(format, spec);
        let header = output.format().flags().contains(format::Flags::GLOBAL_HEADER);
        let Opened { encoder, name: mut codec } = encoder::open(format, spec, clock.tick, header)?;
        let mut stream = output.add_stream_with(&encoder).context(failed)?;
        stream.set_time_base(clock.tick);
        stream.set_rate(encoder::frame_rate(spec));
        stream.set_avg_frame_rate(encoder::frame_rate(spec));
        let video = Track::new(stream.index(), encoder, Times::Frames(clock));
        let options = header_options(format, spec, clock, sound.as_ref().map(|sound| sound.rate));
        let sound = match sound.zip(sound::encoder(format)) {
            Some((waveform, encoder)) => {
                codec = format!("{codec}, {}", encoder.label());
                Some(Soundtrack::add(&mut output, format, encoder, waveform)?)
            }
            None => None,
        };
        output.set_metadata([("comment", spec.recipe.as_str())].into_iter().collect());
        output.write_header_with(options).map(drop).context(failed)?;
        Ok(Self { output, video, clock, sound, part, path: path.to_owned(), format, spec: spec.clone(), codec })
    }

    /// Adds the next frame, interleaved 8-bit RGB of the film's size, and the audio up to its end.
    ///
    /// # Errors
    /// When an encoder or the disk fails.
    pub(super) fn push_video(&mut self, rgb: &[u8]) -> Result<()> {
        let index = self.video.sent;
        let mut frame = match self.format {
            Format::Gif => picture::indexed_frame(rgb, &self.spec)?,
            _ => picture::yuv_frame(rgb, &self.spec)?,
        };
        frame.set_pts(Some(self.clock.time(index)));
        let until = |rate| self.spec.fps.samples(index + 1, rate);
        let sounded = self.sound.as_mut().map_or(Ok(()), |sound| sound.push(until(sound.rate()), &mut self.output));
        sounded.and_then(|()| self.video.send(&frame, &mut self.output)).map_err(|cause| self.failed(cause))
    }

    /// Writes the pending packets and the index, and renames the file to `path`. Returns codecs and encoders.
    ///
    /// # Errors
    /// When an encoder or the disk fails: then the file is removed.
    pub(super) fn finish(mut self, path: &Path, sign: Sign<'_>) -> Result<String> {
        self.end().map_err(|cause| self.failed(cause))?;
        if self.video.written != self.video.sent {
            let (sent, written) = (self.video.sent, self.video.written);
            let what = format!("the encoder `{}` gave {written} frames back for {sent}", self.codec);
            return Err(Error::failed(what).hint("another encoder, or -o frames/"));
        }
        self.sound.as_ref().map_or(Ok(()), Soundtrack::check)?;
        drop(self.output);
        if self.format == Format::Gif {
            gif::add_comment(self.part.path(), &self.spec.recipe)
                .context(|| format!("cannot write the recipe into {}", self.path.display()))?;
        }
        if self.format == Format::Webm && self.sound.is_some() {
            webm::set_duration(self.part.path(), self.spec.fps.seconds(self.spec.frames))
                .context(|| format!("cannot write the duration into {}", self.path.display()))?;
        }
        self.part.commit_signed(path, sign)?;
        Ok(self.codec)
    }

    /// Ends the streams and the file.
    fn end(&mut self) -> Result<(), ffmpeg::Error> {
        self.video.finish(&mut self.output)?;
        if let Some(sound) = &mut self.sound {
            sound.finish(&mut self.output)?;
        }
        self.output.write_trailer()
    }

    fn failed(&self, cause: ffmpeg::Error) -> Error {
        let error = Error::failed(format!("cannot write {}", self.path.display())).because(cause);
        match cause {
            // An error of the operating system: the disk, not the encoder.
            ffmpeg::Error::Other { errno } if errno != ffmpeg::error::ENOMEM => error.hint(DISK),
            _ => error,
        }
    }
}

impl fmt::Debug for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mux").field("path", &self.path).field("codec", &self.codec).finish_non_exhaustive()
    }
}

/// FFmpeg's name for the muxer.
fn muxer(format: Format) -> &'static str {
    match format {
        Format::Mov => "mov",
        Format::Webm => "webm",
        Format::Gif => "gif",
        Format::Mp4 | Format::Frames => "mp4",
    }
}

/// Options of the muxer. `rate` is that of the audio, if any.
fn header_options(format: Format, spec: &FilmSpec, clock: Clock, rate: Option<u32>) -> Dictionary<'static> {
    let mut options = Dictionary::new();
    // No random identifiers and no version of FFmpeg: the same frames make the same file.
    options.set("fflags", "+bitexact");
    match format {
        Format::Mp4 | Format::Mov => {
            // One timescale for the movie and its track, in which a frame is an integer: durations are exact.
            // At least 10000, because FFmpeg would otherwise raise that of the track alone.
            let mut scale = spec.fps.numerator();
            while scale < 10_000 {
                scale *= 2;
            }
            options.set("video_track_timescale", &scale.to_string());
            options.set("movie_timescale", &rate.map_or(scale, |rate| common(scale, rate)).to_string());
            options.set("movflags", "+faststart");
        }
        Format::Gif => options.set("final_delay", &clock.duration(spec.frames - 1).to_string()),
        Format::Webm | Format::Frames => {}
    }
    options
}

/// Most units per second of a movie: its duration is a 32-bit number in most players.
const MAX_SCALE: u32 = 10_000_000;

/// A timescale in which a video tick and an audio sample are integers, so that edit lists are exact; that of
/// the video alone if it would be too fine.
fn common(scale: u32, rate: u32) -> u32 {
    let (mut a, mut b) = (scale, rate);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    scale.checked_mul(rate / a).filter(|common| *common <= MAX_SCALE).unwrap_or(scale)
}
