//! One block of the Wan transformer: attention among the tokens, attention to the text, feed-forward.

use candle_core::{DType, Result, Tensor};

use super::config::Config;
use crate::nn::Linear;
use crate::nn::activation::gelu_tanh;
use crate::nn::attention::attend;
use crate::nn::norm::{LayerNorm, RmsNorm};
use crate::nn::rope::Rope;
use crate::weights::Weights;

/// Vectors that shift, scale and gate the tokens, one set for each run of tokens that share a timestep.
///
/// Text to video has one run. Where the first frame is given, its tokens are at time 0 and form a run of their own.
pub(super) struct Modulation {
    /// Tokens of each run, in order.
    pub runs: Vec<usize>,
    /// (runs, k, dim), f32.
    pub vectors: Tensor,
}

impl Modulation {
    /// The same runs with the learned `table` (1, k, dim) added.
    pub(super) fn with(&self, table: &Tensor) -> Result<Self> {
        Ok(Self { runs: self.runs.clone(), vectors: self.vectors.broadcast_add(table)? })
    }

    /// `xs·(1 + scale) + shift`, the vectors taken by their place among the k.
    ///
    /// # Shapes
    /// - `xs` and output: (1, tokens, dim), f32
    pub(super) fn shift_scale(&self, xs: &Tensor, shift: usize, scale: usize) -> Result<Tensor> {
        self.each_run(xs, |xs, vectors| {
            let scale = (vectors.narrow(0, scale, 1)? + 1.0)?;
            xs.broadcast_mul(&scale)?.broadcast_add(&vectors.narrow(0, shift, 1)?)
        })
    }

    /// `xs·gate`.
    ///
    /// # Shapes
    /// - `xs` and output: (1, tokens, dim), f32
    pub(super) fn gate(&self, xs: &Tensor, gate: usize) -> Result<Tensor> {
        self.each_run(xs, |xs, vectors| xs.broadcast_mul(&vectors.narrow(0, gate, 1)?))
    }

    fn each_run(&self, xs: &Tensor, f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
        if self.runs.len() == 1 {
            return f(xs, &self.vectors.get(0)?);
        }
        let mut start = 0;
        let parts = self.runs.iter().enumerate().map(|(run, &tokens)| {
            let part = xs.narrow(1, start, tokens)?;
            start += tokens;
            f(&part, &self.vectors.get(run)?)
        });
        Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 1)
    }
}

/// Attention of the tokens to themselves or to the text.
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
    fn load(weights: &Weights, config: &Config) -> crate::Result<Self> {
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
    /// - `xs`: (1, tokens, dim), where the queries come from
    /// - `context`: (1, m, dim), where keys and values come from
    /// - output: (1, tokens, dim)
    fn forward(&self, xs: &Tensor, context: &Tensor, rope: Option<&Rope>) -> Result<Tensor> {
        // The norm spans all heads, so it comes before they are split.
        let q = self.split(&self.norm_q.forward(&self.to_q.forward(xs)?)?)?;
        let k = self.split(&self.norm_k.forward(&self.to_k.forward(context)?)?)?;
        let v = self.split(&self.to_v.forward(context)?)?;
        let (q, k) = match rope {
            Some(rope) => (rope.interleaved(&q)?, rope.interleaved(&k)?),
            None => (q, k),
        };
        let scale = 1.0 / (q.dim(3)? as f64).sqrt();
        let ys = attend(&q, &k, &v, scale, None)?; // (1, heads, tokens, head)
        self.to_out.forward(&ys.transpose(1, 2)?.flatten_from(2)?)
    }

    /// (1, n, dim) → (1, heads, n, dim / heads)
    fn split(&self, xs: &Tensor) -> Result<Tensor> {
        let (b, n, dim) = xs.dims3()?;
        xs.reshape((b, n, self.heads, dim / self.heads))?.transpose(1, 2)
    }
}

/// A block. Names follow diffusers: `norm2` is the norm before the text attention (the original repository's `norm3`).
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
    pub(super) fn load(weights: &Weights, config: &Config) -> crate::Result<Self> {
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
    /// - `time`: k = 6 vectors: shift, scale, gate of the attention, then of the feed-forward
    pub(super) fn forward(&self, xs: &Tensor, text: &Tensor, time: &Modulation, rope: &Rope) -> Result<Tensor> {
        let dtype = xs.dtype();
        let time = time.with(&self.scale_shift_table)?;

        let hs = time.shift_scale(&self.norm1.forward(xs)?, 0, 1)?.to_dtype(dtype)?;
        let hs = self.attn1.forward(&hs, &hs, Some(rope))?;
        let xs = add_gated(xs, &hs, &time, 2)?;

        let hs = match &self.norm2 {
            Some(norm) => norm.forward(&xs)?.to_dtype(dtype)?,
            None => xs.clone(),
        };
        let xs = (&xs + self.attn2.forward(&hs, text, None)?)?;

        let hs = time.shift_scale(&self.norm3.forward(&xs)?, 3, 4)?.to_dtype(dtype)?;
        let hs = self.ffn_out.forward(&gelu_tanh(&self.ffn_in.forward(&hs)?)?)?;
        add_gated(&xs, &hs, &time, 5)
    }
}

/// `xs + hs·gate`, summed in f32.
fn add_gated(xs: &Tensor, hs: &Tensor, time: &Modulation, gate: usize) -> Result<Tensor> {
    let gated = time.gate(&hs.to_dtype(DType::F32)?, gate)?;
    (xs.to_dtype(DType::F32)? + gated)?.to_dtype(xs.dtype())
}
