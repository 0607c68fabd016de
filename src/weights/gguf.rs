//! The header of GGUF files (ggml's `docs/gguf.md`, versions 2 and 3), with what tools for video models add to it.
//!
//! candle's own reader takes no tensor of five sides, which the patch embedding of Wan is.

use std::collections::{BTreeMap, HashMap};

use candle_core::quantized::GgmlDType;
use safetensors::tensor::Dtype;

use super::stored::{Kind, Stored, Table, countable};
use crate::error::{Error, Result};

const MAGIC: &[u8] = b"GGUF";
/// Where no `general.alignment` says another.
const ALIGNMENT: usize = 32;
/// The shape of a tensor that was flattened, because the tools of its time knew four sides only.
const SHAPE: &str = "comfy.gguf.orig_shape.";
/// The most sides of a tensor.
const SIDES: usize = 8;

/// What a value of the metadata is.
enum Value {
    Word(String),
    /// Of arrays, only short ones of whole numbers are kept.
    Sides(Vec<usize>),
    Passed,
}

/// Reads the header of a whole file.
///
/// # Errors
/// What is wrong with it. Nothing is allocated beyond a small multiple of the size of `bytes`.
pub fn parse(bytes: &[u8]) -> Result<Table> {
    let mut read = Reader { bytes, at: MAGIC.len() };
    let version = read.u32()?;
    if !(2..=3).contains(&version) {
        return Err(Error::failed(format!("it is of version {version}, and talkie reads 2 and 3")));
    }
    let (tensors, entries) = (read.count(24)?, read.count(13)?);
    let mut words = HashMap::new();
    let mut shapes = HashMap::new();
    for _ in 0..entries {
        let key = read.string()?;
        let kind = read.u32()?;
        match read.value(kind)? {
            Value::Word(word) => drop(words.insert(key, word)),
            Value::Sides(sides) => drop(key.strip_prefix(SHAPE).map(|name| shapes.insert(name.to_owned(), sides))),
            Value::Passed => {}
        }
    }
    let alignment = match words.get("general.alignment") {
        Some(word) => word.parse().ok().filter(|&size: &usize| size % 8 == 0 && (8..=1 << 20).contains(&size)),
        None => Some(ALIGNMENT),
    };
    let alignment = alignment.ok_or_else(|| Error::failed("its alignment is not one that such files have"))?;
    let infos = (0..tensors).map(|_| Info::read(&mut read)).collect::<Result<Vec<_>>>()?;
    let start = read.at.checked_next_multiple_of(alignment).ok_or_else(short)?;
    let mut table = Table { tensors: BTreeMap::new(), words };
    for info in infos {
        let name = info.name.clone();
        let stored = info.place(shapes.remove(&name), start, alignment, bytes.len())?;
        if table.tensors.insert(name.clone(), stored).is_some() {
            return Err(Error::failed(format!("it holds `{name}` twice")));
        }
    }
    Ok(table)
}

/// What the file says of a tensor.
struct Info {
    name: String,
    /// The fastest side first, other than everywhere else.
    sides: Vec<usize>,
    kind: Kind,
    offset: usize,
}

impl Info {
    fn read(read: &mut Reader<'_>) -> Result<Self> {
        let name = read.string()?;
        let count = read.u32()? as usize;
        if count > SIDES {
            return Err(Error::failed(format!("`{name}` has {count} sides: no tensor has as many")));
        }
        let sides = (0..count).map(|_| read.size()).collect::<Result<_>>()?;
        let kind = kind(read.u32()?).map_err(|found| unsupported(&name, &found))?;
        Ok(Self { name, sides, kind, offset: read.size()? })
    }

    /// Where the tensor is. `told` is the shape that the metadata gives it.
    fn place(self, told: Option<Vec<usize>>, start: usize, alignment: usize, end: usize) -> Result<Stored> {
        let Self { name, mut sides, kind, offset } = self;
        sides.reverse();
        let odd = |shape: &[usize]| Error::failed(format!("`{name}` is said to have the shape {shape:?} in {kind}"));
        if !countable(&sides) {
            return Err(odd(&sides));
        }
        let bytes = kind.bytes(&sides).ok_or_else(|| odd(&sides))?;
        let shape = match told {
            Some(told) if countable(&told) && told.iter().product::<usize>() == sides.iter().product::<usize>() => told,
            Some(told) => return Err(odd(&told)),
            None => sides,
        };
        let begin = start.checked_add(offset).filter(|_| offset % alignment == 0);
        let range = begin.and_then(|begin| Some((begin, begin.checked_add(bytes)?)));
        match range {
            Some(range) if range.1 <= end => Ok(Stored { kind, shape, range }),
            _ => Err(Error::failed(format!("`{name}` is said to lie beyond the end of the file"))),
        }
    }
}

fn unsupported(name: &str, found: &str) -> Error {
    Error::failed(format!("`{name}` is stored as {found}, which talkie does not read")).hint(
        "take the file in one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K: its authors \
         mostly offer several",
    )
}

/// A type by its number in ggml, or what it is called where talkie does not read it.
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

fn short() -> Error {
    Error::failed("the file ends before its header does")
}

/// Where in the header we are.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
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

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn size(&mut self) -> Result<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| short())
    }

    /// How many things follow, of which each takes so many bytes at least.
    fn count(&mut self, least: usize) -> Result<usize> {
        let count = self.size()?;
        let room = (self.bytes.len() - self.at) / least;
        if count > room { Err(short()) } else { Ok(count) }
    }

    fn string(&mut self) -> Result<String> {
        let length = self.size()?;
        let text = std::str::from_utf8(self.take(length)?);
        text.map(str::to_owned).map_err(|_| Error::failed("a name in its header is not text"))
    }

    fn value(&mut self, kind: u32) -> Result<Value> {
        let word = |word: &dyn std::fmt::Display| Ok(Value::Word(word.to_string()));
        match kind {
            0 => word(&u8::from_le_bytes(self.array()?)),
            1 => word(&i8::from_le_bytes(self.array()?)),
            2 => word(&u16::from_le_bytes(self.array()?)),
            3 => word(&i16::from_le_bytes(self.array()?)),
            4 => word(&self.u32()?),
            5 => word(&i32::from_le_bytes(self.array()?)),
            6 => word(&f32::from_le_bytes(self.array()?)),
            7 => word(&(self.take(1)? != [0])),
            8 => Ok(Value::Word(self.string()?)),
            9 => self.list(),
            10 => word(&u64::from_le_bytes(self.array()?)),
            11 => word(&i64::from_le_bytes(self.array()?)),
            12 => word(&f64::from_le_bytes(self.array()?)),
            _ => Err(Error::failed(format!("its metadata has a value of type {kind}, which there is not"))),
        }
    }

    /// An array. Those of whole numbers, as few as a tensor has sides, are kept.
    fn list(&mut self) -> Result<Value> {
        let kind = self.u32()?;
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            _ => {
                return Err(Error::failed(format!(
                    "its metadata has a list of type {kind}, which talkie does not read"
                )));
            }
        };
        let count = self.count(least)?;
        if kind == 8 {
            for _ in 0..count {
                let length = self.size()?;
                self.take(length)?;
            }
            return Ok(Value::Passed);
        }
        let bytes = self.take(count * least)?;
        let sides = bytes.chunks_exact(least).map(|side| match (kind, side) {
            (4 | 5, &[a, b, c, d]) => usize::try_from(i32::from_le_bytes([a, b, c, d])).ok(),
            (10 | 11, side) => side.try_into().ok().map(i64::from_le_bytes).and_then(|side| usize::try_from(side).ok()),
            _ => None,
        });
        let sides = if count > SIDES { None } else { sides.collect::<Option<Vec<_>>>() };
        Ok(sides.map_or(Value::Passed, Value::Sides))
    }
}
