//! UMT5, the text encoder of the Wan models (Chung et al., 2023): T5 v1.1 with a table of relative positions
//! in every layer.

use candle_core::{D, DType, Device, Tensor};
use serde::Deserialize;

use crate::compute::kernels::cpu;
use crate::error::{Error, Result};
use crate::families::check::Check;
use crate::families::text::check_ids;
use crate::nn::Linear;
use crate::nn::attention::attend;
use crate::nn::blocks::Blocks;
use crate::nn::embed::Embedding;
use crate::nn::norm::RmsNorm;
use crate::weights::Weights;

/// `text_encoder/config.json`: the fields that change the embeddings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Config {
    /// `umt5`; T5 and mT5 share their relative positions between layers.
    pub model_type: String,
    /// Rows of the embedding table: more than the tokenizer has tokens.
    pub vocab_size: usize,
    /// Channels of a token.
    pub d_model: usize,
    /// Channels per head.
    pub d_kv: usize,
    /// Inner width of the feed-forward layers.
    pub d_ff: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Attention heads; `num_heads · d_kv` may differ from `d_model`.
    pub num_heads: usize,
    /// Rows of each layer's table of relative positions: half for each direction.
    #[serde(default = "default_buckets")]
    pub relative_attention_num_buckets: usize,
    /// The distance from which on all share the last row.
    #[serde(default = "default_distance")]
    pub relative_attention_max_distance: usize,
    /// Epsilon of the norms.
    #[serde(default = "default_epsilon")]
    pub layer_norm_epsilon: f64,
    /// `gated-gelu` in every released UMT5.
    #[serde(default = "default_feed_forward")]
    pub feed_forward_proj: String,
}

const CHECK: Check =
    Check { network: "text encoder", hint: "take `text_encoder/config.json` from the model's own repository" };

// The defaults of `UMT5Config` in transformers.
fn default_buckets() -> usize {
    32
}
fn default_distance() -> usize {
    128
}
fn default_epsilon() -> f64 {
    1e-6
}
fn default_feed_forward() -> String {
    "gated-gelu".to_owned()
}

impl Config {
    /// Refuses other encoders, and sizes that no encoder has.
    ///
    /// # Errors
    /// The field, what it must be, and its value.
    pub fn check(&self) -> Result<()> {
        if self.model_type != "umt5" {
            return Err(Error::failed(format!("the text encoder is a `{}`, not a `umt5`", self.model_type))
                .hint("the Wan models need UMT5-XXL"));
        }
        CHECK.exactly("feed_forward_proj", self.feed_forward_proj.as_str(), "gated-gelu")?;
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("d_model", self.d_model, 1 << 16),
            ("d_kv", self.d_kv, 1 << 12),
            ("d_ff", self.d_ff, 1 << 18),
            ("num_layers", self.num_layers, 1 << 10),
            ("num_heads", self.num_heads, 1 << 10),
            ("relative_attention_num_buckets", self.relative_attention_num_buckets, 1 << 12),
            ("relative_attention_max_distance", self.relative_attention_max_distance, 1 << 20),
        ];
        sizes.into_iter().try_for_each(|(name, size, most)| CHECK.within(name, size, 1..=most))?;
        let (buckets, distance) = (self.relative_attention_num_buckets, self.relative_attention_max_distance);
        if buckets % 4 != 0 || distance <= buckets / 4 {
            return Err(Error::failed(format!("{buckets} buckets cannot share out distances up to {distance}")).hint(
                "`relative_attention_num_buckets` is 32 and `relative_attention_max_distance` 128 in every release",
            ));
        }
        CHECK.epsilon("layer_norm_epsilon", self.layer_norm_epsilon)
    }
}

/// The encoder. Its weights stay in memory in their stored type.
///
/// Its activations overflow f16. There, the residual stream and the end of the feed-forward layers are
/// computed in f32, and the rest in f16; the reference likewise keeps `wo` in f32:
/// <https://github.com/huggingface/transformers/blob/de0f5d1eab/src/transformers/models/umt5/modeling_umt5.py#L129-L137>
pub struct Umt5 {
    config: Config,
    embedding: Embedding,
    blocks: Blocks<Block>,
    norm: RmsNorm,
    device: Device,
    dtype: DType,
}

impl Umt5 {
    /// Loads the encoder, under the names of `UMT5EncoderModel` in transformers.
    ///
    /// # Errors
    /// The refusals of [`Config::check`]; a tensor that is missing, of another shape, or left over.
    pub fn load(weights: &Weights, config: &Config) -> Result<Self> {
        config.check()?;
        let encoder = weights.pp("encoder");
        // One tensor under two names in the reference, so stored under either or both.
        let table = if weights.contains("shared.weight") { weights.pp("shared") } else { encoder.pp("embed_tokens") };
        let embedding = Embedding::load(&table, config.vocab_size, config.d_model)?;
        let blocks = Blocks::load(&encoder.pp("block"), config.num_layers, {
            let config = config.clone();
            move |weights| Block::load(&weights.pp("layer"), &config)
        })?;
        let norm = RmsNorm::load(&encoder.pp("final_layer_norm"), config.d_model, config.layer_norm_epsilon)?;
        weights.finish(&["encoder.embed_tokens.weight", "shared.weight"])?;
        let (device, dtype) = (weights.device().clone(), weights.dtype());
        Ok(Self { config: config.clone(), embedding, blocks, norm, device, dtype })
    }

    /// Embeds one prompt: see [`Self::encode_all`].
    ///
    /// # Errors
    /// As there.
    pub fn encode(
        &self,
        ids: &[u32],
        length: usize,
        on_block: &mut dyn FnMut(usize, usize) -> Result<()>,
    ) -> Result<Tensor> {
        Ok(self.encode_all(&[ids], length, on_block)?.remove(0))
    }

    /// Embeds prompts, all of them block by block.
    ///
    /// `on_block` is called after each block with the number of blocks done and of all; its error stops the
    /// work and is returned.
    ///
    /// The reference pads the ids to `length`, masks the padding with the lowest finite number, which softmax
    /// turns into exact zeros, and zeroes the padded rows. So only the prompt's tokens are computed here.
    ///
    /// # Shapes
    /// - `prompts`: each at most `length` token ids, each less than `vocab_size`
    /// - output: (1, length, d_model) for each prompt, in the weights' compute type; rows after the ids are
    ///   zero
    ///
    /// # Errors
    /// No ids or more than `length`, an id that the encoder has no embedding for, or an error from `on_block`.
    pub fn encode_all(
        &self,
        prompts: &[impl AsRef<[u32]>],
        length: usize,
        on_block: &mut dyn FnMut(usize, usize) -> Result<()>,
    ) -> Result<Vec<Tensor>> {
        let embed = |ids: &[u32]| -> Result<_> {
            check_ids(ids, length, self.config.vocab_size)?;
            let rows = self.embedding.forward(&Tensor::new(ids, &self.device)?, wide(self.dtype))?;
            Ok((rows.unsqueeze(0)?, self.distances(ids.len())?)) // (1, n, d)
        };
        let mut all = prompts.iter().map(|ids| embed(ids.as_ref())).collect::<Result<Vec<_>>>()?;
        self.blocks.each(|index, block| {
            for (xs, distances) in &mut all {
                *xs = block.forward(xs, distances, self.dtype)?;
            }
            on_block(index + 1, self.blocks.count())
        })?;
        let finish = |(xs, _): (Tensor, Distances)| -> Result<_> {
            let padding = length - xs.dim(1)?;
            Ok(self.norm.forward(&xs)?.to_dtype(self.dtype)?.pad_with_zeros(1, 0, padding)?)
        };
        all.into_iter().map(finish).collect()
    }

    /// Relative positions of `n` tokens.
    fn distances(&self, n: usize) -> Result<Distances> {
        let (rows, most) = (self.config.relative_attention_num_buckets, self.config.relative_attention_max_distance);
        // From the last token to the first, down to from the first to the last.
        let buckets: Vec<u32> =
            (1..2 * n).map(|place| bucket(n.saturating_sub(place), place.saturating_sub(n), rows, most)).collect();
        let pairs: Vec<u32> = (0..n).flat_map(|query| (0..n).map(move |key| (n - 1 + key - query) as u32)).collect();
        Ok(Distances { buckets, pairs: Tensor::new(pairs, &self.device)? })
    }
}

/// Bucket of the relative position of a key: half of the `buckets` for keys before the query, half for keys
/// after it. In each half, half of the buckets are exact distances, the others grow logarithmically up to
/// `most` (Raffel et al., 2020, section 2.1).
fn bucket(query: usize, key: usize, buckets: usize, most: usize) -> u32 {
    let half = buckets / 2;
    let exact = half / 2;
    let side = if key > query { half } else { 0 };
    let distance = query.abs_diff(key);
    if distance < exact {
        return (side + distance) as u32;
    }
    // In f32 as in the reference, so that distances at the edges of buckets fall on the same side as in
    // training:
    // https://github.com/huggingface/transformers/blob/de0f5d1eab/src/transformers/models/umt5/modeling_umt5.py#L239-L244
    let ratio = (distance as f32 / exact as f32).ln() / (most as f64 / exact as f64).ln() as f32;
    (side + (exact + (ratio * (half - exact) as f32) as usize).min(half - 1)) as u32
}

/// Relative positions of n tokens: a bucket per distance, and the distance of each pair.
struct Distances {
    /// The bucket of each distance, from 1 − n to n − 1.
    buckets: Vec<u32>,
    /// The index of each (query, key) pair's distance: (n · n), queries first.
    pairs: Tensor,
}

/// Attention and feed-forward, each with a norm before it and a residual around it.
#[derive(Debug, Clone)]
struct Block {
    attention_norm: RmsNorm,
    attention: Attention,
    feed_forward_norm: RmsNorm,
    feed_forward: FeedForward,
}

impl Block {
    fn load(weights: &Weights, config: &Config) -> Result<Self> {
        let norm = |index: usize| {
            RmsNorm::load(&weights.pp(index).pp("layer_norm"), config.d_model, config.layer_norm_epsilon)
        };
        Ok(Self {
            attention_norm: norm(0)?,
            attention: Attention::load(&weights.pp(0).pp("SelfAttention"), config)?,
            feed_forward_norm: norm(1)?,
            feed_forward: FeedForward::load(&weights.pp(1).pp("DenseReluDense"), config)?,
        })
    }

    /// - `xs`, output: (1, n, d_model), in a type that is [`wide`]
    /// - `dtype`: the compute type of the layers
    fn forward(&self, xs: &Tensor, distances: &Distances, dtype: DType) -> candle_core::Result<Tensor> {
        let normal = self.attention_norm.forward(xs)?.to_dtype(dtype)?;
        let xs = cpu::sum_of(xs, &self.attention.forward(&normal, distances)?.to_dtype(xs.dtype())?)?;
        let normal = self.feed_forward_norm.forward(&xs)?.to_dtype(dtype)?;
        cpu::sum_of(&xs, &self.feed_forward.forward(&normal)?)
    }
}

/// The type of the residual stream: f32 where f16 would overflow.
fn wide(dtype: DType) -> DType {
    if dtype == DType::F16 { DType::F32 } else { dtype }
}

#[derive(Debug, Clone)]
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    positions: Embedding,
    heads: usize,
}

impl Attention {
    fn load(weights: &Weights, config: &Config) -> Result<Self> {
        let (outer, inner, heads) = (config.d_model, config.num_heads * config.d_kv, config.num_heads);
        let rows = config.relative_attention_num_buckets;
        Ok(Self {
            q: Linear::without_bias(&weights.pp("q"), outer, inner)?,
            k: Linear::without_bias(&weights.pp("k"), outer, inner)?,
            v: Linear::without_bias(&weights.pp("v"), outer, inner)?,
            o: Linear::without_bias(&weights.pp("o"), inner, outer)?,
            positions: Embedding::load(&weights.pp("relative_attention_bias"), rows, heads)?,
            heads,
        })
    }

    fn forward(&self, xs: &Tensor, distances: &Distances) -> candle_core::Result<Tensor> {
        let (b, n, _) = xs.dims3()?;
        let split = |ys: Tensor| ys.reshape((b, n, self.heads, ()))?.transpose(1, 2); // (b, heads, n, d_kv)
        let (q, k, v) = (split(self.q.forward(xs)?)?, split(self.k.forward(xs)?)?, split(self.v.forward(xs)?)?);
        let of_distances =
            self.positions.forward(&Tensor::new(distances.buckets.as_slice(), xs.device())?, xs.dtype())?;
        let bias = of_distances.t()?.contiguous()?.index_select(&distances.pairs, 1)?.reshape((1, self.heads, n, n))?;
        // T5 folds 1/√d into the weights of q at initialisation and does not scale (Raffel et al., 2020).
        let ys = attend(&q, &k, &v, 1.0, Some(&bias))?;
        self.o.forward(&ys.transpose(1, 2)?.flatten_from(D::Minus2)?) // (b, n, heads · d_kv)
    }
}

/// `wo(gelu(wi_0·x) · wi_1·x)` (Shazeer, 2020).
#[derive(Debug, Clone)]
struct FeedForward {
    wi_0: Linear,
    wi_1: Linear,
    wo: Linear,
}

impl FeedForward {
    fn load(weights: &Weights, config: &Config) -> Result<Self> {
        Ok(Self {
            wi_0: Linear::without_bias(&weights.pp("wi_0"), config.d_model, config.d_ff)?,
            wi_1: Linear::without_bias(&weights.pp("wi_1"), config.d_model, config.d_ff)?,
            wo: Linear::without_bias(&weights.pp("wo"), config.d_ff, config.d_model)?,
        })
    }

    /// The output has a type that is [`wide`].
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let wide = wide(xs.dtype());
        let gate = self.wi_0.forward_gelu(xs)?.to_dtype(wide)?;
        self.wo.forward(&cpu::product_of(&gate, &self.wi_1.forward(xs)?.to_dtype(wide)?)?)
    }
}
