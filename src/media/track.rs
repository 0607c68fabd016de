//! A stream of a file: its encoder, and the timestamps of its packets.

use ffmpeg_next as ffmpeg;
use ffmpeg_next::{Packet, Rational, Rescale, codec, format};

use super::{FilmSpec, Format, encoder};

/// A stream and its encoder.
pub(super) struct Track {
    encoder: codec::encoder::Encoder,
    /// Its index in the file.
    stream: usize,
    times: Times,
    /// Frames sent to the encoder.
    pub(super) sent: usize,
    /// Packets written.
    pub(super) written: usize,
    /// End of the last packet, in ticks of the encoder.
    pub(super) end: i64,
}

/// How timestamps of an encoder map to those of a file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Times {
    /// Video: a packet per frame.
    Frames(Clock),
    /// Audio: packets of samples, with the encoder's durations.
    Samples {
        /// Seconds in a sample.
        tick: Rational,
        /// Samples of priming before the first one, in a file whose timestamps start with them. The decoder
        /// drops them.
        priming: i64,
        /// Whether the muxer shifts the timestamps itself.
        counted: bool,
    },
}

/// The presentation times of frames, in ticks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// Seconds in a tick.
    pub(super) tick: Rational,
    /// Ticks per frame: 1, but in a GIF, whose ticks are hundredths of a second.
    ticks: Rational,
}

impl Clock {
    pub(super) fn new(format: Format, spec: &FilmSpec) -> Self {
        let rate = encoder::frame_rate(spec);
        match format {
            Format::Gif => Self { tick: Rational(1, 100), ticks: (Rational(100, 1) / rate).reduce() },
            _ => Self { tick: rate.invert(), ticks: Rational(1, 1) },
        }
    }

    /// Start of frame `index`, rounded from the start of the film, so that errors do not add up.
    pub(super) fn time(self, index: usize) -> i64 {
        let (numerator, denominator) = (i64::from(self.ticks.0), i64::from(self.ticks.1));
        (index as i64 * numerator * 2 + denominator) / (denominator * 2)
    }

    pub(super) fn duration(self, index: usize) -> i64 {
        self.time(index + 1) - self.time(index)
    }
}

impl Times {
    /// Rescales the timestamps of packet `index` to the file's `unit`. Returns its end, in ticks of the
    /// encoder.
    fn stamp(self, packet: &mut Packet, unit: Rational, index: usize) -> i64 {
        match self {
            Self::Frames(clock) => {
                // Not every encoder sets the duration, without which the track would end before its last
                // frame.
                packet.set_duration(clock.duration(index));
                packet.rescale_ts(clock.tick, unit);
                clock.time(index + 1)
            }
            Self::Samples { tick, priming, counted } => {
                let start = packet.pts().unwrap_or_default();
                let end = start + packet.duration();
                // Round the sum, not its terms: timestamps of a WebM are milliseconds.
                let added = if counted { priming.rescale(tick, unit) } else { 0 };
                let time = (start + priming).rescale(tick, unit) - added;
                packet.set_duration(packet.duration().rescale(tick, unit));
                packet.set_pts(Some(time));
                packet.set_dts(Some(time));
                end
            }
        }
    }
}

impl Track {
    /// The stream of index `stream`, from `encoder`.
    pub(super) fn new(stream: usize, encoder: codec::encoder::Encoder, times: Times) -> Self {
        Self { encoder, stream, times, sent: 0, written: 0, end: 0 }
    }

    pub(super) fn send(
        &mut self,
        frame: &ffmpeg::Frame,
        output: &mut format::context::Output,
    ) -> Result<(), ffmpeg::Error> {
        self.encoder.send_frame(frame)?;
        self.sent += 1;
        self.write(output)
    }

    /// Flushes the encoder.
    pub(super) fn finish(&mut self, output: &mut format::context::Output) -> Result<(), ffmpeg::Error> {
        self.encoder.send_eof()?;
        self.write(output)
    }

    /// Writes the packets that the encoder has ready.
    fn write(&mut self, output: &mut format::context::Output) -> Result<(), ffmpeg::Error> {
        let unit = output.stream(self.stream).ok_or(ffmpeg::Error::StreamNotFound)?.time_base();
        let mut packet = Packet::empty();
        loop {
            match self.encoder.receive_packet(&mut packet) {
                Err(ffmpeg::Error::Eof | ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }) => return Ok(()),
                result => result?,
            }
            self.end = self.end.max(self.times.stamp(&mut packet, unit, self.written));
            packet.set_stream(self.stream);
            packet.write_interleaved(output)?;
            self.written += 1;
        }
    }
}
