//! The whole pipeline against diffusers' frames, from the prompt to the PNG, by the command itself.

use std::process::Command;

use serde_json::Value;

use crate::support::frames::{Near, same_frames};
use crate::support::pipeline::{self, text};
use crate::support::{close, fixture};

/// Measured: 1.2e-5, plain 1.7e-5.
const LATENTS: f64 = 4e-5;

/// Measured: one level, of 1.1e-3 of the values, plain of 2.5e-3.
const FRAMES: Near = Near { levels: 1, differing: 5e-3, stride: 1 };

/// What Wan samples with.
fn sample(command: &mut Command, case: &Value) {
    for (key, flag) in [("guidance", "--guidance"), ("flow_shift", "--flow-shift")] {
        command.args([flag, &case[key].to_string()]);
    }
    command.args(["--sampler", text(case, "sampler")]);
    if let Some(second) = case["guidance_2"].as_f64() {
        command.args(["--set", &format!("guidance_2={second}")]);
    }
}

fn check(folder: &str) {
    pipeline::check(folder, &fixture(folder), sample, |made| {
        close(&made.latents["video"], made.reference("latents"), LATENTS, &format!("{} latents", made.name));
        same_frames(&made.frames, FRAMES, made.reference("frames"), &made.name);
    });
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
