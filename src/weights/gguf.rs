//! The header of GGUF files (ggml's `docs/gguf.md`, versions 2 and 3), with the extensions of tools for video
//! models.
//!
//! candle's reader does not take tensors of five dimensions, such as Wan's patch embedding.

mod metadata;
mod pieces;

use std::collections::{BTreeMap, HashMap};

use candle_core::quantized::GgmlDType;
use safetensors::tensor::Dtype;

use super::stored::{Kind, Stored, Table, countable};
use crate::error::{Error, Result};
use metadata::{List, Metadata, Reader, short};
pub use pieces::{PieceType, Pieces};

const MAGIC: &[u8] = b"GGUF";
/// The alignment without a `general.alignment`.
const ALIGNMENT: usize = 32;
/// Key prefix of the original shape of a tensor that was flattened, because tools supported four dimensions
/// only.
const SHAPE: &str = "comfy.gguf.orig_shape.";
/// Most dimensions of a tensor.
const MAX_DIMS: usize = 8;

/// Parses the header of a whole file.
///
/// # Errors
/// A malformed header. Nothing is allocated beyond a small multiple of the size of `bytes`.
pub fn parse(bytes: &[u8]) -> Result<Table> {
    let (mut read, tensors, Metadata { metadata, lists }) = begin(bytes)?;
    let shape = |(key, list): (&String, &List<'_>)| Some((key.strip_prefix(SHAPE)?.to_owned(), list.dims()?));
    let mut shapes: HashMap<String, Vec<usize>> = lists.iter().filter_map(shape).collect();
    let alignment = match metadata.get("general.alignment") {
        Some(word) => word.parse().ok().filter(|&size: &usize| size % 8 == 0 && (8..=1 << 20).contains(&size)),
        None => Some(ALIGNMENT),
    };
    let alignment =
        alignment.ok_or_else(|| Error::failed("its alignment must be a multiple of 8 from 8 to 1048576"))?;
    let infos = (0..tensors).map(|_| Info::read(&mut read)).collect::<Result<Vec<_>>>()?;
    let start = read.at.checked_next_multiple_of(alignment).ok_or_else(short)?;
    let mut table = Table { tensors: BTreeMap::new(), metadata };
    for info in infos {
        let name = info.name.clone();
        let stored = info.place(shapes.remove(&name), start, alignment, bytes.len())?;
        if table.tensors.insert(name.clone(), stored).is_some() {
            return Err(Error::failed(format!("it holds `{name}` twice")));
        }
    }
    Ok(table)
}

/// Parses what comes before the tensors, and their number.
fn begin(bytes: &[u8]) -> Result<(Reader<'_>, usize, Metadata<'_>)> {
    let mut read = Reader { bytes, at: MAGIC.len() };
    let version = read.u32()?;
    if !(2..=3).contains(&version) {
        return Err(Error::failed(format!("it is of version {version}, and talkie reads 2 and 3")));
    }
    let (tensors, entries) = (read.count(24)?, read.count(13)?);
    let metadata = Metadata::read(&mut read, entries)?;
    Ok((read, tensors, metadata))
}

/// The header's entry of a tensor.
struct Info {
    name: String,
    /// The fastest dimension first, unlike elsewhere.
    dims: Vec<usize>,
    kind: Kind,
    offset: usize,
}

impl Info {
    fn read(read: &mut Reader<'_>) -> Result<Self> {
        let name = read.string()?;
        let count = read.u32()? as usize;
        if count > MAX_DIMS {
            return Err(Error::failed(format!("`{name}` must have at most {MAX_DIMS} dimensions, not {count}")));
        }
        let dims = (0..count).map(|_| read.size()).collect::<Result<_>>()?;
        let kind = kind(read.u32()?).map_err(|found| unsupported(&name, &found))?;
        Ok(Self { name, dims, kind, offset: read.size()? })
    }

    /// Locates the tensor. `original` is its shape by the metadata.
    fn place(self, original: Option<Vec<usize>>, start: usize, alignment: usize, end: usize) -> Result<Stored> {
        let Self { name, mut dims, kind, offset } = self;
        dims.reverse();
        let odd = |shape: &[usize]| Error::failed(format!("`{name}` has an impossible shape, {shape:?} in {kind}"));
        if !countable(&dims) {
            return Err(odd(&dims));
        }
        let bytes = kind.bytes(&dims).ok_or_else(|| odd(&dims))?;
        let shape = match original {
            Some(original)
                if countable(&original) && original.iter().product::<usize>() == dims.iter().product::<usize>() =>
            {
                original
            }
            Some(original) => return Err(odd(&original)),
            None => dims,
        };
        let begin = start.checked_add(offset).filter(|_| offset % alignment == 0);
        let range = begin.and_then(|begin| Some((begin, begin.checked_add(bytes)?)));
        match range {
            Some(range) if range.1 <= end => Ok(Stored { kind, shape, range }),
            _ => Err(Error::failed(format!("`{name}` lies beyond the end of the file"))),
        }
    }
}

fn unsupported(name: &str, found: &str) -> Error {
    Error::failed(format!("`{name}` is stored as {found}, which talkie does not read")).hint(
        "take the file in one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K: its authors \
         mostly offer several",
    )
}

/// A type by its number in ggml; if talkie does not read it, its name.
fn kind(number: u32) -> std::result::Result<Kind, String> {
    use GgmlDType::{Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    let (blocks, plain) = (|dtype| Ok(Kind::Blocks(dtype)), |dtype| Ok(Kind::Plain(dtype)));
    match number {
        0 => plain(Dtype::F32),
        1 => plain(Dtype::F16),
        2 => blocks(Q4_0),
        3 => blocks(Q4_1),
        6 => blocks(Q5_0),
        7 => blocks(Q5_1),
        8 => blocks(Q8_0),
        10 => blocks(Q2K),
        11 => blocks(Q3K),
        12 => blocks(Q4K),
        13 => blocks(Q5K),
        14 => blocks(Q6K),
        24 => plain(Dtype::I8),
        25 => plain(Dtype::I16),
        26 => plain(Dtype::I32),
        27 => plain(Dtype::I64),
        28 => plain(Dtype::F64),
        30 => plain(Dtype::BF16),
        _ => {
            let names = [
                (9, "Q8_1"),
                (15, "Q8_K"),
                (16, "IQ2_XXS"),
                (17, "IQ2_XS"),
                (18, "IQ3_XXS"),
                (19, "IQ1_S"),
                (20, "IQ4_NL"),
                (21, "IQ3_S"),
                (22, "IQ2_S"),
                (23, "IQ4_XS"),
                (29, "IQ1_M"),
                (34, "TQ1_0"),
                (35, "TQ2_0"),
                (39, "MXFP4"),
            ];
            let name = names.iter().find(|(other, _)| *other == number);
            Err(name.map_or_else(|| format!("type {number}"), |(_, name)| (*name).to_owned()))
        }
    }
}
