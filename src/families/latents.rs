//! Latents: what the denoising works on, and their files.
//!
//! A latent file is safetensors with `video` (1, C, T, H, W) and, with sound, `audio` (1, T, C), as f32, in the transformer's
//! normalised space.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::weights::bundle;

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

    /// The latents that `f` makes of each modality's.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn map<E>(&self, mut f: impl FnMut(&Tensor) -> std::result::Result<Tensor, E>) -> std::result::Result<Self, E> {
        Ok(Self { video: f(&self.video)?, audio: self.audio.as_ref().map(f).transpose()? })
    }

    /// The latents that `f` makes of each modality's of two. Audio that only one of them has is left out.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn zip<E>(
        &self,
        other: &Self,
        mut f: impl FnMut(&Tensor, &Tensor) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Self, E> {
        let video = f(&self.video, &other.video)?;
        let audio = self.audio.as_ref().zip(other.audio.as_ref()).map(|(one, other)| f(one, other)).transpose()?;
        Ok(Self { video, audio })
    }

    /// A number of each modality: of the video, and of the audio where there is some.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn each<T, E>(
        &self,
        mut f: impl FnMut(&Tensor) -> std::result::Result<T, E>,
    ) -> std::result::Result<(T, Option<T>), E> {
        Ok((f(&self.video)?, self.audio.as_ref().map(f).transpose()?))
    }

    /// Whether every value is a finite number.
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

const SOURCES: &str = "latent files come from `--save-latents` and from the folders of runs";

/// Reads `video` (1, C, T, H, W) and, where it is there, `audio` (1, T, C) from a latent or noise file, as f32.
///
/// # Errors
/// A file that cannot be read, has no `video`, or tensors of another number of axes or that are not finite.
pub fn load_latents(path: &Path) -> Result<Latents> {
    let mut tensors = bundle::load(path, &Device::Cpu)?;
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
pub fn is_finite(tensor: &Tensor) -> candle_core::Result<bool> {
    let tensor = tensor.to_dtype(DType::F32)?;
    // Which of the two a maximum makes of NaN is up to the device; a sum keeps it.
    let largest = tensor.abs()?.max_all()?.to_scalar::<f32>()?;
    let sum = tensor.sum_all()?.to_scalar::<f32>()?;
    Ok(largest.is_finite() && !sum.is_nan())
}
