//! Forwards of the LTX-2 transformer against diffusers, for each release and each pass that guidance makes.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use talkie::ltx::config::Config;
use talkie::ltx::pack;
use talkie::ltx::positions::{Grid, Positions};
use talkie::ltx::transformer::{Inputs, Pass, Timesteps, Transformer};
use talkie::weights::Weights;

use crate::support::{fixture, reference, relative_l2, tensors};

/// The bar for float32 on a CPU.
const BAR: f64 = 1e-5;

/// A network, what it is given, and what diffusers makes of it.
struct Case {
    name: &'static str,
    network: Transformer,
    positions: Positions,
    expected: HashMap<String, Tensor>,
    json: serde_json::Value,
}

impl Case {
    fn open(name: &'static str) -> Self {
        let model = talkie::model::Model::open(&fixture(name)).expect(name);
        let part = model.component("transformer").expect("transformer");
        let config: Config = part.config().expect("config");
        let weights = Weights::open(&part.paths(), &Device::Cpu, DType::F32).expect("weights");
        let json = reference(name)["transformer"].clone();
        let size = |key: &str| json[key].as_u64().expect(key) as usize;
        let grid = Grid {
            video: [size("num_frames"), size("height"), size("width")],
            fps: json["fps"].as_f64().expect("fps"),
            audio: size("audio_num_frames"),
        };
        Self {
            name,
            network: Transformer::load(&weights, &config).expect("a transformer"),
            positions: Positions::new(&config, &grid, &Device::Cpu).expect("positions"),
            expected: tensors(&format!("{name}/reference.safetensors")),
            json,
        }
    }

    fn get(&self, key: &str) -> &Tensor {
        &self.expected[&format!("transformer.{key}")]
    }

    fn numbers(&self, key: &str) -> Vec<f64> {
        self.get(key).to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    /// The pass that the reference calls `key`, with the timesteps `video`.
    fn forward(&self, video: &[f64], pass: &Pass) -> [Tensor; 2] {
        let sigma = self.numbers("sigma")[0];
        let inputs = Inputs {
            video: self.get("hidden_states"),
            audio: self.get("audio_hidden_states"),
            video_text: self.get("encoder_hidden_states"),
            audio_text: self.get("audio_encoder_hidden_states"),
            text_mask: None,
            timesteps: Timesteps { video, audio: &[sigma], sigma, audio_sigma: sigma },
            positions: &self.positions,
        };
        self.network.forward(&inputs, pass).expect("forward").into()
    }

    fn check(&self, key: &str, video: &[f64], pass: &Pass) -> [Tensor; 2] {
        let output = self.forward(video, pass);
        for (output, stream) in output.iter().zip(["video", "audio"]) {
            let error = relative_l2(output, self.get(&format!("{key}.{stream}")));
            assert!(error <= BAR, "{}, {key}, {stream}: relative L2 {error:e}", self.name);
        }
        output
    }
}

fn check(name: &'static str) {
    let case = Case::open(name);
    let cross_timestep = case.json["use_cross_timestep"].as_bool().expect("use_cross_timestep");
    let blocks: Vec<usize> =
        case.json["stg_blocks"].as_array().unwrap().iter().map(|block| block.as_u64().unwrap() as usize).collect();
    let sigma = case.numbers("sigma");
    let pass = Pass { cross_timestep, ..Pass::default() };
    let plain = case.check("plain", &sigma, &pass);
    let others = [
        case.check("per_token", &case.numbers("per_token.timestep"), &pass),
        case.check("stg", &sigma, &Pass { stg_blocks: &blocks, ..pass }),
        case.check("isolated", &sigma, &Pass { isolate: true, ..pass }),
    ];
    // So that the fixture proves something: each pass has to answer in its own way.
    let perturbed = case.network.config().perturbed_attn;
    for (other, differs) in others.iter().zip([true, perturbed, true]) {
        for (other, plain) in other.iter().zip(&plain) {
            assert_eq!(relative_l2(other, plain) > 1e-4, differs, "{name}: a pass like the plain one, or unlike it");
        }
    }
    // A time for each token is the time of all of them where it is the same.
    let each = vec![sigma[0]; case.get("hidden_states").dim(1).unwrap()];
    assert_eq!(relative_l2(&case.forward(&each, &pass)[0], &plain[0]), 0.0);
}

#[test]
fn ltx_2_0_forwards() {
    check("ltx2");
}

#[test]
fn ltx_2_3_forwards() {
    check("ltx23");
}

#[test]
fn ltx_parameters_are_those_of_the_files() {
    for name in ["ltx2", "ltx23"] {
        let model = talkie::model::Model::open(&fixture(name)).expect(name);
        let part = model.component("transformer").expect("transformer");
        let config: Config = part.config().expect("config");
        let weights = Weights::open(&part.paths(), &Device::Cpu, DType::F32).expect("weights");
        let stored: usize = weights.shapes().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert_eq!(config.parameters(), stored as u64, "{name}");
    }
}
