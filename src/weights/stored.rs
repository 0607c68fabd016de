//! The header of a file of tensors, in any format.

use std::collections::{BTreeMap, HashMap};

use candle_core::DType;
use candle_core::quantized::GgmlDType;
use safetensors::tensor::Dtype;

/// How the values of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One by one, in a type of safetensors.
    Plain(Dtype),
    /// In blocks of GGML, each with its scales.
    Blocks(GgmlDType),
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// How its values are stored.
    pub kind: Kind,
    /// Its shape, the slowest dimension first.
    pub shape: Vec<usize>,
    /// First byte and one past the last, from the start of the file.
    pub range: (usize, usize),
}

/// The header of a file.
#[derive(Debug, Default)]
pub struct Table {
    /// Every tensor, by name.
    pub tensors: BTreeMap<String, Stored>,
    /// The metadata.
    pub metadata: HashMap<String, String>,
}

impl Kind {
    /// candle's type for values of this kind; `None` if they need to be widened first.
    pub fn number(self) -> Option<DType> {
        match self {
            Self::Plain(Dtype::F64) => Some(DType::F64),
            Self::Plain(Dtype::F32) => Some(DType::F32),
            Self::Plain(Dtype::F16) => Some(DType::F16),
            Self::Plain(Dtype::BF16) => Some(DType::BF16),
            _ => None,
        }
    }

    /// Whether its values take more bytes in f32.
    pub(super) fn widens(self) -> bool {
        !matches!(self, Self::Plain(Dtype::F32 | Dtype::F64))
    }

    /// Bytes of a tensor of this shape; `None` if no tensor of this kind can have it.
    pub fn bytes(self, shape: &[usize]) -> Option<usize> {
        let count = shape.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim))?;
        match self {
            Self::Plain(dtype) => count.checked_mul(dtype.bitsize()).filter(|bits| bits % 8 == 0).map(|bits| bits / 8),
            Self::Blocks(dtype) => {
                let whole = shape.last().copied().unwrap_or(1) % dtype.block_size() == 0;
                whole.then(|| count / dtype.block_size())?.checked_mul(dtype.type_size())
            }
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(dtype) => write!(f, "{dtype:?}"),
            Self::Blocks(GgmlDType::Q2K) => f.write_str("Q2_K"),
            Self::Blocks(GgmlDType::Q3K) => f.write_str("Q3_K"),
            Self::Blocks(GgmlDType::Q4K) => f.write_str("Q4_K"),
            Self::Blocks(GgmlDType::Q5K) => f.write_str("Q5_K"),
            Self::Blocks(GgmlDType::Q6K) => f.write_str("Q6_K"),
            Self::Blocks(GgmlDType::Q8K) => f.write_str("Q8_K"),
            Self::Blocks(dtype) => write!(f, "{dtype:?}"),
        }
    }
}

/// Whether the product of the dimensions fits a `usize`, counting zeros as 1.
pub(super) fn countable(shape: &[usize]) -> bool {
    shape.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim.max(1))).is_some()
}
