//! The causal audio autoencoder of LTX-2 (Lightricks, 2026): spectra to latents and back.
//!
//! A spectrum is (1, channels, rows, bins), rows being time; a latent row stands for four of them, the first for one. The
//! transformer works on packed latents, a token per row, whose values have a mean of 0 and a deviation of 1.

mod blocks;
mod config;
mod decoder;
mod encoder;

use candle_core::{DType, Tensor};

pub use self::config::{COMPRESSION, Config};
pub use self::decoder::Decoder;
pub use self::encoder::Encoder;
use crate::error::{Error, Result};
use crate::families::vae::check_statistics;
use crate::weights::Weights;

/// Values of the largest image that exists at one time: 32 MiB in f32, of which a piece needs about five. It is reached by
/// some five seconds of sound.
const VALUES: usize = 8 << 20;

/// Mean and deviation of each value of a packed latent, which are stored with the weights.
#[derive(Debug)]
struct Statistics {
    /// (width), f32
    mean: Tensor,
    /// (width), f32
    std: Tensor,
}

impl Statistics {
    fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let (mean, std) = (weights.f32("latents_mean", config.width())?, weights.f32("latents_std", config.width())?);
        check_statistics("audio_vae", &mean, &std)?;
        Ok(Self { mean, std })
    }

    fn normalise(&self, tokens: &Tensor) -> candle_core::Result<Tensor> {
        tokens.to_dtype(DType::F32)?.broadcast_sub(&self.mean)?.broadcast_div(&self.std)
    }

    fn denormalise(&self, tokens: &Tensor) -> candle_core::Result<Tensor> {
        tokens.to_dtype(DType::F32)?.broadcast_mul(&self.std)?.broadcast_add(&self.mean)
    }
}

/// Fails on a tensor with a value that is no finite number. `what` is what it is.
fn check_finite(values: &Tensor, what: &str) -> Result<()> {
    let values = values.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let bad = values.iter().filter(|value| !value.is_finite()).count();
    if bad == 0 {
        return Ok(());
    }
    Err(Error::failed(format!("{bad} of the {} values of {what} are no finite numbers", values.len()))
        .hint("try `--dtype f32`; otherwise the weights, or the file that they come from, are damaged"))
}
