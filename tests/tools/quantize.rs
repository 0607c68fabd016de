//! `talkie quantize`: files in fewer bits that are read back as the numbers that they were said to stand for.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::Dtype;
use talkie::model::Component;
use talkie::weights::{Kind, Weights, e4m3};

use crate::support::command::{Bench, write_tensors};
use crate::support::relative_l2;

/// A file with the names of a transformer of Wan, whose matrices are wide enough for every type.
fn wide(path: &Path) {
    let mut tensors = BTreeMap::new();
    let mut add = |name: &str, shape: &[usize], seed: u32| {
        let count: usize = shape.iter().product();
        let values = (0..count as u32)
            .map(|i| ((i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 9) % 2001) as f32 / 1000.0 - 1.0);
        let bytes = values.flat_map(f32::to_le_bytes).collect();
        tensors.insert(format!("model.diffusion_model.{name}"), (Dtype::F32, shape.to_vec(), bytes));
    };
    add("blocks.0.self_attn.q.weight", &[20, 256], 1);
    add("blocks.0.self_attn.q.bias", &[20], 2);
    add("blocks.0.ffn.0.weight", &[70, 512], 3);
    add("blocks.0.ffn.2.weight", &[40, 96], 4);
    add("blocks.0.cross_attn.o.weight", &[40, 40], 5);
    add("blocks.0.modulation", &[1, 6, 256], 6);
    add("head.modulation", &[1, 2, 256], 7);
    add("head.head.weight", &[64, 256], 8);
    add("patch_embedding.weight", &[256, 16, 1, 2, 2], 9);
    write_tensors(path, &tensors);
}

fn open(path: &Path) -> Weights {
    let part = Component::of_file(path, "transformer").expect("a file").expect("a transformer");
    part.weights(&Device::Cpu, DType::F32).expect("weights")
}

#[test]
fn what_is_written_is_read_as_what_was_said() {
    let bench = Bench::new("layouts/diffusers");
    wide(&bench.path("wide.safetensors"));
    let blocks = [("q8_0", GgmlDType::Q8_0, 0.01), ("q6_k", GgmlDType::Q6K, 0.03), ("q5_k", GgmlDType::Q5K, 0.05)];
    for (to, dtype, most) in blocks.into_iter().chain([("q4_k", GgmlDType::Q4K, 0.1)]) {
        let file = format!("out/{to}.gguf");
        let done = bench.run(&["quantize", "wide.safetensors", "--to", to, "-o", &file]);
        done.worked(&["matrices packed"]);
        let kinds: BTreeMap<String, Kind> = Weights::open(&[bench.path(&file)], &Device::Cpu, DType::F32)
            .unwrap()
            .tensors()
            .map(|(name, stored)| (name.clone(), stored.kind))
            .collect();
        assert_eq!(kinds["blocks.0.self_attn.q.weight"], Kind::Blocks(dtype), "{to}");
        assert_eq!(kinds["blocks.0.ffn.2.weight"], Kind::Blocks(GgmlDType::Q8_0), "{to}: rows of 96");
        assert_eq!(kinds["blocks.0.cross_attn.o.weight"], Kind::Plain(Dtype::F32), "{to}: rows of 40");
        assert_eq!(kinds["patch_embedding.weight"], Kind::Plain(Dtype::F32));
        compare(&bench, &done.stdout, &file, most);
    }
    let done = bench.run(&["quantize", "wide.safetensors", "--to", "fp8", "-o", "out/fp8.safetensors"]);
    compare(&bench, &done.worked(&[]).stdout, "out/fp8.safetensors", 0.05);
}

/// Holds every tensor of a file against the one that it was made from, and against what was said of it.
fn compare(bench: &Bench, said: &str, file: &str, most: f64) {
    let (made, wanted) = (open(&bench.path(file)), open(&bench.path("wide.safetensors")));
    let mut packed = 0;
    for (name, shape) in wanted.shapes() {
        // The original has a prefix, which only files in its authors' names have.
        let error = relative_l2(
            &made.f32(&name, shape.as_slice()).expect(&name),
            &wanted.f32(&name, shape.as_slice()).unwrap(),
        );
        let layer = name
            .replace("attn1.to_q", "self_attn.q")
            .replace("attn2.to_out.0", "cross_attn.o")
            .replace("ffn.net.0.proj", "ffn.0")
            .replace("ffn.net.2", "ffn.2");
        match said.lines().find(|line| line.starts_with(&format!("{layer} "))) {
            Some(line) => {
                let told: f64 = line.split_whitespace().last().unwrap().parse().expect(line);
                assert!(
                    error <= most && (error - told).abs() < 0.01 * told,
                    "{file}: {name}: {error:e}, said {told:e}"
                );
                packed += 1;
            }
            None => assert_eq!(error, 0.0, "{file}: {name}"),
        }
    }
    assert!(packed >= 3, "{file}: {said}");
    made.finish(&[]).expect("nothing is left over");
}

#[test]
fn a_film_is_made_from_a_quantized_model() {
    let bench = Bench::new("layouts/diffusers");
    let made = bench.run(&["quantize", "model", "--to", "q8_0", "-o", "out/transformer.gguf"]);
    made.worked(&[]);
    bench.run(&["quantize", "model", "--part", "text_encoder", "--to", "q8_0", "-o", "out/text.gguf"]).worked(&[]);
    bench.run(&["quantize", "out/transformer.gguf", "--to", "fp8", "-o", "out/again.safetensors"]).worked(&[]);
    let over = ["--transformer", "out/transformer.gguf", "--text-encoder", "out/text.gguf", "-o", "out/film/"];
    bench.generate(&over).worked(&[]);
    bench.generate(&["--transformer", "out/again.safetensors", "-o", "out/film-2/"]).worked(&[]);
}

#[test]
fn a_film_with_sound_is_made_from_a_quantized_model() {
    // The small fixtures of LTX-2 have no rows that are long enough for blocks.
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/toybox");
    let bench = Bench::new("ltx2");
    let own = model.join("transformer/diffusion_pytorch_model.safetensors");
    let own = Weights::open(&[own], &Device::Cpu, DType::F32).expect("weights");
    for (to, file) in [("q8_0", "out/transformer.gguf"), ("fp8", "out/transformer.safetensors")] {
        bench.run(&["quantize", model.to_str().expect("UTF-8"), "--to", to, "-o", file]).worked(&["matrices packed"]);
        let made = open(&bench.path(file));
        let mut packed = 0;
        for (name, shape) in own.shapes() {
            let tensor = |of: &Weights| of.f32(&name, shape.as_slice()).expect(&name);
            let error = relative_l2(&tensor(&made), &tensor(&own));
            assert!(error < 0.05, "{file}: {name}: {error:e}");
            packed += usize::from(error > 0.0);
        }
        assert_eq!(packed, 168, "{file}");
        made.finish(&[]).expect("nothing is left over");
        let film = format!("{file}-film/");
        bench.run(&["generate", "a red ball", "--transformer", file, "--steps", "2", "-o", &film]).worked(&[]);
    }
}

#[test]
fn a_quantization_that_cannot_be_is_refused_and_leaves_nothing() {
    let bench = Bench::new("layouts/diffusers");
    let refused = |arguments: &[&str], code: i32, words: &[&str]| {
        bench.run(&[&["quantize"], arguments].concat()).refused(code, words);
    };
    refused(&["model", "--to", "iq4_xs", "-o", "out/a.gguf"], 2, &["iq4_xs", "q4_k"]);
    refused(&["model", "--to", "q4_k", "-o", "out/a.safetensors"], 2, &["ends in .gguf", "a.gguf"]);
    refused(&["model", "--part", "vae", "--to", "q8_0", "-o", "out/a.gguf"], 2, &["AutoencoderKLWan", "text_encoder"]);
    refused(
        &["model", "--part", "vocoder", "--to", "q8_0", "-o", "out/a.gguf"],
        2,
        &["has no `vocoder`", "transformer"],
    );
    assert!(bench.left().is_empty(), "{:?}", bench.left());
}

#[test]
fn eight_bits_are_the_nearest() {
    let numbers: Vec<f32> = (0..=0x7eu8)
        .map(|byte| {
            let tensor = Tensor::from_raw_buffer(&[byte], DType::F8E4M3, &[1], &Device::Cpu).unwrap();
            tensor.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap()[0]
        })
        .collect();
    for (byte, pair) in numbers.windows(2).enumerate() {
        let byte = byte as u8;
        assert_eq!(e4m3(pair[0]), byte);
        assert_eq!(e4m3(-pair[1]), (byte + 1) | 128);
        let middle = f32::midpoint(pair[0], pair[1]);
        assert_eq!(e4m3(middle), byte + byte % 2, "the even one of two that are as near");
        assert_eq!(e4m3(middle * 0.999), byte);
        assert_eq!(e4m3(middle * 1.001), byte + 1);
    }
    assert_eq!(e4m3(1e9), 0x7e);
}
