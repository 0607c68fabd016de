//! Normalisation of audio tokens: from the space of the autoencoder to that of the transformer, and back.

use candle_core::{DType, Result, Tensor};

use super::config::Config;
use crate::families::vae::check_statistics;
use crate::weights::Weights;

/// Mean and standard deviation of each channel of an audio token, stored with the weights.
#[derive(Debug)]
pub(super) struct Statistics {
    /// (width), f32
    mean: Tensor,
    /// (width), f32
    std: Tensor,
}

impl Statistics {
    pub(super) fn load(config: &Config, weights: &Weights) -> crate::error::Result<Self> {
        let (mean, std) = (weights.f32("latents_mean", config.width())?, weights.f32("latents_std", config.width())?);
        check_statistics("audio_vae", &mean, &std)?;
        Ok(Self { mean, std })
    }

    pub(super) fn normalise(&self, tokens: &Tensor) -> Result<Tensor> {
        tokens.to_dtype(DType::F32)?.broadcast_sub(&self.mean)?.broadcast_div(&self.std)
    }

    pub(super) fn denormalise(&self, tokens: &Tensor) -> Result<Tensor> {
        tokens.to_dtype(DType::F32)?.broadcast_mul(&self.std)?.broadcast_add(&self.mean)
    }
}
