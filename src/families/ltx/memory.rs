//! How much memory each stage of an LTX-2 run takes, from the shapes alone. `benches/memory.py` compares it with what is found.

use super::config::{Config, Modality};
use super::{Ltx, audio_vae};
use crate::families::text::gemma3;
use crate::plan::Tiling;
use crate::plan::{BASE, Plan, Shape, StageMemory};
use crate::progress::Stage;
use crate::{nn, weights};

const MIB: f64 = 1024.0 * 1024.0;
/// Bytes of an activation. On a GPU most have half of it, so the estimate is on the safe side there.
const VALUE: f64 = 4.0;

pub(super) fn stages(ltx: &Ltx, plan: &Plan, shape: &Shape) -> Vec<StageMemory> {
    vec![
        text(ltx, plan),
        StageMemory { stage: Stage::Image, ..autoencoder(ltx, shape, plan.settings.tiling) },
        denoise(ltx, plan, shape),
        sound(ltx, plan),
        autoencoder(ltx, shape, plan.settings.tiling),
    ]
}

/// Bytes of the weights that each stage would keep loaded.
pub(super) fn weights(ltx: &Ltx) -> Vec<(Stage, u64)> {
    let of = |parts: &[&str]| parts.iter().map(|part| bytes(ltx, part)).sum::<u64>();
    let vae = of(&["vae"]);
    let stages = [
        (Stage::Text, of(&["text_encoder", "connectors"])),
        (Stage::Image, vae),
        (Stage::Denoise, of(&["transformer", "latent_upsampler"])),
        (Stage::Sound, 2 * of(&["audio_vae", "vocoder"])),
        (Stage::Decode, vae),
    ];
    stages.into_iter().filter(|(_, bytes)| *bytes > 0).collect()
}

/// The larger of two networks, one after the other: the text encoder, with every hidden state of each prompt, and what is
/// between it and the transformer.
fn text(ltx: &Ltx, plan: &Plan) -> StageMemory {
    let states = ltx.connectors.text_proj_in_factor as f64 * ltx.connectors.caption_channels as f64;
    let tokens = plan.tokens() as f64;
    let packed = tokens * states * VALUE * if plan.negative.is_some() { 2.0 } else { 1.0 };
    let all = bytes(ltx, "text_encoder");
    let (encoder, work) = match &ltx.text {
        Some(config) if plan.settings.streams.text => {
            let layers = plan.settings.blocks_at_once() as f64 * layer(config);
            ((all as f64 * layers) as u64, of_layer(plan, config, tokens))
        }
        Some(config) => (all, of_layer(plan, config, tokens)),
        None => (0, 0.0),
    };
    let encoder = StageMemory { stage: Stage::Text, weights: encoder, scratch: (BASE + packed + work) as u64 };
    let rows = plan.settings.text_length as f64;
    let width = ltx.connectors.video_dim() as f64;
    let heads = ltx.connectors.video_connector_num_attention_heads;
    let widened = (states * width * VALUE).min(256.0 * MIB);
    let blocks = match ltx.connectors.video_connector_num_layers {
        0 => 3.0 * rows * width * VALUE,
        _ => {
            plan.settings.scores(3.0) * nn::attention::scores(heads, plan.settings.text_length) as f64
                + 16.0 * rows * width * VALUE
        }
    };
    let between = (BASE + packed + widened.max(blocks)) as u64;
    let between = StageMemory { stage: Stage::Text, weights: bytes(ltx, "connectors"), scratch: between };
    if encoder.peak() > between.peak() { encoder } else { between }
}

/// The share that a layer has of the text encoder's weights.
fn layer(config: &gemma3::Config) -> f64 {
    let [d, ff, rows, layers] =
        [config.hidden_size, config.intermediate_size, config.vocab_size, config.layer_types.len()].map(|n| n as f64);
    let heads = (config.num_attention_heads + config.num_key_value_heads) * config.head_dim;
    let layer = 2.0 * d * heads as f64 + 3.0 * d * ff;
    layer / (rows * d + layers * layer)
}

/// Bytes of a layer's activations, and of a matrix that is widened.
fn of_layer(plan: &Plan, config: &gemma3::Config, tokens: f64) -> f64 {
    let [d, ff, heads] = [config.hidden_size, config.intermediate_size, config.num_attention_heads].map(|n| n as f64);
    let scores = plan.settings.scores(5.0) * heads * tokens * tokens * VALUE;
    let activations = tokens * (8.0 * d + 3.0 * ff) * VALUE + scores;
    activations + weights::widened(config.hidden_size, config.intermediate_size) as f64
}

fn denoise(ltx: &Ltx, plan: &Plan, shape: &Shape) -> StageMemory {
    let config = &ltx.transformer;
    let dim = config.stream(Modality::Video).dim();
    let tokens = shape.tokens as f64;
    let widened = weights::widened(dim, 4 * dim) as f64;
    let scores = plan.settings.scores(2.0) * nn::attention::scores(config.num_attention_heads, shape.tokens) as f64;
    let sound = plan.settings.sound.as_ref().map_or(0, |sound| sound.latents[1]);
    let audio = sound as f64 * config.stream(Modality::Audio).dim() as f64;
    // A stream's tokens, what they become in a block, and their rotary tables.
    let attention = scores + (20.0 * tokens * dim as f64 + 12.0 * audio) * VALUE;
    let feed_forward = (22.0 * tokens * dim as f64 + 12.0 * audio) * VALUE;
    let texts =
        4.0 * plan.settings.text_length as f64 * (dim as f64 + config.stream(Modality::Audio).dim() as f64) * VALUE;
    let latents = 12.0 * shape.latents.iter().map(|&side| side as f64).product::<f64>() * VALUE;
    let all = bytes(ltx, "transformer");
    let share = if plan.settings.streams.transformer { streamed(config, plan.settings.blocks_at_once()) } else { 1.0 };
    let weights = (all as f64 * share) as u64;
    let work = BASE + widened + attention.max(feed_forward) + texts + latents;
    StageMemory { stage: Stage::Denoise, weights, scratch: work as u64 }
}

/// The share of the transformer's weights that is in memory while blocks come one after another: so many blocks, and what
/// stands before and after them.
fn streamed(config: &Config, blocks: usize) -> f64 {
    let few = Config { num_layers: blocks.min(config.num_layers), ..config.clone() };
    few.parameters() as f64 / config.parameters() as f64
}

/// The larger of two networks, one after the other, both in f32: the decoder of the spectra, and the vocoder, which works in
/// pieces.
fn sound(ltx: &Ltx, plan: &Plan) -> StageMemory {
    let stage = |part: &str, work: f64| StageMemory {
        stage: Stage::Sound,
        weights: 2 * bytes(ltx, part),
        scratch: (BASE + work) as u64,
    };
    let (Some((autoencoder, vocoder)), Some(sound)) = (&ltx.sound, &plan.settings.sound) else {
        return stage("vocoder", 0.0);
    };
    let rows = sound.latents[1] * audio_vae::COMPRESSION;
    let widest = autoencoder.base_channels * autoencoder.ch_mult.iter().max().copied().unwrap_or(1);
    let spectra = rows as f64 * (autoencoder.mel_bins * autoencoder.base_channels) as f64 * 6.0 * VALUE;
    let spectra = stage("audio_vae", spectra + nn::conv::scratch(widest, widest, rows * autoencoder.mel_bins) as f64);
    let samples = stage("vocoder", 10.0 * vocoder.signal(rows) as f64 * VALUE);
    if spectra.peak() > samples.peak() { spectra } else { samples }
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
    let widest = config.decoder_block_out_channels.iter().max().copied().unwrap_or(1);
    let turned = nn::conv::scratch(3 * widest, widest, pixels as usize) as f64;
    let frames = config.temporal_factor() as f64;
    let work = pixels * (covered * remembered + top * frames * 4.0) + pixels * 48.0 * frames * 3.0;
    StageMemory { stage: Stage::Decode, weights: bytes(ltx, "vae"), scratch: (BASE + turned + work * VALUE) as u64 }
}

fn bytes(ltx: &Ltx, component: &str) -> u64 {
    ltx.model.find(component).map_or(0, crate::model::Component::bytes)
}
