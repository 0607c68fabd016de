//! The ZIP archive around a `.pth` file, as `torch.save` writes it: stored entries of any size, all in one
//! folder.

use std::collections::HashMap;

use rawzip::{CompressionMethod, ErrorKind, ZipFileHeaderRecord, ZipLocator, ZipSliceArchive};

use super::{MAX_HEADER, TAKE_SAFETENSORS, twice};
use crate::error::{Error, Result};

/// Bytes of the record at the end of an archive without a comment: `torch.save` writes none.
const END: u64 = 22;

/// The ranges of an archive's entries: first byte and one past the last.
pub(super) struct Archive {
    /// By their names within the folder.
    entries: HashMap<String, (usize, usize)>,
}

impl Archive {
    /// Reads the directory and the header of each entry.
    pub(super) fn open(bytes: &[u8]) -> Result<Self> {
        let located = ZipLocator::new().max_search_space(END).locate_in_slice(bytes);
        let archive = located.map_err(|(_, cause)| match cause.kind() {
            ErrorKind::MissingEndOfCentralDirectory => Error::failed("the end of the archive is missing")
                .hint("fetch the file again: a download that broke off is the usual reason"),
            _ => damaged(cause),
        })?;
        if archive.eocd_offset() - archive.directory_offset() > MAX_HEADER as u64 {
            return Err(Error::failed("no dict of tensors has a directory as long as its own").hint(TAKE_SAFETENSORS));
        }
        let mut entries = HashMap::new();
        let mut folder = None;
        for entry in archive.entries() {
            let entry = entry.map_err(damaged)?;
            let path = str::from_utf8(entry.file_path().as_bytes()).map_err(damaged)?;
            let inside = path.split_once('/').filter(|(root, _)| root == folder.get_or_insert((*root).to_owned()));
            let outside = || Error::failed("not all of its entries are in one folder").hint(TAKE_SAFETENSORS);
            let (_, name) = inside.ok_or_else(outside)?;
            if entries.insert(name.to_owned(), range(&archive, &entry, path)?).is_some() {
                return Err(twice("entries", name));
            }
        }
        Ok(Self { entries })
    }

    /// The range of an entry, if there is such an entry.
    pub(super) fn data(&self, name: &str) -> Option<(usize, usize)> {
        self.entries.get(name).copied()
    }
}

/// The range of an entry that is neither encrypted nor compressed.
fn range(archive: &ZipSliceArchive<&[u8]>, entry: &ZipFileHeaderRecord, path: &str) -> Result<(usize, usize)> {
    let refused = |how: &str| Error::failed(format!("its entry `{path}` is {how}")).hint(TAKE_SAFETENSORS);
    let flags = entry.flags();
    if flags.is_encrypted() || flags.has_strong_encryption() || flags.is_masked() {
        return Err(refused("encrypted"));
    }
    let stored = entry.compression_method() == CompressionMethod::STORE;
    if !stored || entry.compressed_size_hint() != entry.uncompressed_size_hint() {
        return Err(refused("compressed, and `torch.save` compresses nothing"));
    }
    let found = archive.get_entry(entry.wayfinder()).map_err(damaged)?;
    if found.local_header().file_path().as_bytes() != path.as_bytes() {
        return Err(damaged(Error::failed("its two headers differ")));
    }
    let (begin, end) = found.compressed_data_range();
    Ok((begin as usize, end as usize))
}

fn damaged(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::failed("the directory of the archive is damaged").because(cause).hint("fetch the file again")
}
