//! How much memory each stage of a Wan run takes, from the shapes alone. `benches/memory.py` compares it with what is found.
//!
//! In f64: the largest film of the widest network would overflow whole numbers, and an estimate needs no last digit.

use super::{Wan, config, vae};
use crate::families::text::umt5;
use crate::plan::Tiling;
use crate::plan::{BASE, Plan, Shape, StageMemory};
use crate::progress::Stage;
use crate::{nn, weights};

/// Bytes of an activation. On a GPU most have half of it, so the estimate is on the safe side there.
const VALUE: f64 = 4.0;

pub(super) fn stages(wan: &Wan, plan: &Plan, shape: &Shape) -> Vec<StageMemory> {
    let mut stages = vec![text(wan, plan)];
    if wan.reads_mask() || wan.expand_timesteps {
        stages.push(StageMemory { stage: Stage::Image, ..autoencoder(wan, shape, plan.settings.tiling) });
    }
    stages.push(denoise(wan, plan, shape));
    stages.push(autoencoder(wan, shape, plan.settings.tiling));
    stages
}

/// Bytes of the weights that each stage would keep loaded.
pub(super) fn weights(wan: &Wan) -> Vec<(Stage, u64)> {
    let [encoder, decoder] = halves(wan);
    let transformers = ["transformer", "transformer_2"].map(|name| bytes(wan, name)).into_iter().sum();
    let image = (wan.reads_mask() || wan.expand_timesteps).then_some((Stage::Image, encoder));
    let stages = [Some((Stage::Text, bytes(wan, "text_encoder"))), image];
    stages.into_iter().flatten().chain([(Stage::Denoise, transformers), (Stage::Decode, decoder)]).collect()
}

/// Bytes of the weights of the autoencoder's two halves: a decoder has a convolution more in each level, and may be wider.
fn halves(wan: &Wan) -> [u64; 2] {
    let config = &wan.vae;
    let base = config.decoder_base() as f64;
    let [decoder, encoder] = [1.37 * base * base, (config.base_dim * config.base_dim) as f64];
    let all = bytes(wan, "vae") as f64;
    let decoder = all * decoder / (decoder + encoder);
    [(all - decoder) as u64, decoder as u64]
}

fn text(wan: &Wan, plan: &Plan) -> StageMemory {
    let config = &wan.text;
    let [d, ff, heads, n] = [config.d_model, config.d_ff, config.num_heads, plan.tokens()].map(|n| n as f64);
    let widened = weights::widened(config.d_model, config.d_ff) as f64;
    // The scores, and what is added to them.
    let scores = (1.0 + plan.settings.scores(2.0)) * heads * n * n * VALUE;
    let activations = n * (6.0 * d + 3.0 * ff) * VALUE + scores;
    let all = bytes(wan, "text_encoder");
    let blocks = plan.settings.blocks_at_once() as f64;
    let weights =
        if plan.settings.streams.text { (all as f64 * blocks * block_of_encoder(config)) as u64 } else { all };
    StageMemory { stage: Stage::Text, weights, scratch: (BASE + widened + activations) as u64 }
}

/// The share that a block has of the encoder's weights.
fn block_of_encoder(config: &umt5::Config) -> f64 {
    let [d, inner, ff, rows, layers] =
        [config.d_model, config.num_heads * config.d_kv, config.d_ff, config.vocab_size, config.num_layers]
            .map(|n| n as f64);
    let block = 4.0 * d * inner + 3.0 * d * ff;
    block / (rows * d + layers * block)
}

fn denoise(wan: &Wan, plan: &Plan, shape: &Shape) -> StageMemory {
    let config = &wan.transformer;
    let [dim, ff, heads, text] =
        [config.dim(), config.ffn_dim, config.num_attention_heads, config.text_dim].map(|n| n as f64);
    let tokens = shape.tokens as f64;
    let all = ["transformer", "transformer_2"].map(|name| bytes(wan, name)).into_iter().max().unwrap_or(0);
    let blocks = plan.settings.blocks_at_once();
    let weights =
        if plan.settings.streams.transformer { streamed(config, all as f64, blocks as f64) as u64 } else { all };
    let widened = weights::widened(config.dim(), config.ffn_dim) as f64;
    let scores = plan.settings.scores(2.0) * nn::attention::scores(config.num_attention_heads, shape.tokens) as f64;
    let to_text = plan.settings.scores(2.0) * heads * tokens * 512.0 * VALUE;
    let attention = (scores + 11.0 * tokens * dim * VALUE).max(to_text + 8.0 * tokens * dim * VALUE);
    let feed_forward = tokens * (5.0 * dim + 3.0 * ff) * VALUE;
    let context = 512.0 * (2.0 * text + 6.0 * dim) * VALUE;
    let latents = 8.0 * shape.latents.iter().map(|&side| side as f64).product::<f64>() * VALUE;
    let work = BASE + widened + attention.max(feed_forward) + context + latents;
    StageMemory { stage: Stage::Denoise, weights, scratch: work as u64 }
}

/// Of `all` bytes of a transformer, those in memory while blocks come one after another: so many blocks, and what stands before
/// and after them, which files of fewer bits still hold in 16.
fn streamed(config: &config::Config, all: f64, blocks: f64) -> f64 {
    let [d, ff, text, layers] = [config.dim(), config.ffn_dim, config.text_dim, config.num_layers].map(|n| n as f64);
    let block = 8.0 * d * d + 2.0 * d * ff;
    let ends = 8.0 * d * d + text * d;
    let ends = ends * (all / (ends + layers * block)).max(2.0);
    (ends + blocks * (all - ends) / layers).min(all)
}

/// The decoder, which is the larger half: what every layer remembers of the frames before, and the frame at hand.
fn autoencoder(wan: &Wan, shape: &Shape, tiling: Option<Tiling>) -> StageMemory {
    let config = &wan.vae;
    let shown = shape.width as f64 * shape.height as f64;
    let (at_once, covered) = tiled(shape, tiling);
    let pixels = shown * at_once / (config.patch() as f64).powi(2);
    let base = config.decoder_base() as f64;
    let cache: f64 = (0..config.dim_mult.len()).map(|level| remembered(config, level) * base).sum();
    let [first, second] = [0, 1].map(|level| config.dim_mult.get(level).copied().unwrap_or(1) as f64 * base);
    // At the top: the input, its normalised copy, three frames stacked for the convolution, the output and the sum; and what
    // goes past a level of the Wan 2.2 decoder.
    let frame = first.max(second / 2.0) * if config.is_residual { 13.0 } else { 12.0 };
    // A frame alone is not stacked, and remembers no second one.
    let (cache, frame) = if shape.latents[2] == 1 { (cache / 2.0, frame * 0.4) } else { (cache, frame) };
    // The pixels of a latent frame, on their way from tiles, and from patches, to pictures.
    let copies = 1.0 + covered + if config.patch() > 1 { 3.0 } else { 0.0 };
    let film = shown * 3.0 * config.temporal_factor() as f64 * copies;
    let widest = config.dim_mult.iter().max().copied().unwrap_or(1) * config.decoder_base();
    let turned = nn::conv::scratch(3 * widest, widest, pixels as usize) as f64;
    let work = BASE + turned + (pixels * (cache + frame) + film) * VALUE;
    let [_, weights] = halves(wan);
    StageMemory { stage: Stage::Decode, weights, scratch: work as u64 }
}

/// Channels, as multiples of the base and per pixel at the top, that the layers of a level remember: two frames for each
/// convolution of its residual blocks.
fn remembered(config: &vae::Config, level: usize) -> f64 {
    let convolutions = 2 * (config.num_res_blocks + 1);
    let shrink = 4f64.powi(level as i32);
    (2 * convolutions * config.dim_mult[level]) as f64 / shrink
}

/// The share of the frame that is worked on at a time, and how often a pixel is covered by tiles.
fn tiled(shape: &Shape, tiling: Option<Tiling>) -> (f64, f64) {
    let Some(tiling) = tiling else { return (1.0, 1.0) };
    let cover = |side: usize, tile: usize, stride: usize| if side <= tile { 1.0 } else { tile as f64 / stride as f64 };
    let share = |side: usize, tile: usize| (tile as f64 / side as f64).min(1.0);
    let covered = cover(shape.height, tiling.min_height, tiling.stride_height)
        * cover(shape.width, tiling.min_width, tiling.stride_width);
    (share(shape.height, tiling.min_height) * share(shape.width, tiling.min_width), covered)
}

fn bytes(wan: &Wan, component: &str) -> u64 {
    wan.model.find(component).map_or(0, crate::model::Component::bytes)
}
