//! The attention of LTX-2: separate rotary embeddings for queries and keys, and a gate per head.

use candle_core::{DType, Result, Tensor};

use super::rope::Rope;
use crate::compute::kernels::cpu;
use crate::nn::Linear;
use crate::nn::attention::attend;
use crate::nn::norm::RmsNorm;
use crate::nn::rope::split_heads;
use crate::weights::Weights;

/// Epsilon of the norms on queries and keys.
const EPS: f64 = 1e-6;

/// The sizes of an [`Attention`].
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionShape {
    /// Width of the query tokens, and of the output.
    pub query: usize,
    /// Width of the context tokens (keys and values).
    pub context: usize,
    /// Attention heads.
    pub heads: usize,
    /// Channels per head.
    pub head_dim: usize,
    /// Whether each head has a gate.
    pub gated: bool,
}

/// diffusers' `LTX2Attention`.
pub(super) struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    to_gate_logits: Option<Linear>,
    heads: usize,
}

impl Attention {
    pub(super) fn load(weights: &Weights, shape: &AttentionShape) -> crate::error::Result<Self> {
        let &AttentionShape { query, context, heads, head_dim, gated } = shape;
        let width = heads * head_dim;
        let linear = |name: &str, inputs, outputs| Linear::load(&weights.pp(name), inputs, outputs);
        Ok(Self {
            to_q: linear("to_q", query, width)?,
            to_k: linear("to_k", context, width)?,
            to_v: linear("to_v", context, width)?,
            to_out: linear("to_out.0", width, query)?,
            norm_q: RmsNorm::load(&weights.pp("norm_q"), width, EPS)?,
            norm_k: RmsNorm::load(&weights.pp("norm_k"), width, EPS)?,
            to_gate_logits: gated.then(|| linear("to_gate_logits", query, heads)).transpose()?,
            heads,
        })
    }

    /// # Shapes
    /// - `xs`: (1, n, query), source of the queries
    /// - `context`: (1, m, context), source of keys and values
    /// - `ropes`: rotary embeddings of the queries and of the keys
    /// - `bias`: broadcast over (1, heads, n, m), added to the scores
    /// - output: (1, n, query)
    pub(super) fn forward(
        &self,
        xs: &Tensor,
        context: &Tensor,
        ropes: Option<(&Rope, &Rope)>,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        // The norm spans all heads, so it comes before they are split.
        let (q, k) = (self.to_q.forward(xs)?, self.to_k.forward(context)?);
        let (q, k) = match ropes {
            Some((queries, keys)) => (queries.turn_norm(&q, &self.norm_q)?, keys.turn_norm(&k, &self.norm_k)?),
            None => (self.norm_q.forward(&q)?, self.norm_k.forward(&k)?),
        };
        let heads = |xs: &Tensor| split_heads(xs, self.heads);
        let [q, k, v] = [heads(&q)?, heads(&k)?, heads(&self.to_v.forward(context)?)?];
        let scale = 1.0 / (q.dim(3)? as f64).sqrt();
        let ys = attend(&q, &k, &v, scale, bias)?; // (1, heads, n, head)
        self.gate_out(xs, &ys.transpose(1, 2)?)
    }

    /// Skips the attention: each token keeps its own values. The perturbation of spatio-temporal guidance
    /// (Hyung et al., 2024, arXiv:2411.18664).
    ///
    /// # Shapes
    /// - `xs` and output: (1, n, query)
    pub(super) fn values_only(&self, xs: &Tensor) -> Result<Tensor> {
        self.gate_out(xs, &split_heads(&self.to_v.forward(xs)?, self.heads)?.transpose(1, 2)?)
    }

    /// Per-head gates `2·sigmoid(logits)`, which are 1 for logits of 0, and the output projection.
    /// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/transformers/transformer_ltx2.py#L219-L226>
    ///
    /// - `xs`: (1, n, query), the attention's input
    /// - `ys`: (1, n, heads, head), its output per head
    fn gate_out(&self, xs: &Tensor, ys: &Tensor) -> Result<Tensor> {
        let ys = match &self.to_gate_logits {
            Some(layer) => {
                let logits = layer.forward(xs)?.to_dtype(DType::F32)?;
                let gates = (candle_nn::ops::sigmoid(&logits)? * 2.0)?.to_dtype(ys.dtype())?;
                cpu::scaled_rows(ys, &gates)?
            }
            None => ys.clone(),
        };
        self.to_out.forward(&ys.flatten_from(2)?)
    }
}
