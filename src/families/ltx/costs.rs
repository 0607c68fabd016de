//! How much arithmetic an LTX-2 run is, from the shapes alone: see [`crate::compute::flops`] for what counts. The soundtrack is not
//! counted.

use super::Ltx;
use super::config::{Config, Modality, Stream};
use crate::compute::flops::{attention, linear};
use crate::families::text::gemma3;
use crate::plan::{Costs, Pass, Plan, Shape, StageMemory, Workload};
use crate::progress::Stage;

/// Width of the sinusoid of a timestep.
const SINUSOID: usize = 256;

impl Costs for Ltx {
    fn memory(&self, plan: &Plan, shape: &Shape) -> Vec<StageMemory> {
        super::memory::stages(self, plan, shape)
    }

    fn weights(&self) -> Vec<(Stage, u64)> {
        super::memory::weights(self)
    }

    fn flops(&self, plan: &Plan, work: Workload<'_>) -> f64 {
        of(self, plan, work)
    }

    fn text_rows(&self, plan: &Plan, tokens: usize) -> usize {
        rows(self, plan, tokens)
    }
}

fn of(ltx: &Ltx, plan: &Plan, work: Workload<'_>) -> f64 {
    match work {
        Workload::Text(tokens) => {
            let encoder = |tokens: usize| ltx.text.as_ref().map_or(0.0, |config| text(config, tokens));
            let one = |&tokens: &usize| encoder(tokens) + ltx.connectors.flops(tokens, plan.settings.text_length);
            tokens.iter().map(one).sum()
        }
        Workload::Forward { shape, pass, text_tokens } => {
            forward(&ltx.transformer, plan, (shape, pass), rows(ltx, plan, text_tokens))
        }
        Workload::Decode(shape) => ltx.vae.flops(shape.latents),
    }
}

/// Gemma 3, of a prompt's own tokens.
fn text(config: &gemma3::Config, n: usize) -> f64 {
    let d = config.hidden_size;
    let [inner, keys] = [config.num_attention_heads, config.num_key_value_heads].map(|heads| heads * config.head_dim);
    let projections = 2.0 * linear(n, d, inner) + 2.0 * linear(n, d, keys);
    let layer = projections + attention(n, n, inner) + 3.0 * linear(n, d, config.intermediate_size);
    config.layer_types.len() as f64 * layer
}

/// A stream with its number of tokens.
type Side = (Stream, usize);

/// Rows of text that the transformer works on. Equal ones, which registers are where no block of a connector tells them apart,
/// are kept once: see [`super::dedup_text`].
fn rows(ltx: &Ltx, plan: &Plan, words: usize) -> usize {
    let (video, audio) = (ltx.connectors.video(), ltx.connectors.audio());
    let different = words + video.registers.max(audio.registers);
    match video.layers + audio.layers == 0 && 2 * different < plan.settings.text_length {
        true => different,
        false => plan.settings.text_length,
    }
}

/// A forward of both streams, told `rows` of text, with one timestep for all tokens.
fn forward(config: &Config, plan: &Plan, (shape, pass): (&Shape, Pass), rows: usize) -> f64 {
    let sound = plan.settings.sound.as_ref().map_or(0, |sound| sound.latents[1]);
    let video = (config.stream(Modality::Video), shape.tokens);
    let audio = (config.stream(Modality::Audio), sound);
    let texts = [(video, config.cross_attention_dim), (audio, config.audio_cross_attention_dim)];
    let ends: f64 = [video, audio].iter().map(|side| ends(config, side, rows)).sum();
    let halves: f64 = texts.iter().map(|(side, width)| half(side, (rows, *width))).sum();
    let perturbed = if config.perturbed_attn && pass == Pass::Perturbed {
        let blocks = plan.settings.stg_blocks.iter().filter(|&&block| block < config.num_layers).count();
        blocks as f64 * [video, audio].iter().map(|(stream, n)| scores(*n, stream.dim())).sum::<f64>()
    } else {
        0.0
    };
    // Between the streams, heads are the audio's.
    let inner = audio.0;
    let between = match pass {
        Pass::Isolated => 0.0,
        _ => attend(&video, (audio.1, audio.0.dim()), &inner) + attend(&audio, (video.1, video.0.dim()), &inner),
    };
    config.num_layers as f64 * (halves + between) + ends - perturbed
}

/// What stands before and after the blocks: projections, the text's where it has one, and the time's vectors.
fn ends(config: &Config, (stream, n): &Side, rows: usize) -> f64 {
    let d = stream.dim();
    let text = if config.use_prompt_embeddings { linear(rows, stream.text, d) + linear(rows, d, d) } else { 0.0 };
    let time = |vectors: usize| linear(1, SINUSOID, d) + linear(1, d, d) + linear(1, d, vectors * d);
    let prompt = if config.prompt_modulated() { time(2) } else { 0.0 };
    let times = time(stream.vectors()) + time(4) + time(1) + prompt;
    linear(*n, stream.inputs, d) + linear(*n, d, stream.outputs) + text + times
}

/// What a stream does in a block for itself: attention to itself and to `rows` of text, and the feed-forward layers.
fn half(side: &Side, text: (usize, usize)) -> f64 {
    let &(stream, n) = side;
    let d = stream.dim();
    attend(side, (n, d), &stream) + attend(side, text, &stream) + 2.0 * linear(n, d, 4 * d)
}

/// The attention of a stream to `keys` tokens of a width, with the heads of `inner`.
fn attend(&(stream, n): &Side, (keys, width): (usize, usize), inner: &Stream) -> f64 {
    let w = inner.dim();
    let gates = if stream.gated { linear(n, stream.dim(), inner.heads) } else { 0.0 };
    2.0 * linear(n, stream.dim(), w) + 2.0 * linear(keys, width, w) + attention(n, keys, w) + gates
}

/// What a self-attention leaves out where each token sees itself alone: queries, keys and both products.
fn scores(n: usize, d: usize) -> f64 {
    2.0 * linear(n, d, d) + attention(n, n, d)
}
