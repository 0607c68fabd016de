//! How much memory each stage of a Wan run takes, from the shapes alone.

use super::Wan;
use super::vae;
use crate::plan::{Shape, StageMemory};
use crate::progress::Stage;
use crate::vae::Tiling;

/// The program itself, its libraries and what the allocator keeps.
const BASE: u64 = 150 << 20;
/// The most that attention scores take, twice: before and after the softmax.
const SCORES: u64 = 2 * (256 << 20);
/// Bytes of an activation. On a GPU most have half of it, so the estimate is on the safe side there.
const VALUE: u64 = 4;

pub(super) fn stages(wan: &Wan, shape: &Shape, tiling: Option<Tiling>) -> Vec<StageMemory> {
    let mut stages = vec![text(wan)];
    if wan.reads_mask() || wan.expand_timesteps {
        stages.push(StageMemory { stage: Stage::Image, ..autoencoder(wan, shape, tiling) });
    }
    stages.push(denoise(wan, shape));
    stages.push(autoencoder(wan, shape, tiling));
    stages
}

fn text(wan: &Wan) -> StageMemory {
    let config = &wan.text;
    let [d, ff, heads, n] = [config.d_model, config.d_ff, config.num_heads, super::TEXT_LENGTH].map(|n| n as u64);
    let widened = d * ff * VALUE;
    let activations = n * (6 * d + 3 * ff) * VALUE + 3 * heads * n * n * VALUE;
    StageMemory { stage: Stage::Text, weights: bytes(wan, "text_encoder"), work: BASE + widened + activations }
}

fn denoise(wan: &Wan, shape: &Shape) -> StageMemory {
    let config = &wan.transformer;
    let [dim, ff, heads, text] =
        [config.dim(), config.ffn_dim, config.num_attention_heads, config.text_dim].map(|n| n as u64);
    let tokens = shape.tokens as u64;
    let weights = ["transformer", "transformer_2"].map(|name| bytes(wan, name)).into_iter().max().unwrap_or(0);
    let widened = dim * ff * VALUE;
    let attention = SCORES.min(2 * heads * tokens * tokens * VALUE) + 8 * tokens * dim * VALUE;
    let feed_forward = tokens * (4 * dim + 3 * ff) * VALUE;
    let context = 512 * (2 * text + 6 * dim) * VALUE;
    let latents = 8 * shape.latents.iter().product::<usize>() as u64 * VALUE;
    StageMemory {
        stage: Stage::Denoise,
        weights,
        work: BASE + widened + attention.max(feed_forward) + context + latents,
    }
}

/// The decoder, which is the larger half: what every layer remembers of the frames before, and the frame at hand.
fn autoencoder(wan: &Wan, shape: &Shape, tiling: Option<Tiling>) -> StageMemory {
    let config = &wan.vae;
    let patch = config.patch_size.unwrap_or(1) as u64;
    let pixels = (shape.width * shape.height) as u64 / (patch * patch);
    let (covered, at_once) = tiled(shape, tiling);
    let base = config.decoder_base_dim.unwrap_or(config.base_dim) as u64;
    let levels = config.dim_mult.len();
    let cache: f64 = (0..levels).map(|level| remembered(config, level) * base as f64).sum();
    let top = (config.dim_mult.first().copied().unwrap_or(1) as u64 * base)
        .max(config.dim_mult.get(1).copied().unwrap_or(1) as u64 * base / 2);
    // At the top: the input, its normalised copy, three frames stacked for the convolution, the output and the sum.
    let frame = pixels as f64 * at_once * top as f64 * 8.0;
    let film = (shape.width * shape.height * 3 * config.temporal_factor()) as u64 * 4;
    let work = ((pixels as f64 * covered * cache + frame) * VALUE as f64) as u64 + film * VALUE;
    StageMemory { stage: Stage::Decode, weights: bytes(wan, "vae") * 6 / 10, work: BASE + (64 << 20) + work }
}

/// Channels, as multiples of the base and per pixel at the top, that the layers of a level remember: two frames for each
/// convolution of its residual blocks.
fn remembered(config: &vae::Config, level: usize) -> f64 {
    let convolutions = 2 * (config.num_res_blocks + 1);
    let shrink = 4f64.powi(level as i32);
    (2 * convolutions * config.dim_mult[level]) as f64 / shrink
}

/// How often a pixel is covered by tiles, and the share of the frame that is worked on at a time.
fn tiled(shape: &Shape, tiling: Option<Tiling>) -> (f64, f64) {
    let Some(tiling) = tiling else { return (1.0, 1.0) };
    let cover = |side: usize, tile: usize, stride: usize| if side <= tile { 1.0 } else { tile as f64 / stride as f64 };
    let share = |side: usize, tile: usize| (tile as f64 / side as f64).min(1.0);
    let covered = cover(shape.height, tiling.min_height, tiling.stride_height)
        * cover(shape.width, tiling.min_width, tiling.stride_width);
    (covered, share(shape.height, tiling.min_height) * share(shape.width, tiling.min_width))
}

fn bytes(wan: &Wan, component: &str) -> u64 {
    wan.model.find(component).map_or(0, crate::model::Component::bytes)
}
