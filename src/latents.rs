//! Latents: what the denoising works on, and their files.
//!
//! A latent file is safetensors with `video` (1, C, T, H, W) and, with sound, `audio` (1, T, C), as f32, in the transformer's
//! normalised space.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::error::{Context, Error, Result};
use crate::part::Part;
use crate::weights::Weights;

/// What the denoising works on: pictures, and sound where the model makes both at once.
#[derive(Debug, Clone)]
pub struct Latents {
    /// (1, C, T, H, W)
    pub video: Tensor,
    /// (1, T, C)
    pub audio: Option<Tensor>,
}

impl From<Tensor> for Latents {
    fn from(video: Tensor) -> Self {
        Self { video, audio: None }
    }
}

impl Latents {
    /// By name, as files keep them.
    pub fn pack(&self) -> Vec<(String, Tensor)> {
        let named = [(VIDEO, Some(&self.video)), (AUDIO, self.audio.as_ref())];
        named.into_iter().filter_map(|(name, tensor)| Some((name.to_owned(), tensor?.clone()))).collect()
    }

    /// The way back from [`Latents::pack`]; what else is among the tensors stays there.
    pub fn unpack(tensors: &mut HashMap<String, Tensor>) -> Option<Self> {
        let audio = tensors.remove(AUDIO);
        Some(Self { video: tensors.remove(VIDEO)?, audio })
    }

    /// The same on another device.
    ///
    /// # Errors
    /// Those of candle.
    pub fn to_device(&self, device: &Device) -> candle_core::Result<Self> {
        let audio = self.audio.as_ref().map(|audio| audio.to_device(device)).transpose()?;
        Ok(Self { video: self.video.to_device(device)?, audio })
    }

    /// The same times a number.
    ///
    /// # Errors
    /// Those of candle.
    pub fn scaled(&self, by: f64) -> candle_core::Result<Self> {
        let audio = self.audio.as_ref().map(|audio| audio * by).transpose()?;
        Ok(Self { video: (&self.video * by)?, audio })
    }

    /// Whether every value is a finite number.
    ///
    /// # Errors
    /// Those of candle.
    pub fn is_finite(&self) -> candle_core::Result<bool> {
        Ok(is_finite(&self.video)? && self.audio.as_ref().map_or(Ok(true), is_finite)?)
    }

    /// Whether these are of the shapes `video` and `audio`.
    pub fn has_shapes(&self, video: &[usize], audio: Option<&[usize]>) -> bool {
        self.video.dims() == video && self.audio.as_ref().map(Tensor::dims) == audio
    }
}

const VIDEO: &str = "video";
const AUDIO: &str = "audio";

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
            .hint("name a file in that folder"));
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

/// Reads `video` (1, C, T, H, W) and, where it is there, `audio` (1, T, C) from a latent or noise file, as f32.
///
/// # Errors
/// A file that cannot be read, has no `video`, or tensors of another number of axes or that are not finite.
pub fn load_latents(path: &Path) -> Result<Latents> {
    let mut tensors = load(path, &Device::Cpu)?;
    let Latents { video, audio } = Latents::unpack(&mut tensors)
        .ok_or_else(|| Error::failed(format!("no tensor `video` in {}", path.display())).hint(SOURCES))?;
    let video = checked(VIDEO, &video, "(1, C, T, H, W)", path)?;
    let audio = audio.map(|audio| checked(AUDIO, &audio, "(1, T, C)", path)).transpose()?;
    Ok(Latents { video, audio })
}

/// A tensor of a file in f32, where it has the axes that it should have.
fn checked(name: &str, tensor: &Tensor, axes: &str, path: &Path) -> Result<Tensor> {
    let tensor = tensor.to_dtype(DType::F32)?;
    if tensor.rank() != axes.split(',').count() || tensor.dims()[0] != 1 || tensor.elem_count() == 0 {
        return Err(Error::failed(format!(
            "`{name}` has the shape {:?}, where {axes} belongs, in {}",
            tensor.dims(),
            path.display()
        ))
        .hint(SOURCES));
    }
    if !is_finite(&tensor)? {
        return Err(Error::failed(format!("`{name}` holds values that are not finite, in {}", path.display()))
            .hint("whatever made the file overflowed: make it again, in `--dtype f32`"));
    }
    Ok(tensor)
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
