//! From frames to a file: each stream's encoder, and the muxer that they share.

use std::fmt;
use std::path::{Path, PathBuf};

use ffmpeg_next as ffmpeg;
use ffmpeg_next::{Dictionary, Packet, Rational, codec, color, format, format::Pixel, frame};

use super::encoder::{self, Opened};
use super::{FilmSpec, Format, gif, palette, yuv};
use crate::error::{Context, Error, Result};
use crate::part::{DISK, Part};

/// A file that is being written. The header, which needs every stream, is written by [`Mux::create`].
pub(super) struct Mux {
    // Before `part`: the file is closed before it is removed.
    output: format::context::Output,
    video: Track,
    part: Part,
    path: PathBuf,
    format: Format,
    spec: FilmSpec,
    codec: String,
}

/// One stream of the file, and its encoder.
struct Track {
    encoder: codec::encoder::Encoder,
    /// Its index in the file.
    stream: usize,
    clock: Clock,
    sent: usize,
    written: usize,
}

/// When frames are shown, in ticks.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// Seconds in a tick.
    tick: Rational,
    /// Ticks in a frame: 1, but in a GIF, whose ticks are hundredths of a second.
    ticks: Rational,
}

impl Clock {
    fn new(format: Format, spec: &FilmSpec) -> Self {
        let rate = encoder::frame_rate(spec);
        match format {
            Format::Gif => Self { tick: Rational(1, 100), ticks: (Rational(100, 1) / rate).reduce() },
            _ => Self { tick: rate.invert(), ticks: Rational(1, 1) },
        }
    }

    /// When frame `index` begins: rounded from the beginning of the film, so that no error adds up.
    fn time(self, index: usize) -> i64 {
        let (numerator, denominator) = (i64::from(self.ticks.0), i64::from(self.ticks.1));
        (index as i64 * numerator * 2 + denominator) / (denominator * 2)
    }

    fn duration(self, index: usize) -> i64 {
        self.time(index + 1) - self.time(index)
    }
}

impl Mux {
    /// Opens the file under its temporary name, an encoder, and writes the header.
    ///
    /// # Errors
    /// When the folder cannot be written or no encoder opens.
    pub(super) fn create(path: &Path, format: Format, spec: &FilmSpec) -> Result<Self> {
        encoder::prepare();
        let part = Part::file(path)?;
        let failed = || format!("cannot begin {}", path.display());
        // `file:` keeps a name with a colon from being taken for a protocol.
        let name = part.path().to_str().map(|name| format!("file:{name}")).ok_or_else(|| {
            Error::usage(format!("FFmpeg takes only names in Unicode: {}", path.display())).hint("-o film.mp4")
        })?;
        let mut output = format::output_as(&name, muxer(format)).context(failed)?;
        let clock = Clock::new(format, spec);
        let header = output.format().flags().contains(format::Flags::GLOBAL_HEADER);
        let Opened { encoder, name: codec } = encoder::open(format, spec, clock.tick, header)?;
        let video = Track::add(&mut output, encoder, clock, spec).context(failed)?;
        output.set_metadata([("comment", spec.recipe.as_str())].into_iter().collect());
        output.write_header_with(header_options(format, spec, clock)).map(drop).context(failed)?;
        Ok(Self { output, video, part, path: path.to_owned(), format, spec: spec.clone(), codec })
    }

    /// Adds the next frame: interleaved 8-bit RGB of the film's size.
    ///
    /// # Errors
    /// When the encoder or the disk fails.
    pub(super) fn push_video(&mut self, rgb: &[u8]) -> Result<()> {
        let index = self.video.sent;
        let mut frame = match self.format {
            Format::Gif => indexed_frame(rgb, &self.spec)?,
            _ => yuv_frame(rgb, &self.spec)?,
        };
        frame.set_pts(Some(self.video.clock.time(index)));
        self.video.send(&frame, &mut self.output).map_err(|cause| self.failed(cause))
    }

    /// Writes what is still held back, the index, and gives the file the name `path`. Returns codec and encoder.
    ///
    /// # Errors
    /// When the encoder or the disk fails: then the file is removed.
    pub(super) fn finish(mut self, path: &Path) -> Result<String> {
        let ended = self.video.end(&mut self.output).and_then(|()| self.output.write_trailer());
        ended.map_err(|cause| self.failed(cause))?;
        if self.video.written != self.video.sent {
            let (sent, written) = (self.video.sent, self.video.written);
            let what = format!("the encoder `{}` gave {written} frames back for {sent}", self.codec);
            return Err(Error::failed(what).hint("another encoder, or -o frames/"));
        }
        drop(self.output);
        if self.format == Format::Gif {
            gif::add_comment(self.part.path(), &self.spec.recipe)
                .context(|| format!("cannot write the recipe into {}", self.path.display()))?;
        }
        self.part.keep(path)?;
        Ok(self.codec)
    }

    fn failed(&self, cause: ffmpeg::Error) -> Error {
        let error = Error::failed(format!("cannot write {}", self.path.display())).because(cause);
        match cause {
            // A number of the operating system's: the disk, not the encoder.
            ffmpeg::Error::Other { .. } => error.hint(DISK),
            _ => error,
        }
    }
}

impl fmt::Debug for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mux").field("path", &self.path).field("codec", &self.codec).finish_non_exhaustive()
    }
}

impl Track {
    /// Adds a stream for what `encoder` makes.
    fn add(
        output: &mut format::context::Output,
        encoder: codec::encoder::Encoder,
        clock: Clock,
        spec: &FilmSpec,
    ) -> Result<Self, ffmpeg::Error> {
        let mut stream = output.add_stream_with(&encoder)?;
        stream.set_time_base(clock.tick);
        stream.set_rate(encoder::frame_rate(spec));
        stream.set_avg_frame_rate(encoder::frame_rate(spec));
        Ok(Self { stream: stream.index(), encoder, clock, sent: 0, written: 0 })
    }

    fn send(&mut self, frame: &ffmpeg::Frame, output: &mut format::context::Output) -> Result<(), ffmpeg::Error> {
        self.encoder.send_frame(frame)?;
        self.sent += 1;
        self.write(output)
    }

    fn end(&mut self, output: &mut format::context::Output) -> Result<(), ffmpeg::Error> {
        self.encoder.send_eof()?;
        self.write(output)
    }

    /// Writes every packet that the encoder has ready.
    fn write(&mut self, output: &mut format::context::Output) -> Result<(), ffmpeg::Error> {
        let unit = output.stream(self.stream).ok_or(ffmpeg::Error::StreamNotFound)?.time_base();
        let mut packet = Packet::empty();
        loop {
            match self.encoder.receive_packet(&mut packet) {
                Err(ffmpeg::Error::Eof | ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }) => return Ok(()),
                result => result?,
            }
            // Not every encoder sets it, and without it the track would end before its last frame.
            packet.set_duration(self.clock.duration(self.written));
            packet.set_stream(self.stream);
            packet.rescale_ts(self.clock.tick, unit);
            packet.write_interleaved(output)?;
            self.written += 1;
        }
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

fn header_options(format: Format, spec: &FilmSpec, clock: Clock) -> Dictionary<'static> {
    let mut options = Dictionary::new();
    // No random identifiers and no version of FFmpeg's: the same frames make the same file.
    options.set("fflags", "+bitexact");
    match format {
        Format::Mp4 | Format::Mov => {
            // The same unit for the movie and its track, in which a frame is a whole number: the durations are exact.
            // At least 10000, which FFmpeg would otherwise see to for the track alone.
            let mut scale = spec.fps.numerator();
            while scale < 10_000 {
                scale *= 2;
            }
            options.set("video_track_timescale", &scale.to_string());
            options.set("movie_timescale", &scale.to_string());
            options.set("movflags", "+faststart");
        }
        Format::Gif => options.set("final_delay", &clock.duration(spec.frames - 1).to_string()),
        Format::Webm | Format::Frames => {}
    }
    options
}

/// The frame as BT.709 4:2:0, with its tags.
fn yuv_frame(rgb: &[u8], spec: &FilmSpec) -> Result<frame::Video> {
    let picture = yuv::from_rgb(rgb, spec.width as usize);
    let mut frame = allocate(Pixel::YUV420P, spec)?;
    frame.set_color_space(color::Space::BT709);
    frame.set_color_range(color::Range::MPEG);
    frame.set_color_primaries(color::Primaries::BT709);
    frame.set_color_transfer_characteristic(color::TransferCharacteristic::BT709);
    let width = spec.width as usize;
    for (plane, (data, width)) in
        [(picture.y, width), (picture.cb, width / 2), (picture.cr, width / 2)].iter().enumerate()
    {
        copy_plane(&mut frame, plane, data, *width);
    }
    Ok(frame)
}

/// The frame in 256 colours of its own.
#[expect(unsafe_code, clippy::cast_ptr_alignment, reason = "the binding has no access to the palette of a frame")]
fn indexed_frame(rgb: &[u8], spec: &FilmSpec) -> Result<frame::Video> {
    let picture = palette::quantise(rgb, spec.width as usize);
    let mut frame = allocate(Pixel::PAL8, spec)?;
    copy_plane(&mut frame, 0, &picture.indices, spec.width as usize);
    let opaque = |[r, g, b]: [u8; 3]| u32::from_be_bytes([0xFF, r, g, b]);
    // Entries that no pixel uses repeat the last: a transparent one would make the encoder see through the frame.
    let last = picture.palette.last().copied().unwrap_or_default();
    let colours = picture.palette.into_iter().chain(std::iter::repeat(last)).map(opaque).take(256);
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

/// A frame with memory of its own: encoders may keep one for a while.
#[expect(unsafe_code, reason = "the binding does not report that the allocation failed")]
fn allocate(format: Pixel, spec: &FilmSpec) -> Result<frame::Video> {
    let frame = frame::Video::new(format, spec.width, spec.height);
    // SAFETY: the frame is valid; only a pointer is compared. The binding does not report that the allocation failed.
    match unsafe { (*frame.as_ptr()).data[0].is_null() } {
        true => Err(Error::failed(format!("no memory for a frame of {}x{}", spec.width, spec.height))),
        false => Ok(frame),
    }
}

/// Copies rows of `width` bytes into a plane, whose rows are padded.
fn copy_plane(frame: &mut frame::Video, plane: usize, data: &[u8], width: usize) {
    let stride = frame.stride(plane);
    for (row, data) in frame.data_mut(plane).chunks_mut(stride).zip(data.chunks_exact(width)) {
        row[..width].copy_from_slice(data);
    }
}
