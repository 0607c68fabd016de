//! The comment extension of a GIF, which FFmpeg's muxer does not write.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The byte that ends a GIF (GIF89a, §27).
const TRAILER: u8 = 0x3B;
/// A comment extension begins with these two (GIF89a, §24).
const COMMENT: [u8; 2] = [0x21, 0xFE];
/// The longest data sub-block (GIF89a, §15).
const BLOCK: usize = 255;

/// Puts a comment extension before the trailer of the GIF at `path`.
///
/// # Errors
/// A failed write, or a file that does not end as a GIF.
pub(super) fn add_comment(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last != [TRAILER] {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the GIF has no end"));
    }
    let mut extension = COMMENT.to_vec();
    for block in text.as_bytes().chunks(BLOCK) {
        extension.push(block.len() as u8);
        extension.extend(block);
    }
    extension.extend([0, TRAILER]);
    file.seek(SeekFrom::End(-1))?;
    file.write_all(&extension)
}
