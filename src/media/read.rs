//! The recipe in a film, and the encoders of the local FFmpeg.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::frames::RECIPE;
use crate::error::{Context, Error, Result};

/// Most bytes of a recipe: a longer file of that name was not written by talkie.
const MAX_RECIPE: u64 = 1 << 24;

/// An encoder of the local FFmpeg that films can be written with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderInfo {
    /// FFmpeg's name for it, as `libx264`.
    pub name: String,
    /// The codec that it writes, as `H.264`.
    pub codec: String,
    /// FFmpeg's description of it.
    pub description: String,
    /// File extensions that it is used for.
    pub endings: Vec<&'static str>,
}

/// The recipe in a film: the `comment` tag of a container, or `recipe.json` of a folder of frames or beside
/// one frame.
///
/// `None` when the film is readable and has none.
///
/// # Errors
/// When the file is missing, or not a readable film.
pub fn comment(path: &Path) -> Result<Option<String>> {
    if path.is_dir() {
        return recipe_file(&path.join(RECIPE));
    }
    let missing = |error: Error| error.hint("name a film, or a folder of frames");
    let file = File::open(path).context(|| format!("cannot open {}", path.display())).map_err(missing)?;
    match path.extension() {
        Some(ending) if ending.eq_ignore_ascii_case("png") => recipe_file(&path.with_file_name(RECIPE)),
        _ => container_comment(path, file),
    }
}

const NO_RECIPE: &str = "talkie did not write it: ask a film, or a folder of frames, that it made";

fn recipe_file(path: &Path) -> Result<Option<String>> {
    let failed = || format!("cannot read the recipe {}", path.display());
    if !path.exists() {
        return Ok(None);
    }
    let mut text = String::new();
    let length = File::open(path).and_then(|file| file.take(MAX_RECIPE + 1).read_to_string(&mut text));
    match length.context(failed).map_err(|error| error.hint(NO_RECIPE))? as u64 {
        0..=MAX_RECIPE => Ok(Some(text)),
        _ => Err(Error::failed(failed()).because("it is longer than any recipe").hint(NO_RECIPE)),
    }
}

/// Allowed demuxers. FFmpeg has more, among them playlists that open other files and hosts.
#[cfg(feature = "ffmpeg")]
const CONTAINERS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,gif";

#[cfg(feature = "ffmpeg")]
fn container_comment(path: &Path, file: File) -> Result<Option<String>> {
    use std::ffi::CStr;

    use ffmpeg_next::ffi;
    use ffmpeg_next::format::{context::StreamIo, input_from_stream};

    super::encoder::prepare();
    let failed = || format!("cannot read the film {}", path.display());
    let options = [("format_whitelist", CONTAINERS)].into_iter().collect();
    let input = StreamIo::from_read_seek(file)
        .and_then(|stream| input_from_stream(stream, None, Some(options)))
        .context(failed)
        .and_then(|input| match input.nb_streams() {
            0 => Err(Error::failed(failed()).because("there is nothing in it to play")),
            _ => Ok(input),
        })
        .map_err(|error| error.hint("a .mp4, .mov, .mkv, .webm or .gif, or a folder of frames"))?;
    let metadata = input.metadata();
    // SAFETY: the dictionary lives in `input`, the key is zero-terminated, and the value is copied before
    // `input` is dropped. The binding's `get` assumes UTF-8 without a check.
    #[expect(unsafe_code, reason = "the binding reads text as UTF-8 without a look")]
    let value = unsafe {
        let entry = ffi::av_dict_get(metadata.as_ptr(), c"comment".as_ptr(), std::ptr::null(), 0);
        entry.as_ref().map(|entry| CStr::from_ptr(entry.value))
    };
    Ok(value.map(|value| value.to_string_lossy().into_owned()))
}

#[cfg(not(feature = "ffmpeg"))]
fn container_comment(path: &Path, _: File) -> Result<Option<String>> {
    Err(without_ffmpeg(&format!("cannot read the film {}", path.display())))
}

/// The error of a build without FFmpeg.
#[cfg(not(feature = "ffmpeg"))]
pub(super) fn without_ffmpeg(what: &str) -> Error {
    Error::usage(what)
        .because("this talkie was built without FFmpeg")
        .hint("PNG frames work: -o frames/; or build with `cargo build --release --features ffmpeg`")
}

/// The encoders of the local FFmpeg that talkie uses, the preferred first. Empty without FFmpeg.
///
/// They are compiled in, but may fail to open: hardware may be missing.
#[cfg(feature = "ffmpeg")]
pub fn encoders() -> Vec<EncoderInfo> {
    use super::{Format, encoder::candidates, sound};

    let groups = [(Format::Mp4, vec![".mp4", ".mov"]), (Format::Webm, vec![".webm"]), (Format::Gif, vec![".gif"])];
    let present = |(format, endings): (Format, Vec<&'static str>)| {
        let video = candidates(format).iter().map(|candidate| (candidate.name, candidate.codec, candidate.find()));
        let audio = sound::encoder(format).map(|encoder| (encoder.name, encoder.codec, encoder.find()));
        video.chain(audio).filter_map(move |(name, codec, found)| {
            let description = found?.description().to_owned();
            Some(EncoderInfo { name: name.to_owned(), codec: codec.to_owned(), description, endings: endings.clone() })
        })
    };
    groups.into_iter().flat_map(present).collect()
}

/// The encoders of the local FFmpeg that talkie uses. Empty without FFmpeg.
#[cfg(not(feature = "ffmpeg"))]
pub fn encoders() -> Vec<EncoderInfo> {
    Vec::new()
}

/// The version of FFmpeg; `None` without FFmpeg.
#[cfg(feature = "ffmpeg")]
#[expect(unsafe_code, reason = "the binding has no function for it")]
pub fn ffmpeg_version() -> Option<String> {
    // SAFETY: FFmpeg returns a pointer to a constant, zero-terminated string.
    let text = unsafe { std::ffi::CStr::from_ptr(ffmpeg_next::ffi::av_version_info()) };
    Some(text.to_string_lossy().into_owned())
}

/// The version of FFmpeg; `None` without FFmpeg.
#[cfg(not(feature = "ffmpeg"))]
pub fn ffmpeg_version() -> Option<String> {
    None
}
