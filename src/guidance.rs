//! Guidance: how several predictions of the transformer become one.

use std::collections::HashMap;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::family::Denoiser;

/// What the predictions are conditioned on.
pub struct Conditioning {
    /// The embedding of the prompt.
    pub text: Tensor,
    /// The embedding of the negative prompt, where there is guidance.
    pub negative: Option<Tensor>,
    /// The first picture.
    pub image: Option<Tensor>,
}

impl Conditioning {
    /// By name, as a run's folder keeps it.
    pub fn pack(&self) -> Vec<(String, Tensor)> {
        let named = [("text", Some(&self.text)), ("negative", self.negative.as_ref()), ("image", self.image.as_ref())];
        named.into_iter().filter_map(|(name, tensor)| Some((name.to_owned(), tensor?.clone()))).collect()
    }

    /// The way back from [`Conditioning::pack`].
    ///
    /// # Errors
    /// No embedding of the prompt.
    pub fn unpack(mut tensors: HashMap<String, Tensor>) -> Result<Self> {
        let text = tensors.remove("text").ok_or_else(|| {
            Error::failed("the run's folder holds no embedding of the prompt")
                .hint("start the run again with `talkie generate`")
        })?;
        Ok(Self { text, negative: tensors.remove("negative"), image: tensors.remove("image") })
    }
}

/// The velocity under classifier-free guidance (Ho and Salimans, 2022): `n + scale·(p − n)` of the predictions p with the
/// prompt and n with the negative one. A scale of 1 and less takes p alone, at half the cost.
///
/// # Errors
/// Those of the transformer.
pub fn velocity(
    model: &dyn Denoiser,
    latents: &Tensor,
    timestep: f64,
    scale: f64,
    on: &Conditioning,
) -> Result<Tensor> {
    let image = on.image.as_ref();
    let positive = model.velocity(latents, timestep, &on.text, image)?;
    let Some(negative) = on.negative.as_ref().filter(|_| scale > 1.0) else { return Ok(positive) };
    let negative = model.velocity(latents, timestep, negative, image)?;
    Ok((&negative + ((positive - &negative)? * scale)?)?)
}
