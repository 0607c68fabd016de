//! The metadata of a GGUF file: single values and lists.

use std::collections::HashMap;

use super::MAX_DIMS;
use crate::error::{Error, Result};

/// The metadata of a file.
pub(super) struct Metadata<'a> {
    /// Single values, as text.
    pub(super) metadata: HashMap<String, String>,
    /// Lists, as they are stored.
    pub(super) lists: HashMap<String, List<'a>>,
}

/// A list of the metadata, copied only on request.
#[derive(Clone, Copy)]
pub(super) struct List<'a> {
    /// The type of its values, by its number in GGUF.
    kind: u32,
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Metadata<'a> {
    /// Reads `entries` entries.
    pub(super) fn read(read: &mut Reader<'a>, entries: usize) -> Result<Self> {
        let mut metadata = Self { metadata: HashMap::new(), lists: HashMap::new() };
        for _ in 0..entries {
            let (key, kind) = (read.string()?, read.u32()?);
            if kind == 9 {
                metadata.lists.insert(key, read.list()?);
            } else {
                metadata.metadata.insert(key, read.word(kind)?);
            }
        }
        Ok(metadata)
    }
}

impl<'a> List<'a> {
    /// The dimensions of a tensor: at most [`MAX_DIMS`] integers.
    pub(super) fn dims(&self) -> Option<Vec<usize>> {
        if self.count > MAX_DIMS {
            return None;
        }
        let dim = |dim: &[u8]| match self.kind {
            4 | 5 => usize::try_from(i32::from_le_bytes(dim.try_into().ok()?)).ok(),
            10 | 11 => usize::try_from(i64::from_le_bytes(dim.try_into().ok()?)).ok(),
            _ => None,
        };
        self.values().map(dim).collect()
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Bytes in the file.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Its bytes, if its values are bytes.
    pub(super) fn bytes(&self) -> Option<&'a [u8]> {
        matches!(self.kind, 0 | 1).then_some(self.bytes)
    }

    /// Its values, if they are f32.
    pub(super) fn floats(&self) -> Option<Vec<f32>> {
        let float = |value: &[u8]| Some(f32::from_le_bytes(value.try_into().ok()?));
        self.values().map(float).collect::<Option<_>>().filter(|_| self.kind == 6)
    }

    /// Its values, if they are 32-bit integers.
    pub(super) fn integers(&self) -> Option<Vec<i32>> {
        let integer = |value: &[u8]| Some(i32::from_le_bytes(value.try_into().ok()?));
        self.values().map(integer).collect::<Option<_>>().filter(|_| matches!(self.kind, 4 | 5))
    }

    /// Its values, if they are strings.
    pub(super) fn strings(&self) -> Option<Vec<String>> {
        let mut read = Reader { bytes: self.bytes, at: 0 };
        (0..self.count).map(|_| read.string().ok()).collect::<Option<_>>().filter(|_| self.kind == 8)
    }

    fn values(&self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.chunks_exact(least(self.kind).unwrap_or(1))
    }
}

/// Least bytes of a value of a list; `None` if talkie does not read lists of this type.
fn least(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        8 | 10..=12 => Some(8),
        _ => None,
    }
}

pub(super) fn short() -> Error {
    Error::failed("the file ends before its header does")
}

/// A cursor over the header.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(length).ok_or_else(short)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(short)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| short())
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn size(&mut self) -> Result<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| short())
    }

    /// A count of items that follow, each of at least `least` bytes.
    pub(super) fn count(&mut self, least: usize) -> Result<usize> {
        let count = self.size()?;
        let room = (self.bytes.len() - self.at) / least;
        if count > room { Err(short()) } else { Ok(count) }
    }

    pub(super) fn string(&mut self) -> Result<String> {
        let length = self.size()?;
        let text = std::str::from_utf8(self.take(length)?);
        text.map(str::to_owned).map_err(|_| Error::failed("a name in its header is not text"))
    }

    /// A single value, as text.
    fn word(&mut self, kind: u32) -> Result<String> {
        Ok(match kind {
            0 => u8::from_le_bytes(self.array()?).to_string(),
            1 => i8::from_le_bytes(self.array()?).to_string(),
            2 => u16::from_le_bytes(self.array()?).to_string(),
            3 => i16::from_le_bytes(self.array()?).to_string(),
            4 => self.u32()?.to_string(),
            5 => i32::from_le_bytes(self.array()?).to_string(),
            6 => f32::from_le_bytes(self.array()?).to_string(),
            7 => (self.take(1)? != [0]).to_string(),
            8 => self.string()?,
            10 => u64::from_le_bytes(self.array()?).to_string(),
            11 => i64::from_le_bytes(self.array()?).to_string(),
            12 => f64::from_le_bytes(self.array()?).to_string(),
            _ => return Err(Error::failed(format!("its metadata has a value of the unknown type {kind}"))),
        })
    }

    fn list(&mut self) -> Result<List<'a>> {
        let kind = self.u32()?;
        let least = least(kind).ok_or_else(|| {
            Error::failed(format!("its metadata has a list of type {kind}, which talkie does not read"))
        })?;
        let count = self.count(least)?;
        let begin = self.at;
        if kind == 8 {
            for _ in 0..count {
                let length = self.size()?;
                self.take(length)?;
            }
        } else {
            self.take(count * least)?;
        }
        Ok(List { kind, count, bytes: &self.bytes[begin..self.at] })
    }
}
