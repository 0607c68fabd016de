//! The whole pipeline against diffusers' frames, from the prompt to the PNG, by the command itself.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::frames::same_frames;
use crate::support::{device, fixture, on_device, reference, relative_l2, tensors};

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no `{key}`"))
}

/// The command line of a case of `reference.json`.
fn command(folder: &str, json: &Value, case: &Value, frames: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_talkie"));
    let prompt = text(&json["prompts"], text(case, "prompt"));
    command.args(["generate", prompt, "-m"]).arg(fixture(folder)).arg("-o").arg(frames);
    on_device(&mut command);
    if let Some(negative) = case["negative_prompt"].as_str() {
        command.args(["--negative", text(&json["prompts"], negative)]);
    }
    let numbers = [("seed", "--seed"), ("steps", "--steps"), ("guidance", "--guidance"), ("frames", "--frames")];
    for (key, flag) in numbers.into_iter().chain([("flow_shift", "--flow-shift")]) {
        command.args([flag, &case[key].to_string()]);
    }
    command.args(["--sampler", text(case, "sampler"), "--size", &format!("{}x{}", case["width"], case["height"])]);
    if let Some(second) = case["guidance_2"].as_f64() {
        command.args(["--set", &format!("guidance_2={second}")]);
    }
    if let Some(image) = case["image"].as_str() {
        command.arg("--image").arg(fixture(folder).join(image));
    }
    command
}

fn check(folder: &str) {
    let json = reference(folder);
    let expected = tensors(&format!("{folder}/reference.safetensors"));
    let home = tempfile::tempdir().unwrap();
    for case in json["cases"].as_array().expect("cases") {
        let name = text(case, "name");
        let frames = home.path().join(format!("{name}/"));
        let latents = home.path().join(format!("{name}.safetensors"));
        let output = command(folder, &json, case, &frames)
            .env("TALKIE_HOME", home.path())
            .arg("--save-latents")
            .arg(&latents)
            .output()
            .unwrap();
        assert!(output.status.success(), "{folder}/{name}: {}", String::from_utf8_lossy(&output.stderr));
        let made = candle_core::safetensors::load(&latents, &device()).unwrap();
        let error = relative_l2(&made["video"], &expected[&format!("pipeline.{name}.latents")]);
        assert!(error < 1e-3, "{folder}/{name}: latents {error:e}");
        same_frames(&frames, 1, &expected[&format!("pipeline.{name}.frames")], &format!("{folder}/{name}"));
    }
}

#[test]
fn wan21_t2v() {
    check("wan21-t2v");
}

#[test]
fn wan22_t2v_across_the_expert_switch() {
    check("wan22-a14b");
}

#[test]
fn wan22_ti2v_with_and_without_image() {
    check("wan22-ti2v-5b");
}

#[test]
fn wan22_i2v() {
    check("wan22-i2v-a14b");
}
