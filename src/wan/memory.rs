//! How much memory each stage of a Wan run takes, from the shapes alone.
//!
//! In f64: the largest film of the widest network would overflow whole numbers, and an estimate needs no last digit.

use super::Wan;
use super::vae;
use crate::plan::{Shape, StageMemory};
use crate::progress::Stage;
use crate::vae::Tiling;

const MIB: f64 = 1024.0 * 1024.0;
/// The program itself, its libraries and what the allocator keeps.
const BASE: f64 = 150.0 * MIB;
/// The most that attention scores take, twice: before and after the softmax.
const SCORES: f64 = 2.0 * 256.0 * MIB;
/// Bytes of an activation. On a GPU most have half of it, so the estimate is on the safe side there.
const VALUE: f64 = 4.0;

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
    let [d, ff, heads, n] = [config.d_model, config.d_ff, config.num_heads, super::TEXT_LENGTH].map(|n| n as f64);
    let widened = d * ff * VALUE;
    let activations = n * (6.0 * d + 3.0 * ff) * VALUE + 3.0 * heads * n * n * VALUE;
    StageMemory { stage: Stage::Text, weights: bytes(wan, "text_encoder"), work: (BASE + widened + activations) as u64 }
}

fn denoise(wan: &Wan, shape: &Shape) -> StageMemory {
    let config = &wan.transformer;
    let [dim, ff, heads, text] =
        [config.dim(), config.ffn_dim, config.num_attention_heads, config.text_dim].map(|n| n as f64);
    let tokens = shape.tokens as f64;
    let weights = ["transformer", "transformer_2"].map(|name| bytes(wan, name)).into_iter().max().unwrap_or(0);
    let widened = dim * ff * VALUE;
    let attention = SCORES.min(2.0 * heads * tokens * tokens * VALUE) + 8.0 * tokens * dim * VALUE;
    let feed_forward = tokens * (4.0 * dim + 3.0 * ff) * VALUE;
    let context = 512.0 * (2.0 * text + 6.0 * dim) * VALUE;
    let latents = 8.0 * shape.latents.iter().map(|&side| side as f64).product::<f64>() * VALUE;
    StageMemory {
        stage: Stage::Denoise,
        weights,
        work: (BASE + widened + attention.max(feed_forward) + context + latents) as u64,
    }
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
    // At the top: the input, its normalised copy, three frames stacked for the convolution, the output and the sum.
    let frame = first.max(second / 2.0) * 8.0;
    // The pixels of a latent frame, on their way from tiles to pictures.
    let film = shown * 3.0 * config.temporal_factor() as f64 * (3.0 + covered);
    let work = (pixels * (cache + frame) + film) * VALUE;
    StageMemory { stage: Stage::Decode, weights: bytes(wan, "vae") / 10 * 6, work: (BASE + 64.0 * MIB + work) as u64 }
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
