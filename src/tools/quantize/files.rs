//! The files that quantized weights are written to, a tensor after the other.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use candle_core::quantized::GgmlDType;
use safetensors::tensor::Dtype;
use serde_json::{Map, Value, json};

use super::{Entry, Target};
use crate::error::{Context, Error, Result};
use crate::files::atomic::DISK;
use crate::weights::Kind;

/// Where GGUF's tensors begin: at multiples of this.
const ALIGNMENT: usize = 32;

/// A file whose header is settled, and whose tensors come in its order.
pub(super) struct Writer {
    target: Target,
    file: BufWriter<File>,
}

impl Writer {
    /// Writes the header.
    pub(super) fn begin(path: &Path, target: Target, architecture: &str, entries: &[Entry]) -> Result<Self> {
        let header = match target {
            Target::Blocks(dtype) => gguf(dtype, architecture, entries)?,
            Target::E4m3 => safetensors(entries)?,
        };
        let file = File::create(path).context(|| format!("cannot write {}", path.display()))?;
        let mut writer = Self { target, file: BufWriter::new(file) };
        writer.write(&header)?;
        Ok(writer)
    }

    /// The next tensor, with its scale in front of it where it has one, as their names are sorted.
    pub(super) fn add(&mut self, bytes: &[u8], scale: Option<f32>) -> Result<()> {
        if let Some(scale) = scale {
            self.write(&scale.to_le_bytes())?;
        }
        self.write(bytes)?;
        match self.target {
            Target::Blocks(_) => self.write(&vec![0; bytes.len().next_multiple_of(ALIGNMENT) - bytes.len()]),
            Target::E4m3 => Ok(()),
        }
    }

    pub(super) fn end(mut self) -> Result<()> {
        self.file.flush().context(|| "writing weights").map_err(|error| error.hint(DISK))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).context(|| "writing weights").map_err(|error| error.hint(DISK))
    }
}

fn size(entry: &Entry) -> Result<usize> {
    entry
        .kind
        .bytes(&entry.shape)
        .ok_or_else(|| Error::failed(format!("`{}` has no size as {}", entry.names[1], entry.kind)))
}

/// ggml's `docs/gguf.md`, version 3.
fn gguf(dtype: GgmlDType, architecture: &str, entries: &[Entry]) -> Result<Vec<u8>> {
    let mut out = b"GGUF".to_vec();
    let word = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    out.extend(3u32.to_le_bytes());
    out.extend((entries.len() as u64).to_le_bytes());
    out.extend(3u64.to_le_bytes());
    word(&mut out, "general.architecture");
    out.extend(8u32.to_le_bytes());
    word(&mut out, architecture);
    for (key, value) in [("general.quantization_version", 2), ("general.file_type", file_type(dtype))] {
        word(&mut out, key);
        out.extend(4u32.to_le_bytes());
        out.extend(u32::to_le_bytes(value));
    }
    let mut offset = 0;
    for entry in entries {
        word(&mut out, &entry.names[1]);
        out.extend((entry.shape.len() as u32).to_le_bytes());
        entry.shape.iter().rev().for_each(|side| out.extend((*side as u64).to_le_bytes()));
        out.extend(number(entry.kind).to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += size(entry)?.next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    Ok(out)
}

/// What llama.cpp calls a file of mostly that type.
fn file_type(dtype: GgmlDType) -> u32 {
    match dtype {
        GgmlDType::Q4K => 14,
        GgmlDType::Q5K => 16,
        GgmlDType::Q6K => 18,
        _ => 7,
    }
}

/// ggml's number of a type.
fn number(kind: Kind) -> u32 {
    match kind {
        Kind::Blocks(GgmlDType::Q8_0) => 8,
        Kind::Blocks(GgmlDType::Q4K) => 12,
        Kind::Blocks(GgmlDType::Q5K) => 13,
        Kind::Blocks(GgmlDType::Q6K) => 14,
        Kind::Plain(Dtype::F16) => 1,
        Kind::Plain(Dtype::BF16) => 30,
        _ => 0,
    }
}

/// ComfyUI's scaled e4m3: `scale_weight` beside each layer's weight, and an empty tensor that says so.
fn safetensors(entries: &[Entry]) -> Result<Vec<u8>> {
    let (mut tensors, mut at) = (Map::new(), 0);
    let mut add = |name: String, dtype: &str, shape: &[usize], bytes: usize| {
        tensors.insert(name, json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes] }));
        at += bytes;
    };
    add("scaled_fp8".into(), "F8_E4M3", &[0], 0);
    for entry in entries {
        let name = &entry.names[1];
        if entry.kind == Kind::Plain(Dtype::F8_E4M3) {
            add(name.replace(".weight", ".scale_weight"), "F32", &[], 4);
        }
        add(name.clone(), &entry.kind.to_string(), &entry.shape, size(entry)?);
    }
    let mut json = serde_json::to_vec(&Value::Object(tensors)).context(|| "packing a header")?;
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok([&(json.len() as u64).to_le_bytes()[..], &json].concat())
}
