//! How much memory each stage of an LTX-2 run takes, from the shapes alone.

use super::Ltx;
use super::config::Modality;
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

pub(super) fn stages(ltx: &Ltx, shape: &Shape, tiling: Option<Tiling>) -> Vec<StageMemory> {
    vec![
        text(ltx),
        StageMemory { stage: Stage::Image, ..autoencoder(ltx, shape, tiling) },
        denoise(ltx, shape),
        sound(ltx),
        autoencoder(ltx, shape, tiling),
    ]
}

/// The text encoder with every hidden state of a prompt and its negative, in the larger of two networks.
fn text(ltx: &Ltx) -> StageMemory {
    let rows = super::TEXT_LENGTH as f64;
    let states = ltx.connectors.text_proj_in_factor as f64 * ltx.connectors.caption_channels as f64;
    let hidden = ltx.text.as_ref().map_or(0, |text| text.hidden_size) as f64;
    let work = 2.0 * rows * states * VALUE + rows * hidden * 40.0 * VALUE + 256.0 * MIB;
    let weights = bytes(ltx, "text_encoder").max(bytes(ltx, "connectors"));
    StageMemory { stage: Stage::Text, weights, work: (BASE + work) as u64 }
}

fn denoise(ltx: &Ltx, shape: &Shape) -> StageMemory {
    let dim = ltx.transformer.stream(Modality::Video).dim() as f64;
    let heads = ltx.transformer.num_attention_heads as f64;
    let tokens = shape.tokens as f64;
    let widened = 4.0 * dim * dim * VALUE;
    let scores = SCORES.min(2.0 * heads * tokens * tokens * VALUE);
    // A stream's tokens, what they become in a block, and the feed-forward's fourfold width.
    let activations = tokens * dim * 20.0 * VALUE;
    let latents = 12.0 * shape.latents.iter().map(|&side| side as f64).product::<f64>() * VALUE;
    StageMemory {
        stage: Stage::Denoise,
        weights: bytes(ltx, "transformer"),
        work: (BASE + widened + scores + activations + latents) as u64,
    }
}

/// The vocoder, whose weights are widened to f32 at once; it works in pieces, so that the length of the film does not count.
fn sound(ltx: &Ltx) -> StageMemory {
    let widened = 2 * bytes(ltx, "vocoder").max(bytes(ltx, "audio_vae"));
    StageMemory { stage: Stage::Sound, weights: widened, work: (BASE + 256.0 * MIB) as u64 }
}

/// The decoder: what its convolutions remember, three frames each, and the frames at hand.
fn autoencoder(ltx: &Ltx, shape: &Shape, tiling: Option<Tiling>) -> StageMemory {
    let config = &ltx.vae;
    let pixels = shape.width as f64 * shape.height as f64 / (config.patch_size as f64).powi(2);
    let covered = tiling.map_or(1.0, |tiling| {
        let part =
            |side: usize, tile: usize, stride: usize| if side <= tile { 1.0 } else { tile as f64 / stride as f64 };
        part(shape.height, tiling.min_height, tiling.stride_height)
            * part(shape.width, tiling.min_width, tiling.stride_width)
    });
    let levels = config.decoder_block_out_channels.iter().zip(&config.decoder_layers_per_block).enumerate();
    let remembered: f64 = levels
        .map(|(level, (&channels, &layers))| channels as f64 * (2 * layers + 1) as f64 * 3.0 / 4f64.powi(level as i32))
        .sum();
    let top = config.decoder_block_out_channels.first().copied().unwrap_or(0) as f64;
    let frames = config.temporal_factor() as f64;
    let work = pixels * (covered * remembered + top * frames * 4.0) + pixels * 48.0 * frames * 3.0;
    StageMemory { stage: Stage::Decode, weights: bytes(ltx, "vae"), work: (BASE + work * VALUE) as u64 }
}

fn bytes(ltx: &Ltx, component: &str) -> u64 {
    ltx.model.find(component).map_or(0, crate::model::Component::bytes)
}
