//! The audio track of a file: AAC in mp4 and mov, Opus in webm.

use ffmpeg_next as ffmpeg;
use ffmpeg_next::format::sample::{Sample, Type};
use ffmpeg_next::{ChannelLayout, Rational, codec, format, frame};

use super::Format;
use super::track::{Times, Track};
use crate::audio::Waveform;
use crate::error::{Context, Error, Result};

/// An audio encoder and its settings.
pub(super) struct SoundEncoder {
    /// FFmpeg's name for it.
    pub(super) name: &'static str,
    /// The codec that it writes.
    pub(super) codec: &'static str,
    /// Supported sampling rates, in Hz.
    rates: &'static [u32],
    /// The sample format.
    sample: Sample,
    /// Most bits per second of one channel, and per sample. Small beside the video.
    bits: (u32, u32),
}

/// Rates of ISO 14496-3, table 1.18. Every FFmpeg has this encoder.
const AAC: SoundEncoder = SoundEncoder {
    name: "aac",
    codec: "AAC",
    rates: &[96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350],
    sample: Sample::F32(Type::Planar),
    bits: (160_000, 4),
};

/// Rates of RFC 6716 §2. FFmpeg's own encoder `opus` is experimental and worse.
const OPUS: SoundEncoder = SoundEncoder {
    name: "libopus",
    codec: "Opus",
    rates: &[48_000, 24_000, 16_000, 12_000, 8_000],
    sample: Sample::F32(Type::Packed),
    bits: (96_000, 8),
};

/// The rate of Opus's priming, for all input rates (RFC 7845 §4.2).
const OPUS_RATE: i64 = 48_000;

/// The audio encoder of a `format`; `None` if it has no audio track.
pub(super) fn encoder(format: Format) -> Option<&'static SoundEncoder> {
    match format {
        Format::Mp4 | Format::Mov => Some(&AAC),
        Format::Webm => Some(&OPUS),
        Format::Gif | Format::Frames => None,
    }
}

impl SoundEncoder {
    /// The encoder, if the local FFmpeg was built with it.
    pub(super) fn find(&self) -> Option<ffmpeg::Codec> {
        codec::encoder::find_by_name(self.name)
    }

    /// Its text in [`Written::codec`](super::Written::codec).
    pub(super) fn label(&self) -> String {
        format!("{} ({})", self.codec, self.name)
    }

    /// Opens it for mono or stereo; `header` is whether the container stores the codec's parameters.
    ///
    /// # Errors
    /// A usage error for an unsupported rate, a failure if this FFmpeg lacks the encoder or it does not open.
    pub(super) fn open(&self, rate: u32, channels: usize, header: bool) -> Result<codec::encoder::audio::Encoder> {
        if !self.rates.contains(&rate) {
            let rates: Vec<_> = self.rates.iter().map(u32::to_string).collect();
            let what = format!("{} cannot carry a sound of {rate} samples a second", self.codec);
            return Err(Error::usage(what).because(format!("it takes {}", rates.join(", "))).hint(
                "another ending than this one, frames with a WAV file beside them (-o frames/), or `--no-sound`",
            ));
        }
        let codec = self.find().ok_or_else(|| {
            Error::failed(format!("the installed FFmpeg has no encoder `{}` for the sound", self.name))
                .hint(format!("install an FFmpeg with {}, another ending, or `--no-sound`", self.name))
        })?;
        let mut context = codec::Context::new_with_codec(codec);
        context.set_time_base(Rational(1, rate as i32));
        // No version of FFmpeg in the first packet: the same audio makes the same file.
        let flags = if header { codec::Flags::GLOBAL_HEADER } else { codec::Flags::empty() };
        context.set_flags(flags | codec::Flags::BITEXACT);
        let (second, sample) = self.bits;
        let failed = || format!("the encoder `{}` does not work here", self.name);
        let mut encoder = context.encoder().audio().context(failed)?;
        encoder.set_bit_rate(second.min(rate * sample) as usize * channels);
        encoder.set_rate(rate as i32);
        encoder.set_format(self.sample);
        encoder.set_channel_layout(layout(channels));
        encoder.open().context(failed)
    }
}

/// An audio track that is being written.
pub(super) struct Soundtrack {
    track: Track,
    waveform: Waveform,
    encoder: &'static SoundEncoder,
    /// Samples per frame of the codec.
    size: usize,
    /// Samples sent.
    at: usize,
}

impl Soundtrack {
    /// Adds a stream for `waveform`. The file will have every sample.
    ///
    /// # Errors
    /// As [`SoundEncoder::open`].
    pub(super) fn add(
        output: &mut format::context::Output,
        format: Format,
        encoder: &'static SoundEncoder,
        waveform: Waveform,
    ) -> Result<Self> {
        let header = output.format().flags().contains(format::Flags::GLOBAL_HEADER);
        let opened = encoder.open(waveform.rate, waveform.channels.len(), header)?;
        let tick = Rational(1, waveform.rate as i32);
        let mut stream = output.add_stream_with(&opened).context(|| "cannot add the soundtrack")?;
        stream.set_time_base(tick);
        let (priming, counted) = match format {
            Format::Webm => prime(&mut stream, &opened, waveform.rate),
            // An edit list skips the priming, which has negative timestamps.
            _ => (0, false),
        };
        let size = (opened.frame_size() as usize).max(1);
        let track = Track::new(stream.index(), opened.0.0, Times::Samples { tick, priming, counted });
        Ok(Self { track, waveform, encoder, size, at: 0 })
    }

    /// The sampling rate, in Hz.
    pub(super) fn rate(&self) -> u32 {
        self.waveform.rate
    }

    /// Encodes the samples before `until`, in whole frames of the codec.
    ///
    /// # Errors
    /// When the encoder or the disk fails.
    pub(super) fn push(&mut self, until: usize, output: &mut format::context::Output) -> Result<(), ffmpeg::Error> {
        let length = self.waveform.len();
        while self.at < until.min(length) {
            let end = (self.at + self.size).min(length);
            let mut frame = samples(&self.waveform, self.at..end, self.encoder.sample)?;
            frame.set_pts(Some(self.at as i64));
            self.track.send(&frame, output)?;
            self.at = end;
        }
        Ok(())
    }

    /// Encodes the rest.
    ///
    /// # Errors
    /// When the encoder or the disk fails.
    pub(super) fn finish(&mut self, output: &mut format::context::Output) -> Result<(), ffmpeg::Error> {
        self.push(self.waveform.len(), output)?;
        self.track.finish(output)
    }

    /// Checks that the encoder returned every sample.
    ///
    /// # Errors
    /// When it did not return all.
    pub(super) fn check(&self) -> Result<()> {
        let (sent, given) = (self.waveform.len(), self.track.end);
        if given == sent as i64 {
            return Ok(());
        }
        let what = format!("the encoder `{}` returned {given} samples for {sent}", self.encoder.name);
        Err(Error::failed(what).hint("another ending, -o frames/, or `--no-sound`"))
    }
}

/// The priming of Opus in a WebM, where timestamps start with it, and whether this FFmpeg shifts them itself.
///
/// FFmpeg before 6 does not: it delays the video by 7 ms instead; and it takes the priming for samples at 48
/// kHz, so that at other rates a player would drop too little.
#[expect(unsafe_code, reason = "the binding has no access to the priming")]
fn prime(
    stream: &mut format::stream::StreamMut<'_>,
    encoder: &codec::encoder::audio::Encoder,
    rate: u32,
) -> (i64, bool) {
    let counted = format::version() >> 16 >= 60;
    // SAFETY: the encoder is open, and the stream has parameters copied from it; both are borrowed here, and
    // only one number is read or written.
    unsafe {
        let priming = (*encoder.as_ptr()).initial_padding;
        if !counted {
            let parameters = (*stream.as_mut_ptr()).codecpar;
            (*parameters).initial_padding = (i64::from(priming) * OPUS_RATE / i64::from(rate)) as i32;
        }
        (i64::from(priming), counted)
    }
}

fn layout(channels: usize) -> ChannelLayout {
    if channels == 1 { ChannelLayout::MONO } else { ChannelLayout::STEREO }
}

/// A range of a waveform as a newly allocated frame: encoders may keep it for a while.
fn samples(waveform: &Waveform, part: std::ops::Range<usize>, sample: Sample) -> Result<frame::Audio, ffmpeg::Error> {
    let channels = waveform.channels.len();
    let mut frame = frame::Audio::new(sample, part.len(), layout(channels));
    frame.set_rate(waveform.rate);
    // The binding does not report that the allocation failed.
    if frame.planes() == 0 {
        return Err(ffmpeg::Error::Other { errno: ffmpeg::error::ENOMEM });
    }
    for (index, channel) in waveform.channels.iter().enumerate() {
        let channel = &channel[part.clone()];
        match sample {
            Sample::F32(Type::Packed) => {
                let places = frame.plane_mut::<f32>(0).iter_mut().skip(index).step_by(channels);
                places.zip(channel).for_each(|(place, sample)| *place = *sample);
            }
            _ => frame.plane_mut::<f32>(index).copy_from_slice(channel),
        }
    }
    Ok(frame)
}
