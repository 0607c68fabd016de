//! The layers of networks, at the shapes of the model in the box and of Wan 2.1 1.3B: `cargo bench --bench
//! nn`.
//!
//! Everything is measured as it is computed, and then once more by candle's own operations alone
//! (`TALKIE_PLAIN=1`).

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for developers")]

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{DType, Device, Tensor};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use talkie::nn::attention::attend;
use talkie::nn::channel_norm::ChannelNorm;
use talkie::nn::conv::Conv3d;
use talkie::nn::modulation::{Modulation, Runs};
use talkie::nn::norm::{LayerNorm, Plain, RmsNorm};
use talkie::nn::rope::{Rope, split_heads};
use talkie::nn::{Linear, norm};
use talkie::weights::Weights;

/// The variable by which only candle's own operations are used. It is read once in a process.
const PLAIN: &str = "TALKIE_PLAIN";

fn main() {
    divan::main();
    let listing = std::env::args().any(|argument| argument == "--list");
    if std::env::var_os(PLAIN).is_none() && !listing {
        println!("\nby candle's own operations:");
        let program = std::env::current_exe().unwrap();
        let status = std::process::Command::new(program).args(std::env::args().skip(1)).env(PLAIN, "1").status();
        assert!(status.unwrap().success());
    }
}

/// The transformer of a model, and how many tokens it works on.
struct Model {
    name: &'static str,
    tokens: usize,
    /// Frames, rows and columns of the tokens.
    grid: [usize; 3],
    heads: usize,
    /// Channels of a head.
    dim: usize,
    /// Channels between the layers of the feed-forward network.
    inner: usize,
}

impl Model {
    fn width(&self) -> usize {
        self.heads * self.dim
    }

    /// Tokens as a block gets them: (1, tokens, width).
    fn xs(&self) -> Tensor {
        numbers(&[1, self.tokens, self.width()])
    }

    /// The same as the heads of an attention: (1, heads, tokens, dim).
    fn heads(&self) -> Tensor {
        split_heads(&self.xs(), self.heads).unwrap()
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The model in the box at its own size, and Wan 2.1 1.3B at 17 frames of 256x256.
const MODELS: [Model; 2] = [
    Model { name: "toybox", tokens: 272, grid: [17, 4, 4], heads: 3, dim: 64, inner: 768 },
    Model { name: "wan-1.3b", tokens: 1280, grid: [5, 16, 16], heads: 12, dim: 128, inner: 8960 },
];

/// The same numbers in every run, from -1 to 1.
fn numbers(shape: &[usize]) -> Tensor {
    let mut state = shape.iter().fold(1_u64, |state, &side| state * 31 + side as u64);
    let mut value = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| value()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Tensors of these names and shapes, opened from a file as a network opens them.
fn stored(tensors: &[(&str, &[usize])], dtype: DType) -> Weights {
    let file = tempfile::Builder::new().suffix(".safetensors").tempfile().unwrap();
    let named = tensors.iter().map(|(name, shape)| ((*name).to_owned(), numbers(shape).to_dtype(dtype).unwrap()));
    candle_core::safetensors::save(&named.collect::<HashMap<_, _>>(), file.path()).unwrap();
    open(file.path())
}

/// A matrix in blocks of eight bits, opened from a GGUF file.
fn packed(inputs: usize, outputs: usize) -> Weights {
    let file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
    let weight = QTensor::quantize(&numbers(&[outputs, inputs]), GgmlDType::Q8_0).unwrap();
    gguf_file::write(&mut file.as_file(), &[], &[("weight", &weight)]).unwrap();
    open(file.path())
}

fn open(path: &Path) -> Weights {
    // The file is mapped: its name may go.
    Weights::open(&[path.to_owned()], &Device::Cpu, DType::F32).unwrap()
}

/// The first layer of a feed-forward network, with its weight stored in several ways.
#[divan::bench_group(sample_count = 10)]
mod linear {
    use super::{Bencher, DType, ItemsCount, Linear, MODELS, Model, Weights, black_box, packed, stored};

    fn run(bencher: Bencher<'_, '_>, model: &Model, weights: &Weights) {
        let layer = Linear::without_bias(weights, model.width(), model.inner).unwrap();
        let xs = model.xs();
        let operations = 2 * model.tokens * model.width() * model.inner;
        bencher.counter(ItemsCount::new(operations)).bench(|| layer.forward(black_box(&xs)).unwrap());
    }

    fn plain_stored(bencher: Bencher<'_, '_>, model: &Model, dtype: DType) {
        run(bencher, model, &stored(&[("weight", &[model.inner, model.width()])], dtype));
    }

    #[divan::bench(args = MODELS)]
    fn f32(bencher: Bencher<'_, '_>, model: &Model) {
        plain_stored(bencher, model, DType::F32);
    }

    #[divan::bench(args = MODELS)]
    fn bf16(bencher: Bencher<'_, '_>, model: &Model) {
        plain_stored(bencher, model, DType::BF16);
    }

    #[divan::bench(args = MODELS)]
    fn q8_0(bencher: Bencher<'_, '_>, model: &Model) {
        run(bencher, model, &packed(model.width(), model.inner));
    }
}

/// Tokens that attend to each other.
#[divan::bench(args = MODELS, sample_count = 10)]
fn attention(bencher: Bencher<'_, '_>, model: &Model) {
    let heads = model.heads();
    let scale = 1.0 / (model.dim as f64).sqrt();
    let operations = 4 * model.tokens * model.tokens * model.width();
    let counted = bencher.counter(ItemsCount::new(operations));
    counted.bench(|| attend(black_box(&heads), &heads, &heads, scale, None).unwrap());
}

/// Queries turned by their positions, as each family pairs the channels.
#[divan::bench_group(sample_count = 20)]
mod rope {
    use super::{Bencher, Device, MODELS, Model, Rope, black_box};

    fn tables(model: &Model) -> Rope {
        let third = model.dim / 6 * 2;
        Rope::grid3(model.grid, [model.dim - 2 * third, third, third], 10_000.0, &Device::Cpu).unwrap()
    }

    #[divan::bench(args = MODELS)]
    fn interleaved(bencher: Bencher<'_, '_>, model: &Model) {
        let (rope, heads) = (tables(model), model.heads());
        bencher.bench(|| rope.interleaved(black_box(&heads)).unwrap());
    }

    #[divan::bench(args = MODELS)]
    fn halves(bencher: Bencher<'_, '_>, model: &Model) {
        let (rope, heads) = (tables(model), model.heads());
        bencher.bench(|| rope.halves(black_box(&heads)).unwrap());
    }
}

/// Normalisations over the channels of tokens.
#[divan::bench_group(sample_count = 20)]
mod norms {
    use super::{Bencher, DType, LayerNorm, MODELS, Model, RmsNorm, black_box, norm, stored};

    #[divan::bench(args = MODELS)]
    fn layer(bencher: Bencher<'_, '_>, model: &Model) {
        let width = model.width();
        let weights = stored(&[("weight", &[width]), ("bias", &[width])], DType::F32);
        let (layer, xs) = (LayerNorm::load(&weights, width, 1e-6).unwrap(), model.xs());
        bencher.bench(|| layer.forward(black_box(&xs)).unwrap());
    }

    #[divan::bench(args = MODELS)]
    fn rms(bencher: Bencher<'_, '_>, model: &Model) {
        let weights = stored(&[("weight", &[model.width()])], DType::F32);
        let (layer, xs) = (RmsNorm::load(&weights, model.width(), 1e-6).unwrap(), model.xs());
        bencher.bench(|| layer.forward(black_box(&xs)).unwrap());
    }

    #[divan::bench(args = MODELS)]
    fn rms_with_nothing_learned(bencher: Bencher<'_, '_>, model: &Model) {
        let xs = model.xs();
        bencher.bench(|| norm::rms_norm(black_box(&xs), 1e-6).unwrap());
    }
}

/// Shift, scale and gate of tokens by their time.
#[divan::bench_group(sample_count = 20)]
mod modulation {
    use super::{Bencher, MODELS, Model, Modulation, Plain, Runs, black_box, numbers};

    fn vectors(model: &Model) -> Modulation {
        Modulation::new(&Runs::new(&[500.0], model.tokens), numbers(&[1, 6, model.width()]))
    }

    #[divan::bench(args = MODELS)]
    fn shift_scale_norm(bencher: Bencher<'_, '_>, model: &Model) {
        let (vectors, xs) = (vectors(model), model.xs());
        bencher.bench(|| vectors.shift_scale_norm(black_box(&xs), Plain::Rms(1e-6), 0, 1).unwrap());
    }

    #[divan::bench(args = MODELS)]
    fn add_gated(bencher: Bencher<'_, '_>, model: &Model) {
        let (vectors, xs) = (vectors(model), model.xs());
        bencher.bench(|| vectors.add_gated(black_box(&xs), &xs, 2).unwrap());
    }
}

/// A convolution of an autoencoder: 3 by 3 by 3, as many channels out as in.
struct Layer {
    name: &'static str,
    channels: usize,
    /// Rows, and columns.
    side: usize,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The decoder of the model in the box, and the first and the last level of Wan 2.1's for 256x256.
const LAYERS: [Layer; 3] = [
    Layer { name: "toybox", channels: 64, side: 16 },
    Layer { name: "wan-first", channels: 384, side: 32 },
    Layer { name: "wan-last", channels: 96, side: 256 },
];

/// One frame, by Winograd's products and by candle's own convolution. The latter is chosen for each layer.
#[divan::bench_group(sample_count = 5)]
mod conv3d {
    use super::{Bencher, Conv3d, DType, ItemsCount, LAYERS, Layer, Tensor, black_box, numbers, stored};

    fn layer(layer: &Layer) -> Conv3d {
        let channels = layer.channels;
        let weights = stored(&[("weight", &[channels, channels, 3, 3, 3]), ("bias", &[channels])], DType::F32);
        Conv3d::load(&weights, channels, channels, [3, 3, 3]).unwrap()
    }

    fn run(bencher: Bencher<'_, '_>, layer: &Layer, conv: &Conv3d) {
        let window: [Tensor; 3] = std::array::from_fn(|_| numbers(&[1, layer.channels, layer.side, layer.side]));
        let operations = 2 * 27 * layer.channels * layer.channels * layer.side * layer.side;
        bencher.counter(ItemsCount::new(operations)).bench(|| conv.forward(black_box(&window)).unwrap());
    }

    #[divan::bench(args = LAYERS)]
    fn fast(bencher: Bencher<'_, '_>, shape: &Layer) {
        run(bencher, shape, &layer(shape));
    }

    #[divan::bench(args = LAYERS)]
    fn plain(bencher: Bencher<'_, '_>, shape: &Layer) {
        run(bencher, shape, &layer(shape).plain(usize::MAX));
    }
}

/// The normalisation of pixels in an autoencoder, with SiLU after it.
#[divan::bench_group(sample_count = 10)]
mod channel_norm {
    use super::{Bencher, ChannelNorm, LAYERS, Layer, black_box, numbers};

    fn run(bencher: Bencher<'_, '_>, layer: &Layer, norm: &ChannelNorm) {
        let xs = numbers(&[1, layer.channels, layer.side, layer.side]);
        bencher.bench(|| norm.forward_silu(black_box(&xs)).unwrap());
    }

    #[divan::bench(args = LAYERS)]
    fn fast(bencher: Bencher<'_, '_>, shape: &Layer) {
        run(bencher, shape, &ChannelNorm::new(&numbers(&[shape.channels])).unwrap());
    }

    #[divan::bench(args = LAYERS)]
    fn plain(bencher: Bencher<'_, '_>, shape: &Layer) {
        run(bencher, shape, &ChannelNorm::new(&numbers(&[shape.channels])).unwrap().plain());
    }
}
