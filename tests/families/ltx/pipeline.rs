//! The whole LTX-2 pipeline against diffusers' frames and sound, from the prompt to the files, by the command itself.

use std::path::Path;
use std::process::Command;

use candle_core::{DType, Tensor};
use serde_json::Value;

use crate::support::frames::{Near, same_frames};
use crate::support::pipeline::{self, Made};
use crate::support::{close, device, fixture};

/// The reference keeps every so many samples of a waveform.
const SOUND_STRIDE: usize = 7;

/// How far a film may be from the reference's.
struct Bars {
    /// Relative L2 of the latents, of the pictures and of the sound.
    latents: f64,
    /// Relative L2 of the waveform.
    waveform: f64,
    /// The frames.
    frames: Near,
}

/// Measured: latents 3.7e-6, plain 3.6e-6; waveform 1.3e-5, 1.9e-5; one level, of 2.6e-4 of the values, 3.7e-4.
const RANDOM: Bars = Bars { latents: 1.1e-5, waveform: 4e-5, frames: Near { levels: 1, differing: 8e-4, stride: 3 } };

/// Measured: latents 4.9e-6, plain 5.2e-6; waveform 1.0e-5, 1.2e-5; no value another, one level of 4.2e-5.
const TRAINED: Bars =
    Bars { latents: 1.5e-5, waveform: 3e-5, frames: Near { levels: 1, differing: 1.5e-4, stride: 3 } };

/// What LTX-2 samples with.
fn sample(command: &mut Command, case: &Value) {
    command.args(["--fps", &case["fps"].to_string(), "--guidance", &case["video"]["text"].to_string()]);
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
fn compare_sound(made: &Made<'_>, bar: f64) {
    let (sound, name) = (sound(&made.frames.join("audio.wav")), &made.name);
    let expected: Vec<Vec<f32>> = made.reference("waveform").squeeze(0).unwrap().to_vec2().unwrap();
    assert_eq!(sound.len(), expected.len(), "{name}: channels");
    let sound: Vec<Vec<f32>> =
        sound.iter().map(|channel| channel.iter().step_by(SOUND_STRIDE).copied().collect()).collect();
    let length = sound[0].len().min(expected[0].len());
    assert!(length > 100, "{name}: only {length} samples to compare");
    let tensor = |all: &[Vec<f32>]| {
        let cut: Vec<f32> = all.iter().flat_map(|channel| channel[..length].to_vec()).collect();
        Tensor::from_vec(cut, (all.len(), length), &device()).unwrap()
    };
    close(&tensor(&sound), &tensor(&expected), bar, &format!("{name} waveform"));
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

fn check(folder: &str, model: &Path, bars: &Bars) {
    pipeline::check(folder, model, sample, |made| {
        for (part, key, wanted) in [("vae", "video", "latents"), ("audio_vae", "audio", "audio_latents")] {
            let latents = unnormalised(model, part, &made.latents[key]);
            close(&latents, made.reference(wanted), bars.latents, &format!("{} {key} latents", made.name));
        }
        same_frames(&made.frames, bars.frames, made.reference("frames"), &made.name);
        compare_sound(made, bars.waveform);
    });
}

#[test]
fn of_2_0() {
    check("ltx2", &fixture("ltx2"), &RANDOM);
}

#[test]
fn of_2_3() {
    check("ltx23", &fixture("ltx23"), &RANDOM);
}

/// The shape of the model in the box: an autoencoder that compresses less, positions of its own, connectors without blocks.
#[test]
fn of_the_toybox() {
    check("ltx2-toybox", &fixture("ltx2-toybox"), &RANDOM);
}

/// The trained weights of the model in the box, with its own defaults.
#[test]
fn of_the_model_in_the_box() {
    check("toybox", &Path::new(env!("CARGO_MANIFEST_DIR")).join("models/toybox"), &TRAINED);
}
