//! Corrects the durations in a WebM: FFmpeg's muxer gets them wrong with Opus.
//!
//! It counts the priming of the codec, and rounds to milliseconds. The durations of the segment and the
//! tracks are overwritten in place, so that the file does not grow.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

// Elements of Matroska (RFC 9559 §5.1).
const SEGMENT: u64 = 0x1853_8067;
const CLUSTER: u64 = 0x1F43_B675;
const INFO: u64 = 0x1549_A966;
const DURATION: u64 = 0x4489;
const TAGS: u64 = 0x1254_C367;
const TAG: u64 = 0x7373;
const SIMPLE_TAG: u64 = 0x67C8;
const TAG_NAME: u64 = 0x45A3;
const TAG_STRING: u64 = 0x4487;

/// Most bytes before the first cluster: headers and the recipe.
const MAX_HEAD: u64 = 1 << 25;

/// Writes `seconds` as the duration of the WebM at `path` and of its tracks.
///
/// # Errors
/// When the file cannot be read or written.
pub(super) fn set_duration(path: &Path, seconds: f64) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut head = Vec::new();
    Read::take(&file, MAX_HEAD).read_to_end(&mut head)?;
    let mut places = Places::default();
    find(&head, 0, head.len(), &mut places);
    for (at, length) in places.durations {
        let milliseconds = seconds * 1e3;
        let bytes = match length {
            4 => (milliseconds as f32).to_be_bytes().to_vec(),
            8 => milliseconds.to_be_bytes().to_vec(),
            _ => continue,
        };
        file.seek(SeekFrom::Start(at as u64))?;
        file.write_all(&bytes)?;
    }
    let text = clock(seconds);
    for (at, length) in places.texts {
        if length >= text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes.resize(length, 0);
            file.seek(SeekFrom::Start(at as u64))?;
            file.write_all(&bytes)?;
        }
    }
    Ok(())
}

/// Offsets and sizes of the durations.
#[derive(Default)]
struct Places {
    durations: Vec<(usize, usize)>,
    texts: Vec<(usize, usize)>,
    /// Whether the last tag's name was `DURATION`.
    named: bool,
}

/// Searches the elements between `at` and `end`, and those inside them, up to the first cluster.
fn find(head: &[u8], mut at: usize, end: usize, places: &mut Places) {
    while let Some((id, size, content)) = element(&head[..end], at) {
        // An unknown size, or one beyond the bytes read, ends with them.
        let stop = content.saturating_add(size).min(end);
        match id {
            CLUSTER => return,
            SEGMENT | INFO | TAGS | TAG | SIMPLE_TAG => find(head, content, stop, places),
            DURATION => places.durations.push((content, stop - content)),
            TAG_NAME => places.named = &head[content..stop] == b"DURATION",
            TAG_STRING if places.named => places.texts.push((content, stop - content)),
            _ => {}
        }
        at = stop;
    }
}

/// The element at `at`: its id, its size in bytes, and their start (RFC 8794 §4 to §6).
fn element(head: &[u8], at: usize) -> Option<(u64, usize, usize)> {
    let (id, at) = number(head, at, true)?;
    let (size, at) = number(head, at, false)?;
    Some((id, usize::try_from(size).ok()?, at))
}

/// A variable-length number, and the offset after it. The length marker is part of an id, but not of a size.
fn number(head: &[u8], at: usize, marked: bool) -> Option<(u64, usize)> {
    let first = *head.get(at)?;
    let length = first.leading_zeros() as usize + 1;
    let bytes = head.get(at..at + length).filter(|_| length <= 8)?;
    let value = bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    let mask = if marked { u64::MAX } else { (1 << (7 * length)) - 1 };
    Some((value & mask, at + length))
}

/// Seconds as `00:00:02.062500000`.
fn clock(seconds: f64) -> String {
    let nanoseconds = (seconds * 1e9).round() as u64;
    let (whole, fraction) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    format!("{:02}:{:02}:{:02}.{fraction:09}", whole / 3600, whole / 60 % 60, whole % 60)
}
