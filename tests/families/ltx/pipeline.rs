//! The whole LTX-2 pipeline against diffusers' frames and sound, from the prompt to the files, by the command itself.

use std::path::Path;
use std::process::Command;

use candle_core::{DType, Tensor};
use serde_json::Value;

use crate::support::frames::same_frames;
use crate::support::{device, fixture, on_device, reference, relative_l2, tensors};

/// The reference keeps every so many rows and columns of a frame, and samples of a waveform.
const FRAME_STRIDE: usize = 3;
const SOUND_STRIDE: usize = 7;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no `{key}`"))
}

/// The command line of a case of `reference.json`.
fn command(model: &Path, json: &Value, case: &Value) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_talkie"));
    command.args(["generate", text(&json["prompts"], text(case, "prompt")), "-m"]).arg(model);
    on_device(&mut command);
    if let Some(negative) = case["negative_prompt"].as_str() {
        command.args(["--negative", text(&json["prompts"], negative)]);
    }
    for key in ["seed", "steps", "frames", "fps"] {
        command.args([format!("--{key}"), case[key].to_string()]);
    }
    command.args(["--size", &format!("{}x{}", case["width"], case["height"])]);
    command.args(["--guidance", &case["video"]["text"].to_string()]);
    let mut set = |key: &str, value: &Value| {
        command.args(["--set", &format!("{key}={}", value.to_string().trim_matches(['[', ']']))]);
    };
    set("audio_guidance", &case["audio"]["text"]);
    set("cross_timestep", &case["use_cross_timestep"]);
    set("image_crf", &Value::from(0));
    for (key, name) in [("stg", "stg_scale"), ("modality", "modality_scale"), ("rescale", "rescale")] {
        set(name, &case["video"][key]);
        set(&format!("audio_{name}"), &case["audio"][key]);
    }
    if case["stg_blocks"].is_array() {
        set("stg_blocks", &case["stg_blocks"]);
    }
    if case["sigmas_2"].is_array() {
        command.args(["--preset", "distilled"]);
    }
    if let Some(image) = case["image"].as_str() {
        command.arg("--image").arg(model.join(image));
    }
    command
}

/// Samples of a WAV file of 32-bit numbers, a channel after the other.
fn sound(path: &Path) -> Vec<Vec<f32>> {
    let data = std::fs::read(path).unwrap();
    let channels = usize::from(u16::from_le_bytes([data[22], data[23]]));
    let start = data.windows(4).position(|word| word == b"data").unwrap() + 8;
    let samples: Vec<f32> = data[start..].chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect();
    (0..channels).map(|c| samples.iter().skip(c).step_by(channels).copied().collect()).collect()
}

/// The sound in the file against the reference's, as far as both go.
fn compare_sound(path: &Path, expected: &Tensor, name: &str) {
    let made = sound(path);
    let expected: Vec<Vec<f32>> = expected.squeeze(0).unwrap().to_vec2().unwrap();
    assert_eq!(made.len(), expected.len(), "{name}: channels");
    let made: Vec<Vec<f32>> =
        made.iter().map(|channel| channel.iter().step_by(SOUND_STRIDE).copied().collect()).collect();
    let length = made[0].len().min(expected[0].len());
    assert!(length > 100, "{name}: only {length} samples to compare");
    let tensor = |all: &[Vec<f32>]| {
        let cut: Vec<f32> = all.iter().flat_map(|channel| channel[..length].to_vec()).collect();
        Tensor::from_vec(cut, (all.len(), length), &device()).unwrap()
    };
    let error = relative_l2(&tensor(&made), &tensor(&expected));
    assert!(error < 3e-4, "{name}: waveform {error:e}");
}

/// Latents as the reference hands them out: un-normalised.
fn unnormalised(model: &Path, part: &str, latents: &Tensor) -> Tensor {
    let path = model.join(part).join("diffusion_pytorch_model.safetensors");
    let stored = candle_core::safetensors::load(path, &device()).unwrap();
    let of = |name: &str| {
        let values = stored[name].to_dtype(DType::F32).unwrap();
        if latents.rank() == 5 {
            values.reshape((1, (), 1, 1, 1)).unwrap()
        } else {
            values.reshape((1, 1, ())).unwrap()
        }
    };
    let latents = latents.broadcast_mul(&of("latents_std")).unwrap().broadcast_add(&of("latents_mean")).unwrap();
    if latents.rank() == 5 {
        return latents;
    }
    let (_, length, width) = latents.dims3().unwrap();
    latents.reshape((1, length, 2, width / 2)).unwrap().transpose(1, 2).unwrap().contiguous().unwrap()
}

/// The model of a fixture, which lies beside its reference.
fn check(folder: &str) {
    check_model(folder, &fixture(folder));
}

fn check_model(folder: &str, model: &Path) {
    let json = reference(folder);
    let expected = tensors(&format!("{folder}/reference.safetensors"));
    let home = tempfile::tempdir().unwrap();
    for case in json["cases"].as_array().expect("cases") {
        let name = text(case, "name");
        let frames = home.path().join(format!("{name}/"));
        let kept = home.path().join(format!("{name}.safetensors"));
        let mut command = command(model, &json, case);
        command.env("TALKIE_HOME", home.path()).arg("-o").arg(&frames).arg("--save-latents").arg(&kept);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{folder}/{name}: {}", String::from_utf8_lossy(&output.stderr));
        let made = candle_core::safetensors::load(&kept, &device()).unwrap();
        for (part, key, wanted) in [("vae", "video", "latents"), ("audio_vae", "audio", "audio_latents")] {
            let error =
                relative_l2(&unnormalised(model, part, &made[key]), &expected[&format!("pipeline.{name}.{wanted}")]);
            assert!(error < 1e-4, "{folder}/{name}: {key} latents {error:e}");
        }
        same_frames(&frames, FRAME_STRIDE, &expected[&format!("pipeline.{name}.frames")], &format!("{folder}/{name}"));
        compare_sound(&frames.join("audio.wav"), &expected[&format!("pipeline.{name}.waveform")], name);
    }
}

#[test]
fn of_2_0() {
    check("ltx2");
}

#[test]
fn of_2_3() {
    check("ltx23");
}

/// The shape of the model in the box: an autoencoder that compresses less, positions of its own, connectors without blocks.
#[test]
fn of_the_toybox() {
    check("ltx2-toybox");
}

/// The trained weights of the model in the box, with its own defaults.
#[test]
fn of_the_model_in_the_box() {
    check_model("toybox", &Path::new(env!("CARGO_MANIFEST_DIR")).join("models/toybox"));
}
