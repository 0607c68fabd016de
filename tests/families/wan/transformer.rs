//! One forward of the transformer against diffusers, for every variant.

use candle_core::{DType, Tensor};
use talkie::families::wan::config::Config;
use talkie::families::wan::transformer::Transformer;
use talkie::weights::Weights;

use crate::support::{close, device, padded, reference, relative_l2, tensors};

/// Measured: 3.7e-6, plain 5.1e-6.
const BAR: f64 = 1e-5;

fn check(folder: &str, name: &str) {
    let model = talkie::model::Model::open(&crate::support::fixture(folder)).expect(folder);
    let part = model.component(name).expect(name);
    let config: Config = part.config().expect("config");
    let weights = Weights::open(&part.paths(), &device(), DType::F32).expect("weights");
    let transformer = Transformer::load(&weights, &config).expect("transformer");
    let expected = tensors(&format!("{folder}/reference.safetensors"));
    let get = |key: &str| expected[&format!("{name}.{key}")].clone();
    let timesteps: Vec<f64> = get("timestep").to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let text = padded(&get("encoder_hidden_states"), &reference(folder), &format!("{name}.encoder_hidden_states"));
    let output = transformer.forward(&get("hidden_states"), &timesteps, &text).expect("forward");
    close(&output, &get("output"), BAR, &format!("{folder}/{name}"));
    // A network that answers the same to everything would pass nothing above, but so that the fixture proves something:
    let other = transformer.forward(&get("hidden_states"), &timesteps, &Tensor::zeros_like(&text).unwrap()).unwrap();
    assert!(relative_l2(&other, &output) > 1e-3, "{folder}/{name}: deaf to the prompt");
}

#[test]
fn wan21() {
    check("wan21-t2v", "transformer");
}

#[test]
fn wan22_experts() {
    check("wan22-a14b", "transformer");
    check("wan22-a14b", "transformer_2");
}

#[test]
fn wan22_ti2v_has_a_timestep_per_token() {
    check("wan22-ti2v-5b", "transformer");
}

#[test]
fn wan22_i2v_reads_mask_and_picture() {
    check("wan22-i2v-a14b", "transformer");
    check("wan22-i2v-a14b", "transformer_2");
}
