//! UMT5, the text encoder of the Wan models (Chung et al., 2023): T5 v1.1 with relative positions of its own in every layer.

use std::path::Path;

use candle_core::{D, DType, Device, Tensor};
use serde::Deserialize;

use crate::compute::kernels::cpu;
use crate::error::{Context, Error, Result};
use crate::families::text::check_ids;
use crate::nn::Linear;
use crate::nn::attention::attend;
use crate::nn::blocks::Blocks;
use crate::nn::embed::Embedding;
use crate::nn::norm::RmsNorm;
use crate::weights::Weights;

/// The shape of an encoder: the part of `text_encoder/config.json` that it depends on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Config {
    /// `umt5`; the sister models (T5, mT5) share their relative positions between layers.
    pub model_type: String,
    /// Rows of the embedding table: more than the tokenizer has tokens.
    pub vocab_size: usize,
    /// Channels of a token.
    pub d_model: usize,
    /// Channels of a head.
    pub d_kv: usize,
    /// Channels inside the feed-forward layers.
    pub d_ff: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Heads; `num_heads · d_kv` need not be `d_model`.
    pub num_heads: usize,
    /// Rows of each layer's table of relative positions, half of them for each direction.
    #[serde(default = "default_buckets")]
    pub relative_attention_num_buckets: usize,
    /// Distances from here on share the last row.
    #[serde(default = "default_distance")]
    pub relative_attention_max_distance: usize,
    /// Added to the mean square inside the norms.
    #[serde(default = "default_epsilon")]
    pub layer_norm_epsilon: f64,
    /// `gated-gelu`, the only one that UMT5 was released with.
    #[serde(default = "default_feed_forward")]
    pub feed_forward_proj: String,
}

const CONFIG: &str = "take `text_encoder/config.json` from the model's own repository";

// What transformers assumes of a configuration that leaves these out (`UMT5Config`).
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
    /// Reads `config.json` of a text encoder.
    ///
    /// # Errors
    /// A file that cannot be read, is not such a configuration, or describes a network that this one is not.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .context(|| format!("cannot read the text encoder's configuration {}", path.display()))?;
        let config: Self = serde_json::from_str(&text).map_err(|cause| {
            Error::failed(format!("this is not the configuration of a UMT5 encoder: {}", path.display()))
                .because(cause)
                .hint(CONFIG)
        })?;
        config.check().context(|| format!("cannot use the text encoder's configuration {}", path.display()))?;
        Ok(config)
    }

    /// Refuses what this encoder is not, and numbers that no encoder has.
    ///
    /// # Errors
    /// The field, its value and what belongs there.
    pub fn check(&self) -> Result<()> {
        if self.model_type != "umt5" {
            return Err(Error::failed(format!("the text encoder is a `{}`, not a `umt5`", self.model_type))
                .hint("the Wan models need UMT5-XXL"));
        }
        if self.feed_forward_proj != "gated-gelu" {
            let found = &self.feed_forward_proj;
            return Err(
                Error::failed(format!("`feed_forward_proj` is `{found}` where `gated-gelu` belongs")).hint(CONFIG)
            );
        }
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
        if let Some((name, size, most)) = sizes.into_iter().find(|&(_, size, most)| size == 0 || size > most) {
            return Err(Error::failed(format!("`{name}` is {size}: no UMT5 has that (1 to {most})")).hint(CONFIG));
        }
        let (buckets, distance) = (self.relative_attention_num_buckets, self.relative_attention_max_distance);
        if buckets % 4 != 0 || distance <= buckets / 4 {
            return Err(Error::failed(format!("{buckets} buckets cannot share out distances up to {distance}")).hint(
                "`relative_attention_num_buckets` is 32 and `relative_attention_max_distance` 128 in every release",
            ));
        }
        if !(self.layer_norm_epsilon > 0.0 && self.layer_norm_epsilon < 1.0) {
            return Err(
                Error::failed(format!("`layer_norm_epsilon` is {}: it is 1e-6", self.layer_norm_epsilon)).hint(CONFIG)
            );
        }
        Ok(())
    }
}

/// The encoder. Its weights stay in memory as they are stored.
///
/// Its activations outgrow f16. As in the reference, which keeps `wo` in f32 there, the sums that run through the blocks and
/// the ends of the feed-forward layers are then computed in f32, and the rest in f16.
pub struct Umt5 {
    config: Config,
    embedding: Embedding,
    blocks: Blocks<Block>,
    norm: RmsNorm,
    device: Device,
    dtype: DType,
}

impl Umt5 {
    /// Takes every tensor of the encoder from `weights`, under the names of `UMT5EncoderModel` in transformers.
    ///
    /// # Errors
    /// A configuration that is not UMT5's, a tensor that is missing, has another shape or belongs to something else.
    pub fn load(weights: &Weights, config: &Config) -> Result<Self> {
        config.check()?;
        let encoder = weights.pp("encoder");
        // The table is stored once or twice, under either name, as the two are one tensor in the reference.
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

    /// Embeds prompts, all of them a block at a time.
    ///
    /// `on_block` is called after each block with the number done and the number of blocks; an error from it stops the
    /// work and is handed on.
    ///
    /// The reference pads the ids to `length` and masks the padding with the least finite number, which softmax turns into
    /// zeros exactly, and then puts zeros in the padded rows. So only the prompt's own tokens are computed here.
    ///
    /// # Shapes
    /// - `prompts`: each at most `length` token ids, each less than `vocab_size`
    /// - output: (1, length, d_model) for each prompt, in the type that the weights compute in; rows past the ids are zero
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

    /// The distances between `n` tokens.
    fn distances(&self, n: usize) -> Result<Distances> {
        let (rows, most) = (self.config.relative_attention_num_buckets, self.config.relative_attention_max_distance);
        // From the last token to the first, and so on to the other way round.
        let buckets: Vec<u32> =
            (1..2 * n).map(|place| bucket(n.saturating_sub(place), place.saturating_sub(n), rows, most)).collect();
        let pairs: Vec<u32> = (0..n).flat_map(|query| (0..n).map(move |key| (n - 1 + key - query) as u32)).collect();
        Ok(Distances { buckets, pairs: Tensor::new(pairs, &self.device)? })
    }
}

/// The row of a pair in a table of `buckets` rows: a half for keys before the query and one for those after it. In each, half
/// of the rows are single distances and the others grow logarithmically up to `most` (Raffel et al., 2020, section 2.1).
fn bucket(query: usize, key: usize, buckets: usize, most: usize) -> u32 {
    let half = buckets / 2;
    let exact = half / 2;
    let side = if key > query { half } else { 0 };
    let distance = query.abs_diff(key);
    if distance < exact {
        return (side + distance) as u32;
    }
    // In f32, as the reference: the exact powers at the edges of the buckets fall where they fell in training.
    let ratio = (distance as f32 / exact as f32).ln() / (most as f64 / exact as f64).ln() as f32;
    (side + (exact + (ratio * (half - exact) as f32) as usize).min(half - 1)) as u32
}

/// How far n tokens are from each other: each distance once, for there are many pairs of the same.
struct Distances {
    /// The row of the relative positions for each distance, from 1 − n to n − 1.
    buckets: Vec<u32>,
    /// Which distance each pair (query, key) has, queries first: (n · n).
    pairs: Tensor,
}

/// Attention and feed-forward, each with its norm before it and its input added after it.
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
    /// - `dtype`: what the layers compute in
    fn forward(&self, xs: &Tensor, distances: &Distances, dtype: DType) -> candle_core::Result<Tensor> {
        let normal = self.attention_norm.forward(xs)?.to_dtype(dtype)?;
        let xs = cpu::sum_of(xs, &self.attention.forward(&normal, distances)?.to_dtype(xs.dtype())?)?;
        let normal = self.feed_forward_norm.forward(&xs)?.to_dtype(dtype)?;
        cpu::sum_of(&xs, &self.feed_forward.forward(&normal)?)
    }
}

/// The type for sums that f16 has no room for.
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
