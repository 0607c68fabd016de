//! The causal video autoencoders of Wan 2.1 and Wan 2.2 (Wan Team, 2025).
//!
//! Encoder and decoder process a video frame by frame, in memory that does not grow with its length: each
//! layer caches the frames that it needs. Their latents are un-normalised; for the transformer, see
//! [`normalise`] and [`denormalise`].

mod blocks;
mod cache;
mod config;
mod decoder;
mod encoder;
mod resample;

use candle_core::{Result, Tensor};

pub use config::Config;
pub use decoder::{DecodeStream, Decoder};
pub use encoder::{Encoder, Frames};

/// Latents in the transformer's space: each channel with mean 0 and standard deviation 1.
///
/// # Shapes
/// - `latents`: (1, z, t, h, w)
/// - output: the same
///
/// # Errors
/// Latents of other channels than the configuration's.
pub fn normalise(latents: &Tensor, config: &Config) -> Result<Tensor> {
    let (mean, std) = (channels(&config.latents_mean, latents)?, channels(&config.latents_std, latents)?);
    latents.broadcast_sub(&mean)?.broadcast_div(&std)
}

/// Latents in the decoder's space: the inverse of [`normalise`].
/// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/pipelines/wan/pipeline_wan.py#L658-L666>
///
/// # Shapes
/// - `latents`: (1, z, t, h, w)
/// - output: the same
///
/// # Errors
/// Latents of other channels than the configuration's.
pub fn denormalise(latents: &Tensor, config: &Config) -> Result<Tensor> {
    let (mean, std) = (channels(&config.latents_mean, latents)?, channels(&config.latents_std, latents)?);
    latents.broadcast_mul(&std)?.broadcast_add(&mean)
}

/// One value per channel, in the type and on the device of `latents`: (1, z, 1, 1, 1).
fn channels(values: &[f64], latents: &Tensor) -> Result<Tensor> {
    Tensor::new(values, latents.device())?.to_dtype(latents.dtype())?.reshape((1, values.len(), 1, 1, 1))
}
