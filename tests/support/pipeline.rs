//! The cases of a `reference.json` through the whole pipeline, by the command itself, as both families need it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::Tensor;
use serde_json::Value;

use super::{device, on_device, reference, tensors};

/// A string of JSON.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no `{key}`"))
}

/// What the command made of one case.
pub struct Made<'a> {
    /// The case, for messages: `folder/case`.
    pub name: String,
    /// The folder of the frames.
    pub frames: PathBuf,
    /// The latents before decoding, by name.
    pub latents: HashMap<String, Tensor>,
    /// The reference's tensors, of all cases.
    references: &'a HashMap<String, Tensor>,
    /// How the names of this case's references begin.
    prefix: String,
}

impl Made<'_> {
    /// What the reference has under a name.
    pub fn reference(&self, name: &str) -> &Tensor {
        &self.references[&format!("{}{name}", self.prefix)]
    }
}

/// The command line of a case, as far as it is the same for every family.
fn command(model: &Path, json: &Value, case: &Value) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_talkie"));
    command.args(["generate", text(&json["prompts"], text(case, "prompt")), "-m"]).arg(model);
    on_device(&mut command);
    if let Some(negative) = case["negative_prompt"].as_str() {
        command.args(["--negative", text(&json["prompts"], negative)]);
    }
    for key in ["seed", "steps", "frames"] {
        command.args([format!("--{key}"), case[key].to_string()]);
    }
    command.args(["--size", &format!("{}x{}", case["width"], case["height"])]);
    if let Some(image) = case["image"].as_str() {
        command.arg("--image").arg(model.join(image));
    }
    command
}

/// Makes the film of every case of `folder`, whose references are of `model`. `sample` adds what its family samples with, and
/// `compare` holds what was made against the reference.
pub fn check(folder: &str, model: &Path, sample: fn(&mut Command, &Value), compare: impl Fn(&Made<'_>)) {
    let (json, references) = (reference(folder), tensors(&format!("{folder}/reference.safetensors")));
    let home = tempfile::tempdir().unwrap();
    let cases = json["cases"].as_array().expect("cases");
    assert!(!cases.is_empty(), "{folder} has no case");
    for case in cases {
        let (case_name, name) = (text(case, "name"), format!("{folder}/{}", text(case, "name")));
        let (frames, latents) = (home.path().join(case_name), home.path().join(format!("{case_name}.safetensors")));
        let mut command = command(model, &json, case);
        sample(&mut command, case);
        command.env("TALKIE_HOME", home.path()).arg("-o").arg(&frames).arg("--save-latents").arg(&latents);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let latents = candle_core::safetensors::load(&latents, &device()).unwrap();
        compare(&Made { name, frames, latents, references: &references, prefix: format!("pipeline.{case_name}.") });
    }
}
