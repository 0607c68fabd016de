//! The directory of a ZIP archive as `torch.save` writes it: entries as they are, all in one folder, of any size.
//!
//! Layouts are those of PKWARE's APPNOTE.TXT, in the order of their fields.

use std::collections::HashMap;

use super::{MAX_HEADER, Reader, TAKE_SAFETENSORS, twice};
use crate::error::{Error, Result};

/// Bytes of the record at the end of an archive that has no comment.
const END: usize = 22;
/// Bytes of what stands before that record in an archive with 64-bit sizes.
const LOCATOR: usize = 20;
/// Encrypted, encrypted with a certificate, or with a masked directory.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;

/// Where the entries of an archive are in it: first byte and one past the last.
pub(super) struct Archive<'a> {
    /// By their names within the folder.
    entries: HashMap<&'a str, (usize, usize)>,
}

/// What the directory says of an entry.
struct Entry<'a> {
    path: &'a str,
    flags: u16,
    method: u16,
    packed: u64,
    size: u64,
    at: u64,
}

impl<'a> Archive<'a> {
    /// Reads the directory and what stands before each entry.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self> {
        let mut directory = directory(bytes)?;
        let mut entries = HashMap::new();
        let mut folder = None;
        while !directory.0.is_empty() {
            let entry = Entry::read(&mut directory)?;
            let inside = entry.path.split_once('/').filter(|(root, _)| root == folder.get_or_insert(*root));
            let outside = || Error::failed("not all of its entries are in one folder").hint(TAKE_SAFETENSORS);
            let (_, name) = inside.ok_or_else(outside)?;
            if entries.insert(name, entry.data(bytes)?).is_some() {
                return Err(twice("entries", name));
            }
        }
        Ok(Self { entries })
    }

    /// Where an entry's bytes are, if there is such an entry.
    pub(super) fn data(&self, name: &str) -> Option<(usize, usize)> {
        self.entries.get(name).copied()
    }
}

impl<'a> Entry<'a> {
    fn read(directory: &mut Reader<'a>) -> Result<Self> {
        if directory.array()? != *b"PK\x01\x02" {
            return Err(damaged());
        }
        directory.take(4)?; // versions
        let (flags, method) = (directory.u16()?, directory.u16()?);
        directory.take(8)?; // time, date, checksum
        let (packed, size) = (directory.u32()?, directory.u32()?);
        let (path, extra, comment) = (directory.u16()?, directory.u16()?, directory.u16()?);
        directory.take(8)?; // disk, attributes
        let at = directory.u32()?;
        let path = str::from_utf8(directory.take(path.into())?).map_err(|_| damaged())?;
        let mut long = long_sizes(Reader(directory.take(extra.into())?))?;
        directory.take(comment.into())?;
        let mut sized = |short: u32| if short == u32::MAX { long.u64() } else { Ok(short.into()) };
        let (size, packed, at) = (sized(size)?, sized(packed)?, sized(at)?);
        Ok(Self { path, flags, method, packed, size, at })
    }

    /// Where its bytes are.
    fn data(&self, bytes: &[u8]) -> Result<(usize, usize)> {
        let refused = |how: &str| Error::failed(format!("its entry `{}` is {how}", self.path)).hint(TAKE_SAFETENSORS);
        if self.flags & ENCRYPTED != 0 {
            return Err(refused("encrypted"));
        }
        if self.method != 0 || self.packed != self.size {
            return Err(refused("compressed, and `torch.save` compresses nothing"));
        }
        let mut local = after(bytes, self.at, *b"PK\x03\x04")?;
        local.take(22)?; // what the directory says too
        let (path, extra) = (local.u16()?, local.u16()?);
        if local.take(path.into())? != self.path.as_bytes() {
            return Err(damaged());
        }
        local.take(extra.into())?;
        let begin = bytes.len() - local.0.len();
        local.take(size(self.size)?)?;
        Ok((begin, bytes.len() - local.0.len()))
    }
}

/// The extra field that has, one after the other, the numbers that 32 bits are too few for.
fn long_sizes(mut extra: Reader) -> Result<Reader> {
    while !extra.0.is_empty() {
        let (id, length) = (extra.u16()?, extra.u16()?);
        let field = extra.take(length.into())?;
        if id == 1 {
            return Ok(Reader(field));
        }
    }
    Ok(extra)
}

/// The bytes of the directory.
fn directory(bytes: &[u8]) -> Result<Reader<'_>> {
    let cut = || {
        Error::failed("the end of the archive is missing")
            .hint("fetch the file again: a download that broke off is the usual reason")
    };
    let end = bytes.len().checked_sub(END).ok_or_else(cut)?;
    let mut record = after(bytes, end as u64, *b"PK\x05\x06").map_err(|_| cut())?;
    record.take(8)?; // disks, counts
    let (mut length, mut at) = (record.u32()?.into(), record.u32()?.into());
    let locator = end.checked_sub(LOCATOR).map(|at| after(bytes, at as u64, *b"PK\x06\x07"));
    if let Some(Ok(mut locator)) = locator {
        locator.take(4)?; // disk
        let mut record = after(bytes, locator.u64()?, *b"PK\x06\x06")?;
        record.take(36)?; // its length, versions, disks, counts
        (length, at) = (record.u64()?, record.u64()?);
    }
    let length = size(length)?;
    if length > MAX_HEADER {
        return Err(Error::failed("no dict of tensors has a directory as long as its own").hint(TAKE_SAFETENSORS));
    }
    Ok(Reader(Reader(bytes.get(size(at)?..).ok_or_else(damaged)?).take(length)?))
}

/// What follows a signature at this place.
fn after(bytes: &[u8], at: u64, signature: [u8; 4]) -> Result<Reader<'_>> {
    let rest = bytes.get(size(at)?..).and_then(|rest| rest.strip_prefix(&signature));
    rest.map(Reader).ok_or_else(damaged)
}

fn size(size: u64) -> Result<usize> {
    usize::try_from(size).map_err(|_| damaged())
}

fn damaged() -> Error {
    Error::failed("the directory of the archive is damaged").hint("fetch the file again")
}
