//! The ways that were written for CUDA. With `TALKIE_TEST_DEVICE=cuda` they are computed on a card, or on one in software
//! (`tests/kernels/build.sh`), and compared with what a processor computes of the same numbers.

#[cfg(feature = "cudnn")]
mod plans;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::Dtype;
use talkie::nn::Linear;
use talkie::nn::activation::gelu_tanh;
use talkie::nn::attention::attend;
use talkie::nn::channel_norm::ChannelNorm;
use talkie::nn::conv::{Conv2d, Conv3d, Edges};
use talkie::nn::modulation::{Modulation, Runs};
use talkie::nn::norm::{LayerNorm, Plain, RmsNorm};
use talkie::nn::rope::Rope;
use talkie::weights::Weights;

use crate::nn::layers::noise;
use crate::support::command::{floats, write_tensors};
use crate::support::{device, fixture, relative_l2, tensors};

/// The types that a card computes in, and how far a layer that rounds its result to one may be from the exact one.
const TYPES: [(DType, f64); 3] = [(DType::F32, 2e-6), (DType::F16, 6e-4), (DType::BF16, 5e-3)];

/// The device under test, where it is a card.
fn card() -> Option<Device> {
    let device = device();
    if device.is_cuda() {
        return Some(device);
    }
    println!("skipped: TALKIE_TEST_DEVICE is not cuda");
    None
}

/// Numbers of a type on the card, and the same in f32 on the processor.
fn both(shape: &[usize], dtype: DType, card: &Device) -> (Tensor, Tensor) {
    let rounded = noise(shape).to_device(&Device::Cpu).and_then(|xs| xs.to_dtype(dtype)).expect("numbers");
    let of = |to: candle_core::Result<Tensor>| to.expect("numbers");
    (of(rounded.to_device(card)), of(rounded.to_dtype(DType::F32)))
}

/// How far what the card made is from what the processor made.
fn error(made: &Tensor, wanted: &Tensor) -> f64 {
    let made = made.to_device(&Device::Cpu).and_then(|made| made.to_dtype(DType::F32)).expect("numbers");
    relative_l2(&made, wanted)
}

#[test]
fn a_layer_with_its_bias_and_gelu_is_one_product() {
    let Some(card) = card() else { return };
    for (dtype, bar) in TYPES {
        for (rows, inputs, outputs) in [(1, 1, 1), (3, 17, 5), (70, 64, 48)] {
            let (xs, xs_f32) = both(&[1, rows, inputs], dtype, &card);
            let (weight, weight_f32) = both(&[outputs, inputs], dtype, &card);
            let (bias, bias_f32) = both(&[outputs], dtype, &card);
            for (bias, bias_f32) in [(None, None), (Some(bias), Some(bias_f32))] {
                let (layer, plain) = (Linear::new(weight.clone(), bias), Linear::new(weight_f32.clone(), bias_f32));
                let wanted = plain.forward(&xs_f32).expect("a layer");
                let far = error(&layer.forward(&xs).expect("a layer"), &wanted);
                assert!(far < bar, "{dtype:?}, {rows} rows of {inputs} to {outputs}: {far:e}");
                let far = error(&layer.forward_gelu(&xs).expect("a layer"), &gelu_tanh(&wanted).expect("GELU"));
                assert!(far < 2.0 * bar, "{dtype:?}, {rows} rows of {inputs} to {outputs} and GELU: {far:e}");
            }
        }
    }
}

#[test]
fn weights_of_few_bits_widen_to_the_numbers_that_they_stand_for() {
    let Some(card) = card() else { return };
    let numbers = tensors("quants/numbers.safetensors");
    for (dtype, bar) in TYPES {
        // Of eight bits the first three rows: in the fourth is what is no number.
        for (file, columns, rows, whole, layers) in [("quants.gguf", 512, 6, 6, 13), ("fp8.safetensors", 32, 8, 3, 6)] {
            let weights = Weights::open(&[fixture("quants").join(file)], &card, dtype).expect(file);
            let (xs, xs_f32) = both(&[4, columns], dtype, &card);
            let here = |name: &str| weights.shapes().any(|(other, shape)| other == name && shape == [rows, columns]);
            let mut seen = 0;
            for (name, weight) in numbers.iter().filter(|(name, _)| here(name)) {
                let layer = Linear::without_bias(&weights.pp(name.strip_suffix(".weight").unwrap()), columns, rows);
                let made = layer.expect(name).forward(&xs).expect(name).narrow(1, 0, whole).unwrap();
                let weight = weight.to_device(&Device::Cpu).unwrap().narrow(0, 0, whole).unwrap();
                let far = error(&made.contiguous().unwrap(), &xs_f32.matmul(&weight.t().unwrap()).unwrap());
                // The weight was rounded as well.
                assert!(far < 2.0 * bar, "{name} in {dtype:?}: {far:e}");
                seen += 1;
            }
            assert_eq!(seen, layers, "{file}");
        }
    }
}

#[test]
fn products_of_eight_bits_are_near() {
    let Some(card) = card() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights.safetensors");
    let (rows, inputs, outputs) = (40, 256, 48);
    let bytes = (0..inputs * outputs).map(|at| (at * 37 % 251) as u8 & 0xb7).collect();
    let tensors = [
        ("weight".to_owned(), (Dtype::F8_E4M3, vec![outputs, inputs], bytes)),
        ("weight_scale".to_owned(), floats(&[1], |_| 0.37)),
        ("bias".to_owned(), floats(&[outputs], |at| at as f32 / 1000.0)),
    ];
    write_tensors(&path, &tensors.into());
    let layer = |on: bool, device: &Device, dtype: DType| {
        let weights =
            Weights::open(std::slice::from_ref(&path), device, dtype).and_then(|weights| weights.eight_bits(on));
        Linear::load(&weights.expect("weights"), inputs, outputs).expect("a layer")
    };
    let (xs, xs_f32) = both(&[rows, inputs], DType::BF16, &card);
    let wanted = layer(false, &Device::Cpu, DType::F32).forward(&xs_f32).expect("a layer");
    let far = |on: bool| error(&layer(on, &card, DType::BF16).forward(&xs).expect("a layer"), &wanted);
    let (widened, eight) = (far(false), far(true));
    println!("widened {widened:.1e}, in eight bits {eight:.1e}");
    assert!(widened < 5e-3, "widened: {widened:e}");
    assert!(eight < 4e-2 && eight > 2.0 * widened, "in eight bits: {eight:e}");
    let none =
        Weights::open(&[fixture("quants/quants.gguf")], &card, DType::BF16).and_then(|none| none.eight_bits(true));
    assert!(none.is_err(), "weights of which none is in eight bits");
}

#[test]
fn attention_is_that_of_the_processor() {
    let Some(card) = card() else { return };
    for (dtype, bar) in TYPES {
        for (b, heads, n, m, d) in [(1, 1, 1, 1, 8), (2, 3, 33, 70, 16), (1, 2, 130, 17, 64), (1, 2, 9, 12, 14)] {
            // As layers hand them over: heads after tokens in memory.
            let of = |rows: usize| {
                let (card, cpu) = both(&[b, rows, heads, d], dtype, &card);
                (card.transpose(1, 2).expect("heads"), cpu.transpose(1, 2).expect("heads"))
            };
            let ((q, q_f32), (k, k_f32), (v, v_f32)) = (of(n), of(m), of(m));
            let wanted = attend(&q_f32, &k_f32, &v_f32, 0.7, None).expect("attention");
            let made = attend(&q, &k, &v, 0.7, None).expect("attention");
            let far = error(&made, &wanted);
            assert!(far < 2.0 * bar, "{n} queries and {m} keys of {d} in {dtype:?}: {far:e}");
        }
    }
}

#[test]
fn convolutions_are_those_of_the_processor() {
    let Some(card) = card() else { return };
    for (dtype, bar) in TYPES {
        for (inputs, outputs, h, w, kernel, stride, padding, edges) in [
            (3, 5, 6, 7, 3, 1, 1, Edges::Zeros),
            (4, 2, 9, 8, 3, 2, 0, Edges::Zeros),
            (2, 3, 5, 9, 3, 1, 1, Edges::Reflect),
            (5, 4, 3, 4, 1, 1, 0, Edges::Zeros),
        ] {
            let conv = |weight: Tensor, bias: Tensor| {
                Conv2d::new(weight, bias).expect("a convolution").stride(stride).padding(padding).edges(edges)
            };
            let (weight, weight_f32) = both(&[outputs, inputs, kernel, kernel], dtype, &card);
            let (bias, bias_f32) = both(&[outputs], dtype, &card);
            let (xs, xs_f32) = both(&[1, inputs, h, w], dtype, &card);
            let wanted = conv(weight_f32, bias_f32).forward(&xs_f32).expect("a convolution");
            let far = error(&conv(weight, bias).forward(&xs).expect("a convolution"), &wanted);
            assert!(
                far < 2.0 * bar,
                "{inputs} to {outputs} channels, {edges:?}, stride {stride} in {dtype:?}: {far:e}"
            );
        }
    }
}

#[test]
fn convolutions_over_time_take_the_frames_that_there_are() {
    let Some(card) = card() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights.safetensors");
    let weight = noise(&[4, 3, 3, 3, 3]).to_device(&Device::Cpu).and_then(|w| w.flatten_all()?.to_vec1::<f32>());
    let weight = weight.expect("numbers");
    let tensors = [
        ("weight".to_owned(), floats(&[4, 3, 3, 3, 3], |at| weight[at])),
        ("bias".to_owned(), floats(&[4], |at| at as f32 / 3.0)),
    ];
    write_tensors(&path, &tensors.into());
    let conv = |device: &Device, dtype: DType| {
        let weights = Weights::open(std::slice::from_ref(&path), device, dtype).expect("weights");
        Conv3d::load(&weights, 3, 4, [3; 3]).expect("a convolution")
    };
    for (dtype, bar) in TYPES {
        let (frames, frames_f32): (Vec<_>, Vec<_>) = (0..3).map(|at| both(&[1, 3, 6, 7 + at], dtype, &card)).unzip();
        let crop = |frames: &[Tensor]| -> Vec<Tensor> {
            frames
                .iter()
                .map(|frame| frame.narrow(3, 0, 7).and_then(|frame| frame.contiguous()).expect("a frame"))
                .collect()
        };
        let (frames, frames_f32) = (crop(&frames), crop(&frames_f32));
        for first in 0..3 {
            let wanted = conv(&Device::Cpu, DType::F32).forward(&frames_f32[first..]).expect("a frame");
            let far = error(&conv(&card, dtype).forward(&frames[first..]).expect("a frame"), &wanted);
            assert!(far < 2.0 * bar, "{} frames in {dtype:?}: {far:e}", 3 - first);
        }
    }
}

#[test]
fn norms_modulations_and_turns_are_those_of_the_processor() {
    let Some(card) = card() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights.safetensors");
    let (tokens, heads, dim) = (24, 3, 16);
    let width = heads * dim;
    let tensors = [
        ("weight".to_owned(), floats(&[width], |at| 0.5 + at as f32 / 50.0)),
        ("bias".to_owned(), floats(&[width], |at| at as f32 / 9.0 - 2.0)),
    ];
    write_tensors(&path, &tensors.into());
    let layers = |device: &Device| {
        let weights = Weights::open(std::slice::from_ref(&path), device, DType::F32).expect("weights");
        let layer = LayerNorm::load(&weights, width, 1e-6).expect("a norm");
        let plain = LayerNorm::plain(&weights, width, 1e-6).expect("a norm");
        let rope = Rope::grid3([2, 3, 4], [4, 4, 8], 10_000.0, device).expect("positions");
        (layer, plain, RmsNorm::load(&weights, width, 1e-6).expect("a norm"), rope)
    };
    let ((layer, plain, rms, rope), (layer_f32, plain_f32, rms_f32, rope_f32)) = (layers(&card), layers(&Device::Cpu));
    for (dtype, bar) in TYPES {
        let check = |what: &str, made: candle_core::Result<Tensor>, wanted: candle_core::Result<Tensor>| {
            let made = made.expect(what);
            assert_eq!(made.dtype(), dtype, "{what}");
            let far = error(&made, &wanted.expect(what));
            assert!(far < bar, "{what} in {dtype:?}: {far:e}");
        };
        let (xs, xs_f32) = both(&[1, tokens, width], dtype, &card);
        let (hs, hs_f32) = both(&[1, tokens, width + 1], dtype, &card);
        let crop = |hs: Tensor| hs.narrow(2, 1, width).and_then(|hs| hs.contiguous()).expect("numbers");
        let (hs, hs_f32) = (crop(hs), crop(hs_f32));
        check("layer norm", layer.forward_same(&xs), layer_f32.forward_same(&xs_f32));
        check("RMS norm", rms.forward(&xs), rms_f32.forward(&xs_f32));
        let turned = rope.interleaved_norm(&xs, &rms, heads);
        check("norm and turn", turned, rope_f32.interleaved_norm(&xs_f32, &rms_f32, heads));
        for timesteps in [vec![500.0], [vec![0.0; 5], vec![900.0; 19]].concat()] {
            let runs = Runs::new(&timesteps, tokens);
            let (vectors, vectors_f32) = both(&[runs.values.len(), 3, width], DType::F32, &card);
            let (time, time_f32) = (Modulation::new(&runs, vectors), Modulation::new(&runs, vectors_f32));
            let made = time.shift_scale_norm(&xs, Plain::Layer(&plain), 2, 0);
            check("layer norm, modulated", made, time_f32.shift_scale_norm(&xs_f32, Plain::Layer(&plain_f32), 2, 0));
            let made = time.shift_scale_norm(&xs, Plain::Rms(1e-6), 0, 1);
            check("RMS norm, modulated", made, time_f32.shift_scale_norm(&xs_f32, Plain::Rms(1e-6), 0, 1));
            check("gate", time.add_gated(&xs, &hs, 1), time_f32.add_gated(&xs_f32, &hs_f32, 1));
        }
        let (image, image_f32) = both(&[1, 20, 7, 5], dtype, &card);
        let (gamma, gamma_f32) = both(&[20], DType::F32, &card);
        let (norm, norm_f32) =
            (ChannelNorm::new(&gamma).expect("a norm"), ChannelNorm::new(&gamma_f32).expect("a norm"));
        check("norm of channels", norm.forward(&image), norm_f32.forward(&image_f32));
        check("norm of channels and SiLU", norm.forward_silu(&image), norm_f32.forward_silu(&image_f32));
    }
}
