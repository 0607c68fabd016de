//! Normalisation of latents: from the space of the autoencoder to that of the transformer, and back.

use candle_core::{DType, Tensor};

use super::config::Config;
use crate::error::Result;
use crate::families::vae::check_statistics;
use crate::weights::Weights;

/// Mean and standard deviation of each latent channel, stored with the autoencoder's weights.
#[derive(Debug, Clone)]
pub struct Statistics {
    /// (1, z, 1, 1, 1), f32
    mean: Tensor,
    /// (1, z, 1, 1, 1), f32
    std: Tensor,
    scale: f64,
}

impl Statistics {
    /// Takes `latents_mean` and `latents_std` from the autoencoder's weights.
    ///
    /// # Errors
    /// A missing tensor, one of another shape, or values that are not means and standard deviations.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let z = config.latent_channels;
        let (mean, std) = (weights.f32("latents_mean", z)?, weights.f32("latents_std", z)?);
        check_statistics("vae", &mean, &std)?;
        let each = |values: Tensor| values.reshape((1, z, 1, 1, 1));
        Ok(Self { mean: each(mean)?, std: each(std)?, scale: config.scaling_factor })
    }

    /// Latents in the transformer's space: each channel with mean 0 and standard deviation 1.
    /// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/pipelines/ltx2/pipeline_ltx2.py#L684-L703>
    ///
    /// # Shapes
    /// - `latents`: (1, z, t, h, w), on any device
    /// - output: the same, in the same type
    ///
    /// # Errors
    /// Latents of other channels than the statistics'.
    pub fn normalise(&self, latents: &Tensor) -> Result<Tensor> {
        let (mean, std) = self.on(latents)?;
        let wide = latents.to_dtype(DType::F32)?;
        let normal = (wide.broadcast_sub(&mean)? * self.scale)?.broadcast_div(&std)?;
        Ok(normal.to_dtype(latents.dtype())?)
    }

    /// Latents in the space of the decoder and the upsampler: the inverse of [`Statistics::normalise`].
    ///
    /// # Shapes
    /// - `latents`: (1, z, t, h, w), on any device
    /// - output: the same, in the same type
    ///
    /// # Errors
    /// Latents of other channels than the statistics'.
    pub fn denormalise(&self, latents: &Tensor) -> Result<Tensor> {
        let (mean, std) = self.on(latents)?;
        let wide = latents.to_dtype(DType::F32)?;
        let stretched = (wide.broadcast_mul(&std)? / self.scale)?;
        Ok(stretched.broadcast_add(&mean)?.to_dtype(latents.dtype())?)
    }

    /// Mean and standard deviation on the device of the latents.
    fn on(&self, latents: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.mean.to_device(latents.device())?, self.std.to_device(latents.device())?))
    }
}
