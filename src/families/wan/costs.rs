//! How much arithmetic a Wan run is, from the shapes alone: see [`crate::compute::flops`] for what counts.

use super::{Wan, config, vae};
use crate::compute::flops::{attention, convolution, linear};
use crate::families::text::umt5;
use crate::plan::{Costs, Plan, Shape, StageMemory, Workload};
use crate::progress::Stage;

/// Taps of the convolutions over frames, rows and columns.
const CUBE: usize = 27;

impl Costs for Wan {
    fn memory(&self, plan: &Plan, shape: &Shape) -> Vec<StageMemory> {
        super::memory::stages(self, plan, shape)
    }

    fn weights(&self) -> Vec<(Stage, u64)> {
        super::memory::weights(self)
    }

    fn flops(&self, plan: &Plan, work: Workload<'_>) -> f64 {
        of(self, plan, work)
    }
}

fn of(wan: &Wan, plan: &Plan, work: Workload<'_>) -> f64 {
    match work {
        Workload::Text(tokens) => tokens.iter().map(|&tokens| text(&wan.text, tokens)).sum(),
        // There is no other pass than the whole one.
        Workload::Forward { shape, .. } => forward(&wan.transformer, shape.tokens, plan.settings.text_length),
        Workload::Decode(shape) => decode(&wan.vae, shape.latents),
    }
}

/// UMT5, of a prompt's own tokens: four projections, attention and three feed-forward matrices a layer.
fn text(config: &umt5::Config, n: usize) -> f64 {
    let (d, inner) = (config.d_model, config.num_heads * config.d_kv);
    let layer = 4.0 * linear(n, d, inner) + attention(n, n, inner) + 3.0 * linear(n, d, config.d_ff);
    config.num_layers as f64 * layer
}

/// A forward: `n` tokens, a text of `m` rows, one timestep for all.
fn forward(config: &config::Config, n: usize, m: usize) -> f64 {
    let (d, patch) = (config.dim(), config.patch_size.iter().product::<usize>());
    let time = linear(1, config.freq_dim, d) + linear(1, d, d) + linear(1, d, 6 * d);
    let words = linear(m, config.text_dim, d) + linear(m, d, d);
    let to_itself = 4.0 * linear(n, d, d) + attention(n, n, d);
    let to_text = 2.0 * linear(n, d, d) + 2.0 * linear(m, d, d) + attention(n, m, d);
    let block = to_itself + to_text + 2.0 * linear(n, d, config.ffn_dim);
    let ends = linear(n, config.in_channels * patch, d) + linear(n, d, config.out_channels * patch);
    config.num_layers as f64 * block + time + words + ends
}

/// The decoder, of latents (1, z, frames, h, w) in one piece: where it works in tiles, what they overlap is done twice and
/// counted once.
fn decode(config: &vae::Config, [_, z, mut frames, mut h, mut w]: [usize; 5]) -> f64 {
    let dims: Vec<usize> = config.dim_mult.iter().rev().map(|mult| mult * config.decoder_base()).collect();
    let resnet = |places: usize, inputs: usize, outputs: usize| {
        let shortcut = if inputs == outputs { 0.0 } else { linear(places, inputs, outputs) };
        convolution(places, CUBE, inputs, outputs) + convolution(places, CUBE, outputs, outputs) + shortcut
    };
    let (first, last, places) = (dims[0], dims[dims.len() - 1], frames * h * w);
    let mut sum = linear(places, z, z) + convolution(places, CUBE, z, first) + 2.0 * resnet(places, first, first);
    sum += 4.0 * linear(places, first, first) + frames as f64 * attention(h * w, h * w, first);
    for (level, &outputs) in dims.iter().enumerate() {
        let below = dims[level.saturating_sub(1)];
        let inputs = if level > 0 && !config.is_residual { below / 2 } else { below };
        let places = frames * h * w;
        sum += resnet(places, inputs, outputs) + config.num_res_blocks as f64 * resnet(places, outputs, outputs);
        if level + 1 == dims.len() {
            break;
        }
        if config.temperal_downsample[dims.len() - 2 - level] {
            // The first frame is not doubled.
            sum += convolution((frames - 1) * h * w, 3, outputs, 2 * outputs);
            frames = 2 * frames - 1;
        }
        (h, w) = (2 * h, 2 * w);
        let next = if config.is_residual { outputs } else { outputs / 2 };
        sum += convolution(frames * h * w, 9, outputs, next);
    }
    sum + convolution(frames * h * w, CUBE, last, config.out_channels)
}
