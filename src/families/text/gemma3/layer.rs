//! One layer of Gemma 3: attention and feed-forward, each between two norms.

use candle_core::{D, Result, Tensor};

use super::config::Config;
use crate::compute::kernels::cpu;
use crate::nn::Linear;
use crate::nn::attention::attend;
use crate::nn::norm::RmsNorm;
use crate::nn::rope::Rope;
use crate::weights::Weights;

/// Shared by all layers of one kind: rotary embedding and attention mask.
pub(super) struct View {
    pub rope: Rope,
    /// (n, n), queries first: 0 where a token attends to another, −∞ elsewhere.
    pub mask: Tensor,
}

#[derive(Debug, Clone)]
pub(super) struct Layer {
    input_layernorm: RmsNorm,
    attention: Attention,
    post_attention_layernorm: RmsNorm,
    pre_feedforward_layernorm: RmsNorm,
    feed_forward: FeedForward,
    post_feedforward_layernorm: RmsNorm,
}

impl Layer {
    pub(super) fn load(weights: &Weights, config: &Config) -> crate::error::Result<Self> {
        let norm = |name: &str| RmsNorm::centred(&weights.pp(name), config.hidden_size, config.rms_norm_eps);
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            attention: Attention::load(&weights.pp("self_attn"), config)?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            pre_feedforward_layernorm: norm("pre_feedforward_layernorm")?,
            feed_forward: FeedForward::load(&weights.pp("mlp"), config)?,
            post_feedforward_layernorm: norm("post_feedforward_layernorm")?,
        })
    }

    /// - `xs`, output: (1, n, hidden_size)
    pub(super) fn forward(&self, xs: &Tensor, view: &View) -> Result<Tensor> {
        let ys = self.attention.forward(&self.input_layernorm.forward(xs)?, view)?;
        let xs = cpu::sum_of(xs, &self.post_attention_layernorm.forward(&ys)?)?;
        let ys = self.feed_forward.forward(&self.pre_feedforward_layernorm.forward(&xs)?)?;
        cpu::sum_of(&xs, &self.post_feedforward_layernorm.forward(&ys)?)
    }
}

/// Grouped-query attention: several query heads share one key and value head (Ainslie et al., 2023).
#[derive(Debug, Clone)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: RmsNorm,
    k_norm: RmsNorm,
    heads: usize,
    key_heads: usize,
    scale: f64,
}

impl Attention {
    fn load(weights: &Weights, config: &Config) -> crate::error::Result<Self> {
        let (dim, head) = (config.hidden_size, config.head_dim);
        let (inner, keys) = (config.num_attention_heads * head, config.num_key_value_heads * head);
        let norm = |name: &str| RmsNorm::centred(&weights.pp(name), head, config.rms_norm_eps);
        Ok(Self {
            q_proj: Linear::without_bias(&weights.pp("q_proj"), dim, inner)?,
            k_proj: Linear::without_bias(&weights.pp("k_proj"), dim, keys)?,
            v_proj: Linear::without_bias(&weights.pp("v_proj"), dim, keys)?,
            o_proj: Linear::without_bias(&weights.pp("o_proj"), inner, dim)?,
            q_norm: norm("q_norm")?,
            k_norm: norm("k_norm")?,
            heads: config.num_attention_heads,
            key_heads: config.num_key_value_heads,
            scale: config.query_pre_attn_scalar.sqrt().recip(),
        })
    }

    fn forward(&self, xs: &Tensor, view: &View) -> Result<Tensor> {
        let (b, n, _) = xs.dims3()?;
        let split = |ys: Tensor, heads: usize| ys.reshape((b, n, heads, ())); // (b, n, heads, head_dim)
        let q = self.q_norm.forward(&split(self.q_proj.forward(xs)?, self.heads)?)?;
        let k = self.k_norm.forward(&split(self.k_proj.forward(xs)?, self.key_heads)?)?;
        let v = split(self.v_proj.forward(xs)?, self.key_heads)?;
        let q = view.rope.halves(&q.transpose(1, 2)?)?; // (b, heads, n, head_dim)
        let k = self.shared(&view.rope.halves(&k.transpose(1, 2)?)?)?;
        let v = self.shared(&v.transpose(1, 2)?)?;
        let ys = attend(&q, &k, &v, self.scale, Some(&view.mask))?;
        self.o_proj.forward(&ys.transpose(1, 2)?.flatten_from(D::Minus2)?)
    }

    /// Repeats key or value heads for the query heads: (b, key_heads, n, head_dim) to (b, heads, n, head_dim).
    fn shared(&self, xs: &Tensor) -> Result<Tensor> {
        let (b, key_heads, n, head) = xs.dims4()?;
        let wide = xs.unsqueeze(2)?.expand((b, key_heads, self.heads / key_heads, n, head))?;
        wide.contiguous()?.reshape((b, self.heads, n, head))
    }
}

/// `down(gelu(gate·x) · up·x)` (Shazeer, 2020).
#[derive(Debug, Clone)]
struct FeedForward {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl FeedForward {
    fn load(weights: &Weights, config: &Config) -> crate::error::Result<Self> {
        let (outer, inner) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            gate_proj: Linear::without_bias(&weights.pp("gate_proj"), outer, inner)?,
            up_proj: Linear::without_bias(&weights.pp("up_proj"), outer, inner)?,
            down_proj: Linear::without_bias(&weights.pp("down_proj"), inner, outer)?,
        })
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.down_proj.forward(&cpu::product_of(&self.gate_proj.forward_gelu(xs)?, &self.up_proj.forward(xs)?)?)
    }
}
