//! LoRA files: merged and as a branch, under the names that tools give them, and what does not fit.

use candle_core::{DType, Tensor};
use serde_json::Value;
use talkie::families::wan::config::Config;
use talkie::families::wan::transformer::Transformer;
use talkie::model::Model;
use talkie::request::{Adapter, Expert};

use crate::support::command::{Bench, copy};
use crate::support::{close, device, fixture, relative_l2, tensors};

fn lora(name: &str, strength: f64) -> Adapter {
    Adapter { path: fixture("loras").join(format!("{name}.safetensors")), strength, expert: None }
}

/// The velocity of the small Wan with LoRAs, its transformer from another file where one is named, and what was said.
fn velocity(file: Option<&str>, loras: &[Adapter]) -> (Tensor, Vec<String>) {
    let inputs = tensors("layouts/packed/reference.safetensors");
    let mut model = Model::open(&fixture("layouts/diffusers")).unwrap();
    if let Some(file) = file {
        model.replace("transformer", &fixture("layouts").join(file)).expect(file);
    }
    loras.iter().for_each(|lora| model.adapt(lora).expect("a LoRA"));
    let part = model.component("transformer").unwrap();
    let weights = part.weights(&device(), DType::F32).unwrap();
    let network = Transformer::load(&weights, &part.config::<Config>().unwrap()).unwrap();
    (network.forward(&inputs["latents"], &[500.0], &inputs["text"]).unwrap(), model.notes)
}

/// Measured: 4.3e-7, plain 4.0e-7.
const BAR: f64 = 1.3e-6;

#[test]
fn merged_into_dense_weights_they_are_what_the_reference_merges() {
    let reference = tensors("loras/reference.safetensors");
    let (without, _) = velocity(None, &[]);
    for name in ["peft", "comfy", "kohya"] {
        let wanted = &reference[&format!("velocity.{name}")];
        let (made, notes) = velocity(None, &[lora(name, 1.0)]);
        close(&made, wanted, BAR, name);
        let effect = relative_l2(&without, wanted);
        assert!(effect > 1e-2, "{name}: without {effect:e}");
        let left =
            if name == "comfy" { "1 fit nothing and are left out, `text_encoders.t5" } else { "all of them fit" };
        assert!(notes.len() == 1 && notes[0].contains(left), "{name}: {notes:?}");
    }
}

#[test]
fn a_branch_over_packed_weights_is_the_same_as_merged_ones() {
    // In f32 the numbers of the BF16 file are dense; as they are stored they are packed.
    let both = [lora("peft", 0.7), lora("comfy", -0.4)];
    let (packed, _) = velocity(Some("packed/transformer-BF16.gguf"), &both);
    let widened = tempfile::tempdir().unwrap();
    let path = widened.path().join("wide.safetensors");
    widen("layouts/packed/transformer-BF16.gguf", &path);
    let mut model = Model::open(&fixture("layouts/diffusers")).unwrap();
    model.replace("transformer", &path).unwrap();
    both.iter().for_each(|lora| model.adapt(lora).unwrap());
    let part = model.component("transformer").unwrap();
    let weights = part.weights(&device(), DType::F32).unwrap();
    let network = Transformer::load(&weights, &part.config::<Config>().unwrap()).unwrap();
    let inputs = tensors("layouts/packed/reference.safetensors");
    let merged = network.forward(&inputs["latents"], &[500.0], &inputs["text"]).unwrap();
    close(&packed, &merged, BAR, "a branch beside packed weights");
}

/// Writes every tensor of a file in f32, under the same names.
fn widen(from: &str, to: &std::path::Path) {
    let weights = talkie::weights::Weights::open(&[fixture(from)], &device(), DType::F32).unwrap();
    let wide = |(name, shape): (String, Vec<usize>)| {
        let tensor = weights.f32(&name, shape).unwrap();
        (name, tensor)
    };
    let wide: std::collections::HashMap<String, Tensor> = weights.shapes().map(wide).collect();
    candle_core::safetensors::save(&wide, to).unwrap();
}

#[test]
fn several_add_up_and_none_at_all_is_nothing() {
    let (without, _) = velocity(None, &[]);
    let (nothing, _) = velocity(None, &[lora("peft", 0.0)]);
    assert_eq!(relative_l2(&nothing, &without), 0.0);
    let (back, _) = velocity(None, &[lora("peft", 0.6), lora("kohya", 1.0), lora("peft", -0.6), lora("kohya", -1.0)]);
    close(&back, &without, BAR, "added and taken away");
}

#[test]
fn the_command_adds_them_and_says_so_in_the_recipe() {
    let bench = Bench::new("layouts/diffusers");
    copy(&fixture("loras"), &bench.path("loras"));
    let done = bench.generate(&[
        "--lora",
        "loras/peft.safetensors:0.5",
        "--lora",
        "loras/kohya.safetensors",
        "-o",
        "out/film/",
    ]);
    done.worked(&["LoRA peft.safetensors at 0.5", "LoRA kohya.safetensors at 1"]);
    let recipe: Value = serde_json::from_slice(&std::fs::read(bench.path("out/film/recipe.json")).unwrap()).unwrap();
    assert_eq!(recipe["loras"][0]["name"], "peft.safetensors");
    assert_eq!(recipe["loras"][0]["strength"], 0.5);
    assert_eq!(recipe["loras"][1]["sha256"].as_str().map(str::len), Some(64));
}

#[test]
fn a_film_is_planned_before_its_model_is_here() {
    let bench = Bench::new("layouts/diffusers");
    copy(&fixture("loras"), &bench.path("loras"));
    let plan = [
        "generate",
        "a fox",
        "-m",
        "wan2.2-t2v-a14b",
        "--lora",
        "loras/high-noise.safetensors",
        "--memory",
        "900GB",
        "--plan",
    ];
    std::fs::copy(bench.path("loras/peft.safetensors"), bench.path("loras/high-noise.safetensors")).unwrap();
    let done = bench.run(&plan);
    done.worked(&[]);
    assert!(done.stdout.contains("LoRA high-noise.safetensors: whether it fits the `transformer` is seen"), "{done}");
    assert!(!done.stdout.contains("fits the `transformer_2`"), "it is for one of the two: {done}");
}

#[test]
fn what_does_not_fit_is_refused_with_a_reason() {
    let bench = Bench::new("layouts/diffusers");
    copy(&fixture("loras"), &bench.path("loras"));
    let refused = |name: &str, code: i32, words: &[&str]| {
        bench.generate(&["--lora", &format!("loras/{name}")]).refused(code, words);
    };
    refused("other-size.safetensors", 1, &["blocks.0.attn1.to_q", "[32, 32]", "another model"]);
    refused("other-model.safetensors", 1, &["none of the 1 tensors", "single_blocks"]);
    refused("loha.safetensors", 1, &["a LoHa", "LoRA"]);
    refused("absent.safetensors", 1, &["cannot open", "absent.safetensors"]);
    refused("peft.safetensors:nan", 2, &["FILE:STRENGTH"]);
}

#[test]
fn an_expert_is_named_by_words_not_by_letters() {
    let of = |name: &str| Expert::named(std::path::Path::new(name));
    for both in [
        "slow-motion",
        "yellow_dress",
        "glow",
        "flowers",
        "highlander",
        "HighContrast",
        "below_zero",
        "style",
        "high_and_low",
    ] {
        assert_eq!(of(&format!("{both}.safetensors")), None, "{both}");
    }
    for high in ["style_high_noise", "style-HIGH", "wan2.2_highnoise_v1", "style.high", "style HN"] {
        assert_eq!(of(&format!("{high}.safetensors")), Some(Expert::High), "{high}");
    }
    for low in ["T2V-LOW", "low_noise_model", "a/high/style_low", "style_LN"] {
        assert_eq!(of(&format!("{low}.safetensors")), Some(Expert::Low), "{low}");
    }
    let slow = Adapter { path: "slow-motion.safetensors".into(), strength: 1.0, expert: None };
    assert!(slow.is_for("transformer") && slow.is_for("transformer_2") && !slow.is_for("vae"));
    // And it may be said.
    let parsed = |text: &str| text.parse::<Adapter>().expect(text);
    assert_eq!(parsed("slow.safetensors:0.5@low").expert, Some(Expert::Low));
    assert_eq!(
        parsed("slow.safetensors@high"),
        Adapter { path: "slow.safetensors".into(), strength: 1.0, expert: Some(Expert::High) }
    );
    let said = Adapter { expert: Some(Expert::High), ..parsed("style_low.safetensors") };
    assert!(said.is_for("transformer") && !said.is_for("transformer_2"));
}
