//! Latents: their files and their preview.
//!
//! A latent file is safetensors with `video` (1, C, T, H, W), f32, in the transformer's normalised space.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::error::{Context, Error, Result};
use crate::part::Part;
use crate::weights::Weights;

/// Writes tensors to a safetensors file under a temporary name and renames it when it is whole and on the disk.
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

/// Writes a file under a temporary name in the same folder, and renames it when its bytes are on the disk.
///
/// # Errors
/// A folder that is not there or cannot be written, a full disk. Nothing is left behind then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let part = Part::file(path).context(failed)?;
    std::fs::write(part.path(), bytes).context(failed).map_err(|error| {
        error.hint("check that the folder exists, that you may write there, and that the disk is not full")
    })?;
    part.keep(path)
}

/// Tries whether a file could be written at `path`, and leaves what is there as it is.
///
/// # Errors
/// A folder that is not there or cannot be written, or a folder in the file's place.
pub fn check_place(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::usage(format!("a file is to be written where a folder is: {}", path.display()))
            .hint("name a file in it, such as `latents.safetensors`"));
    }
    Part::file(path).map(drop).context(|| format!("cannot write {}", path.display()))
}

/// Reads every tensor of a safetensors file, without a demand on shapes.
///
/// # Errors
/// A file that is missing, cut short or not safetensors.
pub fn load(path: &Path, device: &Device) -> Result<HashMap<String, Tensor>> {
    let weights = Weights::open(&[path.to_owned()], device, DType::F32)?;
    let names: Vec<(String, Vec<usize>)> = weights.shapes().collect();
    names.into_iter().map(|(name, shape)| Ok((name.clone(), weights.stored(&name, shape)?))).collect()
}

const SOURCES: &str = "latent files come from `--save-latents` and from the folders of runs";

/// Reads `video` (1, C, T, H, W) from a latent or noise file, as f32.
///
/// # Errors
/// A file that cannot be read, has no `video`, or one that is not five-dimensional and finite.
pub fn load_video(path: &Path) -> Result<Tensor> {
    let mut tensors = load(path, &Device::Cpu)?;
    let video = tensors
        .remove("video")
        .ok_or_else(|| Error::failed(format!("no tensor `video` in {}", path.display())).hint(SOURCES))?;
    let video = video.to_dtype(DType::F32)?;
    match *video.dims() {
        [1, _, _, _, _] if video.elem_count() > 0 => {}
        _ => {
            return Err(Error::failed(format!(
                "`video` has the shape {:?}, where (1, C, T, H, W) belongs, in {}",
                video.dims(),
                path.display()
            ))
            .hint(SOURCES));
        }
    }
    if !is_finite(&video)? {
        return Err(Error::failed(format!("`video` holds values that are not finite, in {}", path.display()))
            .hint("whatever made the file overflowed: make it again, in `--dtype f32`"));
    }
    Ok(video)
}

/// Whether every value is a finite number.
///
/// # Errors
/// Those of candle.
pub fn is_finite(tensor: &Tensor) -> candle_core::Result<bool> {
    let tensor = tensor.to_dtype(DType::F32)?;
    // Which of the two a maximum makes of NaN is up to the device; a sum keeps it.
    let largest = tensor.abs()?.max_all()?.to_scalar::<f32>()?;
    let sum = tensor.sum_all()?.to_scalar::<f32>()?;
    Ok(largest.is_finite() && !sum.is_nan())
}

/// The words that a safetensors file carries besides its tensors.
///
/// # Errors
/// A file that cannot be read, or is not safetensors.
pub fn metadata(path: &Path) -> Result<HashMap<String, String>> {
    Weights::open(&[path.to_owned()], &Device::Cpu, DType::F32).map(|weights| weights.words())
}
