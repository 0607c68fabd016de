//! A connector: a transformer over the tokens of a prompt, followed by registers.

use candle_core::{Result, Tensor};

use super::config;
use crate::error::Error;
use crate::families::ltx::attention::{Attention, AttentionShape};
use crate::families::ltx::rope::Rope;
use crate::nn::Linear;
use crate::nn::norm::rms_norm;
use crate::weights::Weights;

/// Epsilon of all norms, which no configuration changes.
const EPS: f64 = 1e-6;

pub(super) struct Connector {
    config: config::Connector,
    registers: Tensor,
    blocks: Vec<Block>,
}

impl Connector {
    pub(super) fn load(weights: &Weights, config: config::Connector) -> crate::error::Result<Self> {
        let registers = weights.compute("learnable_registers", (config.registers, config.dim()))?;
        let blocks = (0..config.layers).map(|index| Block::load(&weights.pp("transformer_blocks").pp(index), &config));
        Ok(Self { config, registers, blocks: blocks.collect::<crate::error::Result<Vec<_>>>()? })
    }

    /// - `text`: (1, tokens, dim)
    /// - output: (1, length, dim)
    pub(super) fn forward(&self, text: &Tensor, length: usize) -> crate::error::Result<Tensor> {
        let mut xs = self.with_registers(text, length)?;
        let rope = Rope::line(&self.config.rope, length, self.config.base, text.device())?;
        for block in &self.blocks {
            xs = block.forward(&xs, &rope)?;
        }
        Ok(norm(&xs)?)
    }

    /// The tokens, then registers up to `length`: place i has register i modulo their number.
    /// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/pipelines/ltx2/connectors.py#L296-L315>
    fn with_registers(&self, text: &Tensor, length: usize) -> crate::error::Result<Tensor> {
        let (tokens, registers) = (text.dim(1)?, self.config.registers);
        if tokens > length || !length.is_multiple_of(registers) {
            return Err(Error::failed(format!(
                "cannot put {tokens} tokens and {registers} registers in {length} places: `length` must be a multiple of the \
                 registers, and at least the tokens"
            )));
        }
        if tokens == length {
            return Ok(text.clone());
        }
        let turns = (tokens..length).map(|place| (place % registers) as u32).collect::<Vec<_>>();
        let tail = self.registers.index_select(&Tensor::new(turns, text.device())?, 0)?;
        Ok(Tensor::cat(&[text, &tail.unsqueeze(0)?], 1)?)
    }
}

/// RMS norm without parameters, in the type of its input.
fn norm(xs: &Tensor) -> Result<Tensor> {
    rms_norm(xs, EPS)?.to_dtype(xs.dtype())
}

struct Block {
    attn1: Attention,
    ffn_in: Linear,
    ffn_out: Linear,
}

impl Block {
    fn load(weights: &Weights, config: &config::Connector) -> crate::error::Result<Self> {
        let &config::Connector { heads, head_dim, gated, .. } = config;
        let dim = config.dim();
        let attention = AttentionShape { query: dim, context: dim, heads, head_dim, gated };
        Ok(Self {
            attn1: Attention::load(&weights.pp("attn1"), &attention)?,
            ffn_in: Linear::load(&weights.pp("ff.net.0.proj"), dim, 4 * dim)?,
            ffn_out: Linear::load(&weights.pp("ff.net.2"), 4 * dim, dim)?,
        })
    }

    fn forward(&self, xs: &Tensor, rope: &Rope) -> Result<Tensor> {
        let ys = norm(xs)?;
        let xs = (xs + self.attn1.forward(&ys, &ys, Some((rope, rope)), None)?)?;
        &xs + self.ffn_out.forward(&self.ffn_in.forward_gelu(&norm(&xs)?)?)?
    }
}
