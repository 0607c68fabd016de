//! One block of the Wan transformer: self-attention, cross-attention to the text, feed-forward.

use candle_core::{Result, Tensor};

use super::config::Config;
use crate::compute::kernels::cpu;
use crate::nn::Linear;
use crate::nn::attention::attend;
use crate::nn::modulation::Modulation;
use crate::nn::norm::{LayerNorm, Plain, RmsNorm};
use crate::nn::rope::{Rope, split_heads};
use crate::weights::Weights;

/// Self-attention, or cross-attention to the text.
struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    heads: usize,
}

impl Attention {
    fn load(weights: &Weights, config: &Config) -> crate::error::Result<Self> {
        let dim = config.dim();
        let linear = |name: &str| Linear::load(&weights.pp(name), dim, dim);
        Ok(Self {
            to_q: linear("to_q")?,
            to_k: linear("to_k")?,
            to_v: linear("to_v")?,
            to_out: linear("to_out.0")?,
            norm_q: RmsNorm::load(&weights.pp("norm_q"), dim, config.eps)?,
            norm_k: RmsNorm::load(&weights.pp("norm_k"), dim, config.eps)?,
            heads: config.num_attention_heads,
        })
    }

    /// # Shapes
    /// - `xs`: (1, tokens, dim), source of the queries
    /// - `context`: (1, m, dim), source of keys and values
    /// - output: (1, tokens, dim)
    fn forward(&self, xs: &Tensor, context: &Tensor, rope: Option<&Rope>) -> Result<Tensor> {
        // The norm spans all heads, so it comes before they are split.
        let (q, k, heads) = (self.to_q.forward(xs)?, self.to_k.forward(context)?, self.heads);
        let (q, k) = match rope {
            Some(rope) => {
                (rope.interleaved_norm(&q, &self.norm_q, heads)?, rope.interleaved_norm(&k, &self.norm_k, heads)?)
            }
            None => (split_heads(&self.norm_q.forward(&q)?, heads)?, split_heads(&self.norm_k.forward(&k)?, heads)?),
        };
        let v = split_heads(&self.to_v.forward(context)?, heads)?;
        let scale = 1.0 / (q.dim(3)? as f64).sqrt();
        let ys = attend(&q, &k, &v, scale, None)?; // (1, heads, tokens, head)
        self.to_out.forward(&ys.transpose(1, 2)?.flatten_from(2)?)
    }
}

/// A block. Names follow diffusers: `norm2` is the norm before the cross-attention (the original repository's
/// `norm3`).
pub(super) struct Block {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: Option<LayerNorm>,
    attn2: Attention,
    norm3: LayerNorm,
    ffn_in: Linear,
    ffn_out: Linear,
    scale_shift_table: Tensor,
}

impl Block {
    pub(super) fn load(weights: &Weights, config: &Config) -> crate::error::Result<Self> {
        let dim = config.dim();
        let text_norm = || LayerNorm::load(&weights.pp("norm2"), dim, config.eps);
        Ok(Self {
            norm1: LayerNorm::plain(weights, dim, config.eps)?,
            attn1: Attention::load(&weights.pp("attn1"), config)?,
            norm2: config.cross_attn_norm.then(text_norm).transpose()?,
            attn2: Attention::load(&weights.pp("attn2"), config)?,
            norm3: LayerNorm::plain(weights, dim, config.eps)?,
            ffn_in: Linear::load(&weights.pp("ffn.net.0.proj"), dim, config.ffn_dim)?,
            ffn_out: Linear::load(&weights.pp("ffn.net.2"), config.ffn_dim, dim)?,
            scale_shift_table: weights.f32("scale_shift_table", (1, 6, dim))?,
        })
    }

    /// # Shapes
    /// - `xs` and output: (1, tokens, dim)
    /// - `text`: (1, m, dim)
    /// - `time`: k = 6 vectors: shift, scale and gate of the self-attention, then of the feed-forward layers
    pub(super) fn forward(&self, xs: &Tensor, text: &Tensor, time: &Modulation, rope: &Rope) -> Result<Tensor> {
        let time = time.with(&self.scale_shift_table)?;

        let hs = time.shift_scale_norm(xs, Plain::Layer(&self.norm1), 0, 1)?;
        let hs = self.attn1.forward(&hs, &hs, Some(rope))?;
        let xs = time.add_gated(xs, &hs, 2)?;

        let hs = match &self.norm2 {
            Some(norm) => norm.forward_same(&xs)?,
            None => xs.clone(),
        };
        let xs = cpu::sum_of(&xs, &self.attn2.forward(&hs, text, None)?)?;

        let hs = time.shift_scale_norm(&xs, Plain::Layer(&self.norm3), 3, 4)?;
        let hs = self.ffn_out.forward(&self.ffn_in.forward_gelu(&hs)?)?;
        time.add_gated(&xs, &hs, 5)
    }
}
