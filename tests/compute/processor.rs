//! What was written for processors, against candle's own operations, and what they compute against the definition in f64.

use candle_core::{DType, IndexOp, Tensor};
use safetensors::tensor::Dtype;
use talkie::nn::Linear;
use talkie::nn::activation::{gelu_tanh, leaky_relu, silu};
use talkie::nn::attention::attend;
use talkie::nn::modulation::{Modulation, Runs};
use talkie::nn::norm::rms_norm;
use talkie::nn::rope::Rope;
use talkie::weights::{Matrix, Weights};

use crate::nn::layers::noise;
use crate::support::command::{Bench, write_tensors};
use crate::support::{device, relative_l2};

/// Attention by its definition.
fn defined(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> candle_core::Result<Tensor> {
    let [q, k, v] = [q, k, v].map(|part| part.contiguous().expect("a tensor"));
    let scores = (q.matmul(&k.t()?.contiguous()?)? * scale)?;
    let scores = bias.map_or(Ok(scores.clone()), |bias| scores.broadcast_add(bias))?;
    candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)
}

#[test]
fn attention_in_blocks_is_attention() {
    // Films, heads, queries, keys, numbers of a key, numbers of a value: less and more than a block of each.
    for (b, heads, n, m, d, width) in [
        (1, 1, 1, 1, 1, 1),
        (2, 3, 5, 7, 16, 8),
        (1, 2, 500, 1200, 24, 24),
        (1, 3, 193, 513, 8, 40),
        (3, 1, 400, 3, 5, 5),
    ] {
        // As layers hand them over: heads after tokens in memory.
        let of = |rows: usize, numbers: usize| noise(&[b, rows, heads, numbers]).transpose(1, 2).expect("a tensor");
        let (q, k, v) = ((of(n, d) * 4.0).expect("queries"), of(m, d), of(m, width));
        let causal: Vec<f32> = (0..n * m).map(|at| if at % m > at / m { f32::NEG_INFINITY } else { 0.0 }).collect();
        let causal = Tensor::from_vec(causal, (1, 1, n, m), &device()).expect("a mask");
        let turned = noise(&[1, m, n, heads]).permute((0, 3, 2, 1)).expect("a bias");
        let biases = [None, Some(noise(&[1, 1, 1, m])), Some(noise(&[b, heads, n, m])), Some(causal), Some(turned)];
        for (which, bias) in biases.iter().enumerate() {
            let made = attend(&q, &k, &v, 0.3, bias.as_ref()).expect("attention");
            let wanted = defined(&q, &k, &v, 0.3, bias.as_ref()).expect("attention");
            let error = relative_l2(&made, &wanted);
            assert!(error < 2e-6, "{:?} to {m} keys, bias {which}: {error:e}", q.shape());
        }
    }
}

#[test]
fn scores_that_are_no_numbers_are_not_hidden() {
    let (q, v) = (noise(&[1, 1, 4, 8]), noise(&[1, 1, 4, 8]));
    let bias = Tensor::new(&[[[[0f32, f32::NAN, 0.0, 0.0]]]], &device()).expect("a bias");
    let made = attend(&q, &q, &v, 1.0, Some(&bias)).expect("attention");
    assert!(made.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|value| value.is_nan()));
}

/// Numbers of every size, and what is none.
fn numbers() -> Vec<f32> {
    let ordinary = (-4000..=4000).map(|at| at as f32 / 37.0);
    let powers = (-149..=127).flat_map(|power| [2f32.powi(power), -(2f32.powi(power))]);
    let edges = [0.0, -0.0, 87.3, 88.7, 88.8, -87.3, -87.4, -104.0, f32::MAX, f32::MIN, f32::INFINITY, f32::NAN];
    ordinary.chain(powers).chain(edges).collect()
}

/// What an activation is by its definition.
type Defined = fn(f64) -> f64;

#[test]
fn activations_are_what_they_are_defined_to_be() {
    let xs = numbers();
    let tensor = Tensor::new(xs.as_slice(), &device()).expect("numbers");
    let wanted: [(&str, Tensor, Defined); 3] = [
        ("silu", silu(&tensor).expect("silu"), |x| x / (1.0 + (-x).exp())),
        ("gelu", gelu_tanh(&tensor).expect("gelu"), |x| {
            x / (1.0 + (-2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).exp())
        }),
        ("leaky relu", leaky_relu(&tensor, 0.1).expect("rectified"), |x| if x > 0.0 { x } else { 0.1 * x }),
    ];
    for (name, made, defined) in wanted {
        for (x, made) in xs.iter().zip(made.to_vec1::<f32>().expect("numbers")) {
            let exact = defined(f64::from(*x));
            let near = (f64::from(made) - exact).abs() <= 3e-7 * exact.abs() + 1e-8;
            let same = f64::from(made) == exact || made.is_nan() && x.is_nan();
            // Past the largest number that f32 has, both are infinite.
            let beyond = exact.abs() > f64::from(f32::MAX) && made.is_infinite();
            assert!(near || same || beyond, "{name} of {x:e} is {made:e}, not {exact:e}");
        }
    }
}

#[test]
fn rows_are_normalised_over_their_root_mean_square() {
    for shape in [[1, 1, 1], [1, 3, 31], [2, 70, 64], [1, 9, 5000]] {
        let xs = (noise(&shape) * 3.0).expect("numbers");
        let wide = xs.to_dtype(DType::F64).expect("numbers");
        let mean = wide.sqr().unwrap().mean_keepdim(2).unwrap();
        let wanted = wide.broadcast_div(&(mean + 1e-6).unwrap().sqrt().unwrap()).unwrap();
        let error = relative_l2(&rms_norm(&xs, 1e-6).expect("a norm"), &wanted);
        assert!(error < 1e-6, "{shape:?}: {error:e}");
    }
}

#[test]
fn tokens_are_modulated_by_the_vectors_of_their_run() {
    let (tokens, dim) = (11, 37);
    let (xs, hs) = (noise(&[1, tokens, dim]), noise(&[1, dim, tokens]).transpose(1, 2).expect("a tensor"));
    for timesteps in [vec![500.0], [vec![0.0; 4], vec![900.0; 7]].concat()] {
        let runs = Runs::new(&timesteps, tokens);
        let vectors = noise(&[runs.values.len(), 3, dim]);
        let time = Modulation::new(&runs, vectors.clone());
        let shifted = time.shift_scale(&xs, 2, 0).expect("shifted");
        let gated = time.add_gated(&xs, &hs, 1).expect("gated");
        for token in 0..tokens {
            let run = usize::from(token >= 4 && runs.values.len() > 1);
            let row = |of: &Tensor| of.i((0, token)).expect("a row");
            let vector = |place: usize| vectors.i((run, place)).expect("a vector");
            let wanted = ((row(&xs) * (vector(0) + 1.0).unwrap()).unwrap() + vector(2)).unwrap();
            assert!(relative_l2(&row(&shifted), &wanted) < 1e-6, "token {token} shifted");
            let wanted = (row(&xs) + (row(&hs) * vector(1)).unwrap()).unwrap();
            assert!(relative_l2(&row(&gated), &wanted) < 1e-6, "token {token} gated");
        }
        assert!(time.shift_scale(&noise(&[1, tokens, dim + 1]), 0, 1).is_err(), "vectors of another width");
    }
}

#[test]
fn heads_are_turned_as_candle_turns_them() {
    let (grid, dims) = ([2, 3, 4], [4, 4, 8]);
    let rope = Rope::grid3(grid, dims, 10_000.0, &device()).expect("tables");
    let xs = noise(&[2, 24, 5, 16]).transpose(1, 2).expect("heads");
    let angles: Vec<f64> = (0..24 * 8).map(|at| f64::from(at) / 7.0).collect();
    let table = |f: fn(f64) -> f64| {
        let values: Vec<f32> = angles.iter().map(|&angle| f(angle) as f32).collect();
        Tensor::from_vec(values, (24, 8), &device()).expect("a table")
    };
    let (cos, sin) = (table(f64::cos), table(f64::sin));
    let rope_of_angles = Rope::from_angles(&angles, (24, 8), &device()).expect("tables");
    let plain = xs.contiguous().expect("a tensor");
    let wanted = candle_nn::rotary_emb::rope_i(&plain, &cos, &sin).expect("turned");
    assert!(relative_l2(&rope_of_angles.interleaved(&xs).expect("turned"), &wanted) < 1e-6);
    let wanted = candle_nn::rotary_emb::rope(&plain, &cos, &sin).expect("turned");
    assert!(relative_l2(&rope_of_angles.halves(&xs).expect("turned"), &wanted) < 1e-6);
    assert!(rope.interleaved(&noise(&[1, 5, 23, 16])).is_err(), "tokens without a position");
}

#[test]
fn a_linear_layer_adds_its_bias_to_the_products() {
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 17, 5), (130, 300, 70)] {
        let (weight, bias, xs) = (noise(&[outputs, inputs]), noise(&[outputs]), noise(&[1, rows, inputs]));
        let wide = |of: &Tensor| of.to_dtype(DType::F64).expect("f64");
        let products = wide(&xs).squeeze(0).unwrap().matmul(&wide(&weight).t().unwrap()).unwrap();
        for bias in [None, Some(bias)] {
            let made = Linear::new(weight.clone(), bias.clone()).forward(&xs).expect("a layer").squeeze(0).unwrap();
            let wanted = bias.map_or(products.clone(), |bias| products.broadcast_add(&wide(&bias)).unwrap());
            let error = relative_l2(&made, &wanted);
            assert!(error < 1e-6, "{rows} rows of {inputs} to {outputs}: {error:e}");
        }
    }
}

#[test]
fn every_number_of_sixteen_bits_is_widened_exactly() {
    let folder = tempfile::tempdir().expect("a folder");
    let bits: Vec<u16> = (0..=u16::MAX).collect();
    let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    for dtype in [Dtype::F16, Dtype::BF16] {
        let wanted = |bits| match dtype {
            Dtype::F16 => half::f16::from_bits(bits).to_f32(),
            _ => half::bf16::from_bits(bits).to_f32(),
        };
        let path = folder.path().join("weights.safetensors");
        write_tensors(&path, &[("weight".to_owned(), (dtype, vec![256, 256], bytes.clone()))].into());
        let weights = Weights::open(&[path], &device(), DType::F32).expect("weights");
        let Matrix::Packed(packed, _) = weights.matrix("weight", (256, 256)).expect("a matrix") else {
            panic!("16 bits stay as they are")
        };
        let made =
            packed.widen(0..256, &device()).and_then(|made| made.flatten_all()?.to_vec1::<f32>()).expect("numbers");
        for (bits, made) in bits.iter().zip(made) {
            let wanted = wanted(*bits);
            assert!(made.to_bits() == wanted.to_bits() || made.is_nan() && wanted.is_nan(), "{dtype:?} {bits:#06x}");
        }
    }
}

#[test]
fn products_with_packed_weights_are_those_of_their_numbers() {
    if !std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|words| words.contains("amx_bf16")) {
        println!("skipped: products on matrix tiles, which this processor has not; they are tried as others have them");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights.safetensors");
    // Rows of x, their numbers, and rows of weights: less and more than a tile, a panel and a depth of each.
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 31, 33), (40, 1100, 70), (65, 64, 300)] {
        for dtype in [Dtype::BF16, Dtype::F16, Dtype::F8_E4M3, Dtype::F8_E5M2] {
            // Every number of its kind but infinities and NaN, whose exponent has all bits.
            let size = usize::from(matches!(dtype, Dtype::BF16 | Dtype::F16)) + 1;
            let bytes = (0..rows * 7 + inputs * outputs * size).map(|at| (at * 37 % 251) as u8).skip(rows * 7);
            let bytes = bytes.enumerate().map(|(at, byte)| if at % size == size - 1 { byte & 0xb7 } else { byte });
            write_tensors(&path, &[("weight".to_owned(), (dtype, vec![outputs, inputs], bytes.collect()))].into());
            let weights = Weights::open(std::slice::from_ref(&path), &device(), DType::F32).expect("weights");
            let Matrix::Packed(packed, _) = weights.matrix("weight", (outputs, inputs)).expect("a matrix") else {
                panic!("{dtype:?} stays as it is")
            };
            let xs = (noise(&[rows, inputs]) * 100.0).expect("numbers");
            let wide = |of: &Tensor| of.to_dtype(DType::F64).expect("f64");
            let numbers = wide(&packed.widen(0..outputs, &device()).expect("numbers"));
            let wanted = wide(&xs).matmul(&numbers.t().unwrap()).expect("products");
            let error = relative_l2(&packed.multiply(&xs).expect("products"), &wanted);
            assert!(error < 5e-7, "{rows} rows of {inputs} to {outputs} in {dtype:?}: {error:e}");
        }
    }
}

#[test]
fn what_is_no_number_stays_none_in_products_with_packed_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights.safetensors");
    let ones = half::bf16::ONE.to_le_bytes().repeat(40 * 64);
    write_tensors(&path, &[("weight".to_owned(), (Dtype::BF16, vec![40, 64], ones))].into());
    let layer =
        Weights::open(&[path], &device(), DType::F32).and_then(|weights| Linear::without_bias(&weights, 64, 40));
    for none in [f32::NAN, f32::from_bits(0x7f80_0001), f32::INFINITY, f32::NEG_INFINITY] {
        let mut xs = vec![1f32; 3 * 64];
        xs[64 + 9] = none;
        let xs = Tensor::from_vec(xs, (3, 64), &device()).expect("numbers");
        let made =
            layer.as_ref().expect("a layer").forward(&xs).and_then(|made| made.to_vec2::<f32>()).expect("products");
        assert!(made[0].iter().chain(&made[2]).all(|y| *y == 64.0), "rows without {none}");
        let kept = |y: &f32| if none.is_nan() { y.is_nan() } else { *y == none };
        assert!(made[1].iter().all(kept), "a row with {none}: {:?}", made[1]);
    }
    let largest =
        Tensor::full(f32::MAX, (1, 64), &device()).expect("numbers").affine(1.0 / 128.0, 0.0).expect("numbers");
    let made = layer.expect("a layer").forward(&largest).and_then(|made| made.to_vec2::<f32>()).expect("products");
    assert!(made[0].iter().all(|y| (y / f32::MAX - 0.5).abs() < 1e-6), "the largest numbers");
}

#[test]
fn a_film_is_the_same_without_all_this() {
    for model in ["wan21-t2v", "ltx2"] {
        let mut bench = Bench::new(model);
        let make = |bench: &Bench, name: &str| {
            let (latents, out) = (format!("{name}.safetensors"), format!("out/{name}/"));
            bench.generate(&["--size", "64x64", "--save-latents", &latents, "-o", &out]).worked(&[]);
            candle_core::safetensors::load(bench.path(&latents), &device()).expect("latents")["video"].clone()
        };
        let fast = make(&bench, "fast");
        bench.set("TALKIE_PLAIN", "1");
        let error = relative_l2(&fast, &make(&bench, "plain"));
        assert!(error < 1e-4, "{model}: {error:e}");
    }
}
