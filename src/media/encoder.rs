//! FFmpeg's video encoders per format, the best first, with their settings.

use std::sync::Once;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::{Dictionary, Rational, codec, color, format::Pixel};

use super::{FilmSpec, Format};
use crate::error::{Error, Result};

/// An encoder that can write a format, and its settings.
pub(super) struct Candidate {
    /// FFmpeg's name for it.
    pub(super) name: &'static str,
    /// The codec that it writes.
    pub(super) codec: &'static str,
    /// FFmpeg's options: decoded frames differ from the originals by at most 2.5 of 255 levels on average.
    options: &'static [(&'static str, &'static str)],
    /// Bits per pixel, for encoders without a quality setting.
    bits: Option<f64>,
}

/// A fixed number of threads: the output of x264 and libvpx depends on it, and a film should be the same
/// everywhere.
const THREADS: (&str, &str) = ("threads", "4");

// Both first choices have a limited lookahead: each of its frames takes several times its size in memory, and
// files are no larger without. x264's threads share one frame by slices, instead of four frames.
const H264: &[Candidate] = &[
    Candidate {
        name: "libx264",
        codec: "H.264",
        options: &[
            ("preset", "medium"),
            ("crf", "12"),
            ("x264-params", "cpu-independent=1:rc-lookahead=8:sync-lookahead=0:sliced-threads=1"),
            THREADS,
        ],
        bits: None,
    },
    Candidate {
        name: "h264_nvenc",
        codec: "H.264",
        options: &[("preset", "p5"), ("rc", "constqp"), ("qp", "16")],
        bits: None,
    },
    Candidate { name: "h264_videotoolbox", codec: "H.264", options: &[("profile", "high")], bits: Some(0.5) },
    Candidate { name: "libopenh264", codec: "H.264", options: &[THREADS], bits: Some(0.5) },
    Candidate {
        name: "mpeg4",
        codec: "MPEG-4 part 2",
        // 118 is the finest quantiser, 1, in units of FF_QP2LAMBDA.
        options: &[("flags", "+qscale"), ("global_quality", "118"), ("qmin", "1")],
        bits: None,
    },
];

const WEBM: &[Candidate] = &[
    Candidate {
        name: "libvpx-vp9",
        codec: "VP9",
        options: &[
            ("crf", "9"),
            ("b", "0"),
            ("deadline", "good"),
            ("cpu-used", "4"),
            ("row-mt", "1"),
            ("lag-in-frames", "12"),
            THREADS,
        ],
        bits: None,
    },
    Candidate { name: "libsvtav1", codec: "AV1", options: &[("crf", "6"), ("preset", "8")], bits: None },
    Candidate { name: "libaom-av1", codec: "AV1", options: &[("crf", "6"), ("b", "0"), ("cpu-used", "6")], bits: None },
];

const GIF: &[Candidate] = &[Candidate { name: "gif", codec: "GIF", options: &[], bits: None }];

/// The encoders that can write `format`, the best first.
pub(super) fn candidates(format: Format) -> &'static [Candidate] {
    match format {
        Format::Mp4 | Format::Mov => H264,
        Format::Webm => WEBM,
        Format::Gif => GIF,
        Format::Frames => &[],
    }
}

/// An opened encoder, and what `Written::codec` calls it.
pub(super) struct Opened {
    pub(super) encoder: codec::encoder::Encoder,
    pub(super) name: String,
}

/// Opens the first encoder that works: those that are not compiled in, or whose hardware is missing, are
/// skipped.
///
/// `time_base` is the unit of timestamps; `header` is whether the container stores the codec's parameters.
///
/// # Errors
/// When none opens, or not the requested one: with the reason of each.
pub(super) fn open(format: Format, spec: &FilmSpec, time_base: Rational, header: bool) -> Result<Opened> {
    prepare();
    let mut reasons = Vec::new();
    let wanted = |candidate: &&Candidate| spec.encoder.as_deref().is_none_or(|name| name == candidate.name);
    for candidate in candidates(format).iter().filter(wanted) {
        match candidate.open(format, spec, time_base, header) {
            Ok(encoder) => {
                let name = format!("{} ({})", candidate.codec, candidate.name);
                return Ok(Opened { encoder: encoder.0.0, name });
            }
            Err(cause) => reasons.push(format!("{}: {cause}", candidate.name)),
        }
    }
    let names: Vec<_> = candidates(format).iter().map(|candidate| candidate.name).collect();
    let (what, hint) = match &spec.encoder {
        Some(name) if reasons.is_empty() => (format!("`{name}` does not write such a film"), names.join(", ")),
        Some(name) => (format!("the encoder `{name}` does not work here"), "leave the choice to talkie".to_owned()),
        None => (
            "the installed FFmpeg has no encoder for such a film that works here".to_owned(),
            format!("install an FFmpeg with {}, or write PNG frames: -o frames/", names.join(" or ")),
        ),
    };
    let error = Error::failed(what).hint(hint);
    Err(if reasons.is_empty() { error } else { error.because(reasons.join("; ")) })
}

impl Candidate {
    /// The encoder, if the local FFmpeg was built with it. It may still fail to open.
    pub(super) fn find(&self) -> Option<ffmpeg::Codec> {
        codec::encoder::find_by_name(self.name)
    }

    fn open(
        &self,
        format: Format,
        spec: &FilmSpec,
        time_base: Rational,
        header: bool,
    ) -> Result<codec::encoder::video::Encoder, ffmpeg::Error> {
        let codec = self.find().ok_or(ffmpeg::Error::EncoderNotFound)?;
        let mut context = codec::Context::new_with_codec(codec);
        context.set_time_base(time_base);
        context.set_frame_rate(Some(frame_rate(spec)));
        if header {
            context.set_flags(codec::Flags::GLOBAL_HEADER);
        }
        let mut encoder = context.encoder().video()?;
        encoder.set_width(spec.width);
        encoder.set_height(spec.height);
        encoder.set_aspect_ratio((1, 1));
        let mut options: Dictionary = self.options.iter().collect();
        if format == Format::Gif {
            encoder.set_format(Pixel::PAL8);
        } else {
            encoder.set_format(Pixel::YUV420P);
            encoder.set_colorspace(color::Space::BT709);
            encoder.set_color_range(color::Range::MPEG);
            encoder.set_color_primaries(color::Primaries::BT709);
            encoder.set_color_transfer_characteristic(color::TransferCharacteristic::BT709);
            options.set("chroma_sample_location", "left");
        }
        if let Some(bits) = self.bits {
            let pixels = f64::from(spec.width) * f64::from(spec.height) * spec.fps.as_f64();
            encoder.set_bit_rate((pixels * bits) as usize);
        }
        encoder.open_with(options)
    }
}

/// The frames per second as FFmpeg's fraction.
pub(super) fn frame_rate(spec: &FilmSpec) -> Rational {
    // Both are below 2³¹: at most 240 · 100000.
    Rational::new(spec.fps.numerator() as i32, spec.fps.denominator() as i32)
}

/// Fills the binding's table of error texts, and silences FFmpeg's own log.
pub(super) fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        ffmpeg::error::register_all();
        ffmpeg::log::set_level(ffmpeg::log::Level::Quiet);
    });
}
