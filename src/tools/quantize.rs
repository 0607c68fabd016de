//! Weights in fewer bits, as files that ComfyUI's loaders read: GGUF, or safetensors with scaled e4m3.

mod files;

use std::path::Path;
use std::str::FromStr;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use crate::error::{Error, Result};
use crate::files::atomic::AtomicFile;
use crate::model::Component;
use crate::weights::keys::{LTX_ALONE, Layout, UMT5_COMFY, UMT5_LLAMA, WAN_TRANSFORMER};
use crate::weights::{Kind, Weights, e4m3, is_fp8_metadata};

/// What is never stored in fewer bits: it is small beside the blocks, and everything depends on it. By words in diffusers' names.
const WIDE: [&str; 14] = [
    "scale_shift",
    "patch_embedding",
    "proj_in",
    "proj_out",
    "text_embedder",
    "caption_projection",
    "time_proj",
    "time_embed",
    "adaln",
    "a2v_gate",
    "v2a_gate",
    "image_embedder",
    "relative_attention_bias",
    "norm",
];
/// Tensors of at most so many numbers are kept as they are.
const SMALL: usize = 1024;
/// Rows that are packed at a time.
const ROWS: usize = 64;

/// How weights are to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// In blocks, in a GGUF file.
    Blocks(GgmlDType),
    /// In eight bits with a scale for each layer, in a safetensors file.
    E4m3,
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_lowercase().replace('-', "_").as_str() {
            "q8_0" => Ok(Self::Blocks(GgmlDType::Q8_0)),
            "q6_k" => Ok(Self::Blocks(GgmlDType::Q6K)),
            "q5_k" => Ok(Self::Blocks(GgmlDType::Q5K)),
            "q4_k" => Ok(Self::Blocks(GgmlDType::Q4K)),
            "fp8" => Ok(Self::E4m3),
            _ => Err(Error::usage(format!("`{text}` is not a type to quantize to"))
                .hint("use q8_0, q6_k, q5_k, q4_k or fp8")),
        }
    }
}

/// What became of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// Its name in the file that was written.
    pub name: String,
    /// How it is stored there.
    pub kind: Kind,
    /// `‖stored − original‖ / ‖original‖`; 0 for what was kept as it is.
    pub error: f64,
}

/// A tensor to be written.
struct Entry {
    /// Its name in diffusers, and in the file.
    names: [String; 2],
    shape: Vec<usize>,
    kind: Kind,
}

/// Writes the weights of a part in fewer bits, and says of each tensor what became of it.
///
/// # Errors
/// A part that talkie has no names for, an output that does not end as its format does, a disk that is full.
pub fn quantize(part: &Component, target: Target, output: &Path, on_tensor: &mut dyn FnMut(&Made)) -> Result<()> {
    let ending = if target == Target::E4m3 { "safetensors" } else { "gguf" };
    if output.extension().is_none_or(|found| found != ending) {
        return Err(Error::usage(format!("the output of this type ends in .{ending}: {}", output.display()))
            .hint(format!("name it `-o {}`", output.with_extension(ending).display())));
    }
    let (layout, architecture) = names(part, target)?;
    let weights = part.weights(&Device::Cpu, DType::F32)?;
    let entries = entries(&weights, layout, target)?;
    let whole = AtomicFile::file(output)?;
    let mut file = files::Writer::begin(whole.path(), target, architecture, &entries)?;
    for entry in &entries {
        let tensor = weights.f32(&entry.names[0], entry.shape.as_slice())?;
        let (bytes, scale) = pack(&tensor, entry.kind)?;
        let made = unpack(&bytes, entry, scale)?;
        let error = distance(&made, &tensor)?;
        file.add(&bytes, scale)?;
        on_tensor(&Made { name: entry.names[1].clone(), kind: entry.kind, error });
    }
    file.end()?;
    whole.commit(output)
}

/// The names that loaders of such files know a part's tensors by, and what GGUF calls its architecture.
fn names(part: &Component, target: Target) -> Result<(&'static Layout, &'static str)> {
    match (part.class.as_str(), target) {
        ("WanTransformer3DModel", _) => Ok((&WAN_TRANSFORMER, "wan")),
        ("LTX2VideoTransformer3DModel", _) => Ok((&LTX_ALONE, "ltxv")),
        ("UMT5EncoderModel", Target::Blocks(_)) => Ok((&UMT5_LLAMA, "t5encoder")),
        ("UMT5EncoderModel", Target::E4m3) => Ok((&UMT5_COMFY, "")),
        (class, _) => Err(Error::usage(format!("talkie does not know how others name the tensors of a `{class}`"))
            .hint(
                "it quantizes the transformers of Wan and LTX-2, and UMT5: `--part transformer`, `--part text_encoder`",
            )),
    }
}

fn entries(weights: &Weights, layout: &'static Layout, target: Target) -> Result<Vec<Entry>> {
    let entry = |(name, stored): (&String, &crate::weights::Stored)| {
        let theirs = layout.name_of(name).ok_or_else(|| {
            Error::failed(format!("`{name}` has no name in files of {}", layout.title))
                .hint("the model is of a variant that such files do not hold")
        })?;
        let kind = kind(name, &stored.shape, stored.kind, target);
        Ok(Entry { names: [name.clone(), theirs], shape: stored.shape.clone(), kind })
    };
    // What lies beside weights of eight bits goes with them.
    weights.tensors().filter(|(name, _)| !is_fp8_metadata(name)).map(entry).collect()
}

/// How a tensor is to be stored.
fn kind(name: &str, shape: &[usize], stored: Kind, target: Target) -> Kind {
    let count: usize = shape.iter().product();
    let kept = match stored {
        Kind::Plain(dtype @ (Dtype::F16 | Dtype::BF16)) if shape.len() > 1 && count > SMALL => Kind::Plain(dtype),
        _ => Kind::Plain(Dtype::F32),
    };
    let inner = name.contains("block");
    let wide = shape.len() != 2 || count <= SMALL || WIDE.iter().any(|word| name.contains(word));
    let columns = shape.last().copied().unwrap_or(1);
    match target {
        _ if wide => kept,
        Target::E4m3 if inner => Kind::Plain(Dtype::F8_E4M3),
        Target::E4m3 => kept,
        Target::Blocks(dtype) if columns % dtype.block_size() == 0 => Kind::Blocks(dtype),
        Target::Blocks(_) if columns % GgmlDType::Q8_0.block_size() == 0 => Kind::Blocks(GgmlDType::Q8_0),
        Target::Blocks(_) => kept,
    }
}

/// The bytes of a tensor in f32, as it is to be stored, and the scale of what has one.
fn pack(tensor: &Tensor, kind: Kind) -> Result<(Vec<u8>, Option<f32>)> {
    let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
    Ok(match kind {
        Kind::Blocks(dtype) => {
            let columns = tensor.dims().last().copied().unwrap_or(1);
            let pack = |rows: &[f32]| {
                let rows = Tensor::from_slice(rows, (rows.len() / columns, columns), &Device::Cpu)?;
                Ok(QTensor::quantize(&rows, dtype)?.data()?.into_owned())
            };
            let parts: Result<Vec<Vec<u8>>> = values.par_chunks(ROWS * columns).map(pack).collect();
            (parts?.concat(), None)
        }
        Kind::Plain(Dtype::F8_E4M3) => {
            let most = values.iter().fold(0f32, |most, value| most.max(value.abs()));
            let scale = if most > 0.0 { most / 448.0 } else { 1.0 };
            (values.iter().map(|value| e4m3(value / scale)).collect(), Some(scale))
        }
        Kind::Plain(Dtype::F16) => {
            (values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect(), None)
        }
        Kind::Plain(Dtype::BF16) => {
            (values.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect(), None)
        }
        Kind::Plain(_) => (values.iter().flat_map(|value| value.to_le_bytes()).collect(), None),
    })
}

/// The numbers that bytes stand for.
fn unpack(bytes: &[u8], entry: &Entry, scale: Option<f32>) -> Result<Tensor> {
    let dtype = match entry.kind {
        Kind::Blocks(dtype) => {
            let data = QStorage::from_data(bytes.into(), &Device::Cpu, dtype)?;
            return Ok(QTensor::new(data, entry.shape.as_slice())?.dequantize(&Device::Cpu)?);
        }
        Kind::Plain(dtype) => DType::try_from(dtype)?,
    };
    let tensor = Tensor::from_raw_buffer(bytes, dtype, &entry.shape, &Device::Cpu)?.to_dtype(DType::F32)?;
    Ok((tensor * f64::from(scale.unwrap_or(1.0)))?)
}

/// `‖a − b‖ / ‖b‖`, in f64.
fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    let sum = |x: &Tensor| x.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>();
    let (off, size) = (sum(&(a - b)?)?, sum(b)?);
    Ok(if size > 0.0 { (off / size).sqrt() } else { 0.0 })
}
