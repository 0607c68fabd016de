//! The hidden states of the text encoder, normalised and beside each other: what the projections read.

use candle_core::{DType, Device, Tensor};

use super::config::Config;
use crate::error::{Error, Result};
use crate::nn::norm::rms_norm;
use crate::weights::Weights;

/// The reference's constant against division by zero.
const EPS: f64 = 1e-6;

/// What 2.0 multiplies its normalised states by.
const SCALE: f64 = 8.0;

/// Weights of more elements than this (256 MiB in f32) are widened a part at a time.
const WIDENED: usize = 64 << 20;

/// Collects the hidden states of one prompt as they are made. There is never more of them in memory than this collection.
#[derive(Debug)]
pub struct Packer {
    /// (tokens, channels, states): a channel's states lie together.
    packed: Tensor,
    seen: usize,
    per_token: bool,
}

impl Packer {
    /// Makes room for the states of a prompt of `tokens` tokens, in the type that the network computes in. That is a lot:
    /// [`Config::check_encoder`] comes first.
    ///
    /// # Errors
    /// A configuration that contradicts itself.
    pub fn new(config: &Config, tokens: usize, device: &Device, dtype: DType) -> Result<Self> {
        config.check()?;
        let shape = (tokens, config.caption_channels, config.text_proj_in_factor);
        Ok(Self { packed: Tensor::zeros(shape, dtype, device)?, seen: 0, per_token: config.per_modality_projections })
    }

    /// Takes the next state, (1, tokens, channels), beginning with the embeddings.
    ///
    /// # Errors
    /// A state of another shape, or one too many: the text encoder is not the one that the connectors read.
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
    /// There are fewer than the connectors read.
    pub fn finish(self) -> Result<Tensor> {
        let states = self.packed.dim(2)?;
        if self.seen != states {
            let seen = self.seen;
            return Err(Error::failed(format!("the connectors read {states} states; the text encoder made {seen}")));
        }
        Ok(self.packed.flatten_from(1)?.unsqueeze(0)?)
    }
}

/// `8·(x − mean)/(max − min)` over all tokens and channels of one state, as in 2.0.
fn over_all(state: &Tensor) -> candle_core::Result<Tensor> {
    // The tokens' own means first: one long sum in f32 would lose what this mean is about.
    let mean = state.mean(1)?.mean_all()?;
    let range = (state.max_all()? - state.min_all()?)?;
    state.broadcast_sub(&mean)?.broadcast_div(&(range + EPS)?)? * SCALE
}

/// The projection of the packed states: a linear layer whose weight is too large to be widened all at once.
pub(super) struct Projection {
    weight: Tensor,
    bias: Option<Tensor>,
    scale: f64,
}

impl Projection {
    /// `scale` multiplies what the layer reads.
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
