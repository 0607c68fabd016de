//! Detection of quantised formats that talkie does not support.
//!
//! Without this, such a file would fail at its first tensor of an unexpected name or type.

use std::collections::BTreeSet;

use safetensors::tensor::Dtype;
use serde_json::Value;

use super::stored::{Kind, Table};
use crate::error::{Error, Result};

/// A sign of a format.
enum Sign {
    /// ComfyUI's note beside a matrix, or in the metadata, names the format.
    Noted(&'static str),
    /// There is a tensor whose name ends with these words.
    Named(&'static str),
    /// There is such a tensor, in this type.
    Typed(&'static str, Dtype),
}

use Sign::{Named, Noted, Typed};

/// The formats, each with signs that a file of it has together. The first match wins.
const FORMATS: &[(&str, &[Sign])] = &[
    ("NVFP4", &[Noted("nvfp4")]),
    ("MXFP8", &[Noted("mxfp8")]),
    ("INT8", &[Noted("int8_tensorwise")]),
    ("NVFP4", &[Named("weight_scale_2")]),
    ("MXFP8", &[Typed("weight_scale", Dtype::F8_E8M0)]),
    ("MXFP8", &[Typed("weight", Dtype::F8_E4M3), Typed("weight_scale", Dtype::U8)]),
    ("NF4 of bitsandbytes", &[Named("quant_state.bitsandbytes__nf4")]),
    ("FP4 of bitsandbytes", &[Named("quant_state.bitsandbytes__fp4")]),
    ("4 bits of bitsandbytes", &[Named("absmax"), Named("quant_map")]),
    ("INT8 of bitsandbytes", &[Named("weight"), Named("SCB")]),
    ("SVDQuant (Nunchaku)", &[Named("qweight"), Named("wscales")]),
    ("SVDQuant (Nunchaku)", &[Named("smooth_factor"), Named("proj_down"), Named("proj_up")]),
    ("GPTQ or AWQ", &[Named("qweight"), Named("qzeros"), Named("scales")]),
    ("a format of quanto", &[Named("_data"), Named("_scale")]),
    ("a format of torchao", &[Named("_weight_qdata")]),
    ("INT8", &[Typed("weight", Dtype::I8)]),
];

/// ComfyUI's names of supported formats.
const READ: [&str; 2] = ["float8_e4m3fn", "float8_e5m2"];

/// Most bytes of ComfyUI's note beside a matrix.
const NOTE: usize = 4096;

/// Refuses a safetensors file in a format that talkie does not compute with.
///
/// # Errors
/// The name of the format, and what to take instead.
pub(super) fn check(table: &Table, bytes: &[u8]) -> Result<()> {
    let notes = notes(table, bytes);
    let has = |sign: &Sign| match sign {
        Noted(format) => notes.contains(*format),
        Named(words) => table.tensors.keys().any(|name| ends(name, words)),
        Typed(words, dtype) => {
            table.tensors.iter().any(|(name, stored)| stored.kind == Kind::Plain(*dtype) && ends(name, words))
        }
    };
    let known = FORMATS.iter().find(|(_, signs)| signs.iter().all(has)).map(|(format, _)| (*format).to_owned());
    let unknown = || notes.iter().find(|note| !READ.contains(&note.as_str())).map(|note| format!("`{note}`"));
    let Some(format) = known.or_else(unknown) else { return Ok(()) };
    Err(Error::failed(format!("its weights are in {format}, which talkie does not compute with")).hint(
        "talkie reads BF16, F16 and F32, FP8 (e4m3 and e5m2, with scales or without), and GGUF with Q4_0 to Q8_0 and Q2_K to \
         Q6_K: take the file in one of these, or make one from BF16 with `talkie quantize`",
    ))
}

/// The formats named by ComfyUI: in one tensor per layer, or for all layers in the metadata.
fn notes(table: &Table, bytes: &[u8]) -> BTreeSet<String> {
    let format = |note: &Value| Some(note.get("format")?.as_str()?.to_owned());
    let beside = table.tensors.iter().filter(|(name, _)| ends(name, "comfy_quant")).filter_map(|(_, stored)| {
        let note = bytes.get(stored.range.0..stored.range.1).filter(|note| note.len() <= NOTE)?;
        format(&serde_json::from_slice(note).ok()?)
    });
    let all = table.metadata.get("_quantization_metadata").and_then(|words| serde_json::from_str::<Value>(words).ok());
    let layers = all.as_ref().and_then(|all| all.get("layers")?.as_object()).into_iter().flat_map(|all| all.values());
    beside.chain(layers.filter_map(format)).collect()
}

/// Whether a name ends with `words`, after a dot.
fn ends(name: &str, words: &str) -> bool {
    name.strip_suffix(words).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}
