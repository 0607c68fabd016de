//! Packs the text encoder's hidden states for the projections: normalised and concatenated.

use candle_core::{DType, Device, Tensor};

use super::config::Config;
use crate::error::{Error, Result};
use crate::nn::norm::rms_norm;
use crate::weights::Weights;

/// Epsilon of both normalisations.
const EPS: f64 = 1e-6;

/// Scale of the normalised states in 2.0.
const SCALE: f64 = 8.0;

/// The most elements of a weight that are widened at once: 256 MiB in f32.
const WIDENED: usize = 64 << 20;

/// Collects the hidden states of one prompt as they are made, so that no second copy is in memory.
#[derive(Debug)]
pub struct Packer {
    /// (tokens, channels, states)
    packed: Tensor,
    seen: usize,
    per_token: bool,
}

impl Packer {
    /// Allocates the states of a prompt of `tokens` tokens, in the compute type. They are large: call
    /// [`Config::check_encoder`] first.
    ///
    /// # Errors
    /// A configuration that contradicts itself.
    pub fn new(config: &Config, tokens: usize, device: &Device, dtype: DType) -> Result<Self> {
        config.check()?;
        let shape = (tokens, config.caption_channels, config.text_proj_in_factor);
        Ok(Self { packed: Tensor::zeros(shape, dtype, device)?, seen: 0, per_token: config.per_modality_projections })
    }

    /// Adds the next state, (1, tokens, channels), starting with the embeddings.
    ///
    /// # Errors
    /// A state of another shape, or one too many.
    pub fn push(&mut self, state: &Tensor) -> Result<()> {
        let (tokens, channels, states) = self.packed.dims3()?;
        if state.dims() != [1, tokens, channels] || self.seen == states {
            return Err(Error::failed(format!(
                "the connectors read {states} states of {tokens} tokens and {channels} channels; the text encoder's number {} \
                 has the shape {:?}",
                self.seen + 1,
                state.dims()
            )));
        }
        let wide = state.to_dtype(DType::F32)?.squeeze(0)?;
        let normalised = if self.per_token { rms_norm(&wide, EPS)? } else { over_all(&wide)? };
        let column = normalised.to_dtype(self.packed.dtype())?.unsqueeze(2)?.contiguous()?;
        self.packed.slice_set(&column, 2, self.seen)?;
        self.seen += 1;
        Ok(())
    }

    /// All states, (1, tokens, channels · states).
    ///
    /// # Errors
    /// Fewer states than the connectors read.
    pub fn finish(self) -> Result<Tensor> {
        let states = self.packed.dim(2)?;
        if self.seen != states {
            let seen = self.seen;
            return Err(Error::failed(format!("the connectors read {states} states; the text encoder made {seen}")));
        }
        Ok(self.packed.flatten_from(1)?.unsqueeze(0)?)
    }
}

/// `8·(x − mean)/(max − min)` over all tokens and channels of one state, as in 2.0:
/// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/pipelines/ltx2/connectors.py#L59-L70>
fn over_all(state: &Tensor) -> candle_core::Result<Tensor> {
    // First the mean of each token: one long sum would lose precision in f32.
    let mean = state.mean(1)?.mean_all()?;
    let range = (state.max_all()? - state.min_all()?)?;
    state.broadcast_sub(&mean)?.broadcast_div(&(range + EPS)?)? * SCALE
}

/// The projection of the packed states: a linear layer whose weight is too large to widen at once.
pub(super) struct Projection {
    weight: Tensor,
    bias: Option<Tensor>,
    scale: f64,
}

impl Projection {
    /// `scale` multiplies the input.
    pub(super) fn load(weights: &Weights, config: &Config, outputs: usize, scale: f64) -> Result<Self> {
        let inputs = config.caption_channels * config.text_proj_in_factor;
        let bias = config.proj_bias.then(|| weights.compute("bias", outputs)).transpose()?;
        Ok(Self { weight: weights.stored("weight", (outputs, inputs))?, bias, scale })
    }

    /// - `packed`: (1, tokens, in)
    /// - output: (1, tokens, out)
    pub(super) fn forward(&self, packed: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.weight.dims2()?;
        let rows = packed.squeeze(0)?;
        let block = (WIDENED / inputs).clamp(1, outputs);
        let part = |start: usize| {
            let weight = self.weight.narrow(0, start, block.min(outputs - start))?.to_dtype(packed.dtype())?;
            rows.matmul(&weight.t()?)? * self.scale
        };
        let parts = (0..outputs).step_by(block).map(part).collect::<candle_core::Result<Vec<_>>>()?;
        let ys = Tensor::cat(&parts, 1)?;
        let ys = match &self.bias {
            Some(bias) => ys.broadcast_add(bias)?,
            None => ys,
        };
        Ok(ys.contiguous()?.unsqueeze(0)?)
    }
}
