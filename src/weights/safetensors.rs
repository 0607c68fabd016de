//! Safetensors files: the header checked before anything else, the data memory-mapped and copied once.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Shape, Tensor};
use memmap2::{Mmap, UncheckedAdvice};
use safetensors::tensor::{Dtype, Metadata};

use crate::error::{Context, Error, Result};

/// What a file says of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its type in the file.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// First byte and one past the last, from the start of the file.
    pub range: (usize, usize),
}

/// The longest header that is read: safetensors' own limit. Real ones have some 100 bytes a tensor.
const MAX_HEADER: usize = 100_000_000;

/// The header of a safetensors file.
#[derive(Debug)]
pub struct Header {
    metadata: Metadata,
    start: usize,
}

impl Header {
    /// Reads the header of a whole file, or of its beginning: `bytes` may end anywhere after the header.
    ///
    /// # Errors
    /// What is wrong with it. Nothing is allocated beyond a small multiple of the size of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let short = || Error::failed("the file ends before its header does");
        let (length, rest) = bytes.split_first_chunk().ok_or_else(short)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok().filter(|&length| length <= MAX_HEADER);
        let length = length.ok_or_else(|| Error::failed("no header is as long as this file says that its own is"))?;
        let json = rest.get(..length).ok_or_else(short)?;
        let metadata: Metadata = serde_json::from_slice(json).context(|| "its header is damaged")?;
        if let Some((name, info)) = metadata.tensors().into_iter().find(|(_, info)| !countable(&info.shape)) {
            return Err(Error::failed(format!("no tensor has the shape {:?}, as `{name}` claims", info.shape)));
        }
        Ok(Self { metadata, start: length + size_of::<u64>() })
    }

    /// The words that the file carries besides its tensors.
    pub fn words(&self) -> HashMap<String, String> {
        self.metadata.metadata().clone().unwrap_or_default()
    }

    /// Bytes of the whole file, as the header has it.
    fn total(&self) -> Option<usize> {
        self.metadata.data_len().checked_add(self.start)
    }

    /// Every tensor of the file, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Stored)> {
        let start = self.start;
        self.metadata.tensors().into_iter().map(move |(name, info)| {
            let (begin, end) = info.data_offsets;
            (name, Stored { dtype: info.dtype, shape: info.shape.clone(), range: (start + begin, start + end) })
        })
    }
}

/// Whether every part of a shape has a number of elements that can be counted, even where another side is zero.
fn countable(shape: &[usize]) -> bool {
    shape.iter().try_fold(1usize, |count, &side| count.checked_mul(side.max(1))).is_some()
}

/// One memory-mapped file.
pub(super) struct File {
    path: PathBuf,
    map: Mmap,
    tensors: BTreeMap<String, Stored>,
    words: HashMap<String, String>,
}

impl File {
    #[expect(unsafe_code, reason = "mapping a file")]
    pub(super) fn open(path: &Path) -> Result<Self> {
        let open = || -> std::io::Result<Mmap> {
            let file = std::fs::File::open(path)?;
            // SAFETY: the map is only read; weights are files that talkie does not write while it reads them.
            unsafe { Mmap::map(&file) }
        };
        let map = open().context(|| format!("cannot open {}", path.display()));
        let map = map.map_err(|error| error.hint("check the name: it has to be a safetensors file"))?;
        let whole = Header::parse(&map).and_then(|header| match header.total() {
            Some(total) if total == map.len() => Ok(header),
            total => Err(Error::failed(format!(
                "its header speaks of {} bytes, and it has {}",
                total.map_or_else(|| "countless".to_owned(), |total| total.to_string()),
                map.len()
            ))),
        });
        let header = whole.map_err(|cause| {
            Error::failed(format!("{} is not a whole safetensors file", path.display()))
                .because(cause)
                .hint("fetch the file again: a download that broke off is the usual reason")
        })?;
        let tensors = header.tensors().collect();
        Ok(Self { path: path.to_owned(), map, tensors, words: header.words() })
    }

    /// What of the file has another name, under that name.
    pub(super) fn renamed(mut self, name_of: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let mut renamed = BTreeMap::new();
        for (original, stored) in std::mem::take(&mut self.tensors) {
            let Some(name) = name_of(&original) else { continue };
            if renamed.contains_key(&name) {
                let path = self.path.display();
                return Err(Error::failed(format!(
                    "`{original}` is there under another name too, `{name}`, in {path}"
                ))
                .hint("fetch the file again, or take it from its authors"));
            }
            renamed.insert(name, stored);
        }
        Ok(Self { tensors: renamed, ..self })
    }

    pub(super) fn words(&self) -> &HashMap<String, String> {
        &self.words
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(super) fn tensors(&self) -> impl Iterator<Item = (&String, &Stored)> {
        self.tensors.iter()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Stored> {
        self.tensors.get(name)
    }

    /// Copies one tensor to the device, in its stored type, and lets the mapped pages go.
    pub(super) fn load(&self, name: &str, shape: &Shape, device: &Device) -> Result<Tensor> {
        let stored =
            self.get(name).ok_or_else(|| Error::failed(format!("no tensor `{name}` in {}", self.path.display())))?;
        if stored.shape != shape.dims() {
            let (found, wanted) = (&stored.shape, shape.dims());
            return Err(Error::failed(format!(
                "`{name}` has the shape {found:?} where {wanted:?} belongs, in {}",
                self.path.display()
            ))
            .hint("the file belongs to another model or variant: compare with `config.json` beside it"));
        }
        let dtype = number(stored.dtype).ok_or_else(|| {
            Error::failed(format!(
                "`{name}` is stored as {:?}, which talkie cannot compute with, in {}",
                stored.dtype,
                self.path.display()
            ))
            .hint("use weights that are stored as F32, F16, BF16 or F8_E4M3")
        })?;
        let (begin, end) = stored.range;
        let bytes = self
            .map
            .get(begin..end)
            .ok_or_else(|| Error::failed(format!("{} ends before `{name}`", self.path.display())))?;
        let tensor = Tensor::from_raw_buffer(bytes, dtype, stored.shape.as_slice(), device)?;
        self.release(begin, end);
        Ok(tensor)
    }

    /// Gives the mapped pages back: otherwise the copy and the page cache both count as this process's memory.
    #[expect(unsafe_code, reason = "advice on a mapped file")]
    fn release(&self, begin: usize, end: usize) {
        const PAGE: usize = 4096;
        let (first, last) = (begin.next_multiple_of(PAGE), end / PAGE * PAGE);
        if last > first {
            // SAFETY: the map is a read-only view of a file; dropped pages are read from it again when they are touched.
            // It is advice only, so a refusal changes nothing but the memory in use.
            let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, first, last - first) };
        }
    }
}

/// The types that are weights. candle reads whole numbers too, and types of less than a byte that it does nothing with.
fn number(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F8_E4M3 => DType::try_from(dtype).ok(),
        _ => None,
    }
}
