//! The header of safetensors files.

use std::collections::HashMap;

use safetensors::tensor::Metadata;

use super::stored::{Kind, Stored, Table, countable};
use crate::error::{Context, Error, Result};

/// Most bytes of a header: safetensors' own limit. Real ones have some 100 bytes per tensor.
const MAX_HEADER: usize = 100_000_000;

/// The header of a safetensors file.
#[derive(Debug)]
pub struct Header {
    metadata: Metadata,
    start: usize,
}

impl Header {
    /// Parses the header of a file, or of its beginning: `bytes` may end anywhere after the header.
    ///
    /// # Errors
    /// A malformed header. Nothing is allocated beyond a small multiple of the size of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let short = || Error::failed("the file ends before its header does");
        let (length, rest) = bytes.split_first_chunk().ok_or_else(short)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok().filter(|&length| length <= MAX_HEADER);
        let length = length.ok_or_else(|| Error::failed("its header is longer than any"))?;
        let json = rest.get(..length).ok_or_else(short)?;
        let metadata: Metadata = serde_json::from_slice(json).context(|| "its header is damaged")?;
        if let Some((name, info)) = metadata.tensors().into_iter().find(|(_, info)| !countable(&info.shape)) {
            return Err(Error::failed(format!("`{name}` has an impossible shape, {:?}", info.shape)));
        }
        Ok(Self { metadata, start: length + size_of::<u64>() })
    }

    /// The metadata of the file.
    pub fn metadata(&self) -> HashMap<String, String> {
        self.metadata.metadata().clone().unwrap_or_default()
    }

    /// Bytes of the whole file by the header.
    fn total(&self) -> Option<usize> {
        self.metadata.data_len().checked_add(self.start)
    }

    /// Every tensor of the file, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Stored)> {
        let start = self.start;
        self.metadata.tensors().into_iter().map(move |(name, info)| {
            let (begin, end) = info.data_offsets;
            (
                name,
                Stored {
                    kind: Kind::Plain(info.dtype),
                    shape: info.shape.clone(),
                    range: (start + begin, start + end),
                },
            )
        })
    }
}

/// Parses the header of a whole file, and checks the file's length.
pub(super) fn parse(bytes: &[u8]) -> Result<Table> {
    let header = Header::parse(bytes)?;
    match header.total() {
        Some(total) if total == bytes.len() => {
            Ok(Table { tensors: header.tensors().collect(), metadata: header.metadata() })
        }
        total => Err(Error::failed(format!(
            "by its header the file has {} bytes, and it has {}",
            total.map_or_else(|| "countless".to_owned(), |total| total.to_string()),
            bytes.len()
        ))),
    }
}
