//! Networks of which a block at a time is in memory: what they make, when a plan chooses them, and how it says what they take.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Tensor};
use serde_json::Value;
use talkie::error::Error;
use talkie::families::wan::config::Config;
use talkie::families::wan::transformer::Transformer;
use talkie::nn::blocks::Blocks;
use talkie::weights::Weights;

use crate::support::command::Bench;
use crate::support::{device, fixture, relative_l2, tensors};

/// One forward of a small transformer, held and streamed.
fn both(path: PathBuf, model: &str) -> [Tensor; 2] {
    let mut model = talkie::model::Model::open(&fixture(model)).expect("a model");
    model.replace("transformer", &path).expect("weights");
    let part = model.component("transformer").expect("a transformer");
    let config: Config = part.config().expect("a configuration");
    let reference = tensors("layouts/packed/reference.safetensors");
    [false, true].map(|streamed| {
        let weights = part.weights(&device(), DType::F32).expect("weights");
        let weights = if streamed { weights.streamed().expect("weights") } else { weights };
        let network = Transformer::load(&weights, &config).expect("a network");
        // Twice: what a block leaves behind must not change the next pass.
        network.forward(&reference["latents"], &[900.0], &reference["text"]).expect("a velocity");
        network.forward(&reference["latents"], &[500.0], &reference["text"]).expect("a velocity")
    })
}

#[test]
fn a_streamed_transformer_is_the_one_in_memory() {
    let packed = fixture("layouts/packed");
    let mut seen = 0;
    for entry in std::fs::read_dir(&packed).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with("transformer-") {
            continue;
        }
        let [held, streamed] = both(path, "layouts/diffusers");
        assert!(relative_l2(&streamed, &held) == 0.0, "{name}: packed weights are used where they lie either way");
        seen += 1;
    }
    assert_eq!(seen, 5);
    // What is copied otherwise is multiplied in parts: the sums may be of another order.
    let dense = fixture("layouts/diffusers/transformer/diffusion_pytorch_model.safetensors");
    let [held, streamed] = both(dense, "layouts/diffusers");
    assert!(relative_l2(&streamed, &held) <= 1e-6, "f32");
}

#[test]
fn a_film_is_the_same_whatever_is_streamed() {
    for model in ["wan21-t2v", "ltx2"] {
        let bench = Bench::new(model);
        let make = |stream: &str| {
            let (set, latents) = (format!("stream={stream}"), format!("{stream}.safetensors"));
            let out = format!("out/{stream}/");
            bench.generate(&["--size", "64x64", "--set", &set, "--save-latents", &latents, "-o", &out]).worked(&[]);
            let latents = candle_core::safetensors::load(bench.path(&latents), &device()).expect("latents");
            latents["video"].clone()
        };
        let held = make("none");
        for stream in ["text", "transformer", "text,transformer"] {
            let error = relative_l2(&make(stream), &held);
            assert!(error <= 1e-5, "{model}, {stream}: {error:e}");
        }
    }
}

#[test]
fn what_is_missing_or_broken_of_a_streamed_network_is_known_at_once() {
    let bench = Bench::new("wan21-t2v");
    bench.generate(&["--set", "stream=all"]).refused(2, &["`--set stream=all` is not a value", "text,transformer"]);
    let path = bench.path("model/transformer/diffusion_pytorch_model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &device()).expect("weights");
    tensors.remove("blocks.1.ffn.net.2.weight").expect("a weight");
    candle_core::safetensors::save(&tensors, &path).expect("written");
    bench.generate(&["--set", "stream=transformer"]).refused(1, &["the tensor `blocks.1.ffn.net.2.weight` is missing"]);
}

#[test]
fn an_error_of_a_block_ends_the_pass() {
    let path = fixture("wan21-t2v/transformer/diffusion_pytorch_model.safetensors");
    let weights = Weights::open(&[path], &device(), DType::F32).expect("weights").streamed().expect("weights");
    let brought = Arc::new(AtomicUsize::new(0));
    let count = brought.clone();
    let blocks = Blocks::load(&weights.pp("blocks"), 2, move |weights| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(weights.contains("scale_shift_table"))
    });
    let blocks = blocks.expect("blocks");
    assert_eq!(brought.load(Ordering::SeqCst), 2, "what is missing of a block is known at once");
    let mut seen = Vec::new();
    let ended = blocks.each(|index, &whole| {
        seen.push((index, whole));
        if index == 0 { Ok(()) } else { Err(Error::stopped("enough")) }
    });
    assert_eq!(ended.expect_err("an end").kind(), talkie::error::Kind::Stopped);
    assert_eq!(seen, [(0, true), (1, true)]);
    assert_eq!(brought.load(Ordering::SeqCst), 4, "nothing stays in memory: a pass brings every block");
    assert_eq!(blocks.count(), 2);
}

/// The plan of a film of a released model, from the catalogue alone.
fn plan(bench: &Bench, arguments: &[&str]) -> Value {
    let shared =
        ["generate", "a fox", "-m", "wan2.1-t2v-1.3b", "--frames", "17", "--plan", "--json", "--device", "cpu"];
    let done = bench.run(&[&shared[..], arguments].concat());
    serde_json::from_str(&done.worked(&[]).stdout).expect("a plan")
}

#[test]
fn a_plan_saves_memory_where_a_stage_fits_only_so() {
    let bench = Bench::new("wan21-t2v");
    let peak = |plan: &Value, stage: &str| {
        let stages = plan["stages"].as_array().expect("stages").iter();
        let found = stages.filter(|found| found["stage"] == stage);
        found.map(|found| found["weights"].as_u64().unwrap() + found["scratch"].as_u64().unwrap()).max().expect(stage)
    };
    let roomy = plan(&bench, &["--size", "256x256", "--memory", "20GB"]);
    assert_eq!(roomy["parameters"]["stream"], "text", "a processor reads the encoder where it lies");
    assert!(peak(&roomy, "text") < 1_000_000_000 && peak(&roomy, "denoise") > 2_800_000_000);
    let tight = plan(&bench, &["--size", "256x256", "--memory", "2GB"]);
    assert_eq!(tight["parameters"]["stream"], "text,transformer");
    assert!(peak(&tight, "denoise") < 700_000_000, "{tight}");
    let notes = tight["notes"].to_string();
    assert!(notes.contains("the transformer's blocks are brought one after another"), "{notes}");
    let asked = ["--size", "256x256", "--memory", "2GB", "--set", "stream=none"];
    let shared = ["generate", "a fox", "-m", "wan2.1-t2v-1.3b", "--frames", "17", "--plan", "--device", "cpu"];
    bench.run(&[&shared[..], &asked].concat()).refused(1, &["this film needs", "2.0 GB may be used"]);
}
