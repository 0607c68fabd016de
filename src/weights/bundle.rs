//! talkie's own safetensors files of named tensors: saved atomically, loaded without a check of shapes.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::Weights;
use crate::error::{Context, Result};
use crate::files::atomic::write_whole;

/// Writes tensors to a safetensors file, atomically.
///
/// # Errors
/// A folder that cannot be written, a full disk.
pub fn save(path: &Path, tensors: &[(String, Tensor)], metadata: HashMap<String, String>) -> Result<()> {
    let host = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.contiguous();
    let tensors = tensors.iter().map(|(name, tensor)| Ok((name.as_str(), host(tensor)?)));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(tensors, Some(metadata)).context(|| format!("packing {}", path.display()))?;
    write_whole(path, &bytes)
}

/// Reads every tensor of a safetensors file, of any shape.
///
/// # Errors
/// A file that is missing, cut short or not safetensors.
pub fn load(path: &Path, device: &Device) -> Result<HashMap<String, Tensor>> {
    let weights = Weights::open(&[path.to_owned()], device, DType::F32)?;
    let names: Vec<(String, Vec<usize>)> = weights.shapes().collect();
    names.into_iter().map(|(name, shape)| Ok((name.clone(), weights.stored(&name, shape)?))).collect()
}

/// The metadata of a safetensors file.
///
/// # Errors
/// A file that cannot be read, or is not safetensors.
pub fn metadata(path: &Path) -> Result<HashMap<String, String>> {
    Weights::open(&[path.to_owned()], &Device::Cpu, DType::F32).map(|weights| weights.metadata())
}
