//! Layers: the fast ways against the plain ones.

use candle_core::{DType, Tensor};
use talkie::nn::channel_norm::ChannelNorm;
use talkie::nn::conv::{Conv2d, Conv3d, Edges};
use talkie::weights::Weights;

use crate::support::{device, relative_l2};

/// What candle unrolls at a time when nothing limits it.
const WHOLE: usize = usize::MAX;

/// The same numbers in every run: candle's own generator cannot be seeded on a CPU.
pub fn noise(shape: &[usize]) -> Tensor {
    let mut state = shape.iter().fold(1u64, |state, &side| state * 31 + side as u64);
    let mut value = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| value()).collect();
    Tensor::from_vec(values, shape, &device()).expect("noise")
}

#[test]
fn fast_convolutions_agree_with_plain_ones_on_every_size() {
    for (inputs, outputs, h, w) in
        [(1, 1, 1, 1), (3, 5, 1, 2), (2, 3, 2, 1), (7, 4, 3, 3), (5, 6, 8, 8), (16, 3, 9, 14), (96, 17, 33, 65)]
    {
        let conv = Conv2d::new(noise(&[outputs, inputs, 3, 3]), noise(&[outputs])).expect("a convolution").padding(1);
        let xs = noise(&[1, inputs, h, w]);
        let (fast, plain) = (conv.forward(&xs).expect("fast"), conv.plain(WHOLE).forward(&xs).expect("plain"));
        let error = relative_l2(&fast, &plain);
        assert!(error < 1e-6, "{inputs} to {outputs} channels, {h}x{w}: {error:e}");
    }
}

/// Images of which the turned squares do not fit the buffer at once, and kernels that do not either.
#[test]
fn fast_convolutions_agree_with_plain_ones_in_parts() {
    for (inputs, outputs, h, w) in [(400, 8, 60, 50), (1536, 700, 2, 3)] {
        let conv = Conv2d::new(noise(&[outputs, inputs, 3, 3]), noise(&[outputs])).expect("a convolution").padding(1);
        let xs = noise(&[1, inputs, h, w]);
        let (fast, plain) = (conv.forward(&xs).expect("fast"), conv.plain(WHOLE).forward(&xs).expect("plain"));
        let error = relative_l2(&fast, &plain);
        assert!(error < 2e-6, "{inputs} to {outputs} channels, {h}x{w}: {error:e}");
    }
}

/// Mirrored edges are those of an image that was mirrored beforehand, on every way of computing it.
#[test]
fn convolutions_mirror_their_edges() {
    for (h, w) in [(2, 2), (2, 3), (3, 2), (5, 4), (4, 5), (9, 14), (60, 50)] {
        let xs = noise(&[1, 3, h, w]);
        let mirrored = |length: usize| {
            let ids: Vec<u32> = [1].into_iter().chain(0..length as u32).chain([length as u32 - 2]).collect();
            Tensor::new(ids, &device()).expect("rows")
        };
        let large = xs.index_select(&mirrored(h), 2).and_then(|xs| xs.index_select(&mirrored(w), 3)).expect("a frame");
        let conv = || Conv2d::new(noise(&[4, 3, 3, 3]), noise(&[4])).expect("a convolution");
        let expected = conv().plain(WHOLE).forward(&large).expect("expected");
        let reflecting = conv().padding(1).edges(Edges::Reflect);
        for conv in [reflecting.clone(), reflecting.clone().plain(WHOLE), reflecting.plain(300)] {
            let error = relative_l2(&conv.forward(&xs).expect("a frame"), &expected);
            assert!(error < 1e-6, "{h}x{w}: {error:e}");
        }
    }
    let conv = Conv2d::new(noise(&[4, 3, 3, 3]), noise(&[4])).expect("a convolution").padding(1).edges(Edges::Reflect);
    for (h, w) in [(1, 4), (4, 1)] {
        let refusal = conv.forward(&noise(&[1, 3, h, w])).expect_err("too small").to_string();
        assert!(refusal.contains("mirrored"), "{refusal}");
    }
}

#[test]
fn plain_convolutions_agree_in_bands_of_rows() {
    let xs = noise(&[1, 4, 11, 9]);
    for (kernel, stride, padding) in [(3, 1, 1), (3, 2, 0), (3, 2, 1), (5, 3, 2)] {
        let conv = || {
            let conv = Conv2d::new(noise(&[6, 4, kernel, kernel]), noise(&[6])).expect("a convolution");
            conv.stride(stride).padding(padding)
        };
        let conv = conv();
        let whole = conv.clone().plain(WHOLE).forward(&xs).expect("whole");
        for unrolled in [1, 4 * kernel * kernel * 9, 8 * kernel * kernel * 9] {
            let bands = conv.clone().plain(unrolled).forward(&xs).expect("bands");
            assert!(relative_l2(&bands, &whole) < 1e-6, "{kernel}, {stride}, {padding}: {unrolled}");
        }
    }
}

/// The definition: a sum over the kernel's frames, each a convolution of the frame that many places before.
#[test]
fn a_convolution_over_time_adds_up_its_frames() {
    let (inputs, outputs) = (3, 4);
    for kernel in [[3, 3, 3], [3, 1, 1], [1, 1, 1], [2, 3, 3]] {
        let [frames, rows, columns] = kernel;
        let weight = noise(&[outputs, inputs, frames, rows, columns]);
        let bias = noise(&[outputs]);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("conv.safetensors");
        let tensors = [("weight".to_owned(), weight.clone()), ("bias".to_owned(), bias.clone())];
        candle_core::safetensors::save(&tensors.into(), &file).expect("a file");
        let weights = Weights::open(&[file], &device(), DType::F32).expect("weights");
        let fast = Conv3d::load(&weights, inputs, outputs, kernel).expect("a convolution");
        let plain = Conv3d::load(&weights, inputs, outputs, kernel).expect("a convolution").plain(WHOLE);
        assert_eq!(fast.frames(), frames);

        let film: Vec<Tensor> = (0..frames).map(|_| noise(&[1, inputs, 5, 6])).collect();
        for known in 1..=frames {
            let window = &film[frames - known..];
            let mut expected =
                bias.reshape((1, outputs, 1, 1)).expect("bias").broadcast_as((1, outputs, 5, 6)).expect("b");
            for (frame, image) in (frames - known..frames).zip(window) {
                let kernel = weight.narrow(2, frame, 1).and_then(|k| k.squeeze(2)?.contiguous()).expect("a kernel");
                let part = image.conv2d(&kernel, rows / 2, 1, 1, 1).expect("a part");
                expected = (expected + part).expect("a sum");
            }
            for conv in [&fast, &plain] {
                let error = relative_l2(&conv.forward(window).expect("a frame"), &expected);
                assert!(error < 1e-6, "{kernel:?}, {known} frames: {error:e}");
            }
        }
        assert!(fast.forward(&[film.as_slice(), &film[..1]].concat()).is_err(), "one frame too many");
    }
}

#[test]
fn norm_and_silu_in_one_go_agree_with_one_after_the_other() {
    for (dim, h, w) in [(1, 1, 1), (5, 3, 7), (96, 50, 90)] {
        let norm = ChannelNorm::new(&noise(&[dim, 1, 1, 1])).expect("a norm");
        let xs = noise(&[1, dim, h, w]);
        let (fast, plain) = (norm.forward_silu(&xs).expect("fast"), norm.plain().forward_silu(&xs).expect("plain"));
        assert!(relative_l2(&fast, &plain) < 1e-6, "{dim} channels, {h}x{w}");
    }
    for (dim, eps) in [(3, 0.5), (48, 1e-8)] {
        let xs = noise(&[1, dim, 4, 5]);
        let root = (xs.sqr().unwrap().mean_keepdim(1).unwrap() + eps).unwrap().sqrt().unwrap();
        let expected = xs.broadcast_div(&root).unwrap();
        let norm = ChannelNorm::pixel(dim, eps, &device()).expect("a norm");
        assert!(relative_l2(&norm.forward(&xs).expect("a norm"), &expected) < 1e-6);
        let expected = candle_nn::ops::silu(&expected).unwrap();
        assert!(relative_l2(&norm.forward_silu(&xs).expect("fast"), &expected) < 1e-6);
    }
    let zeros = Tensor::zeros((1, 4, 2, 2), DType::F32, &device()).expect("zeros");
    let norm = ChannelNorm::new(&noise(&[4])).expect("a norm");
    assert_eq!(
        norm.forward_silu(&zeros).expect("zeros").flatten_all().expect("flat").to_vec1::<f32>().expect("values"),
        [0.0; 16]
    );
}
