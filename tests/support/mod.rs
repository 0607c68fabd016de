//! What the tests share: fixtures and the measure of closeness.

pub mod command;
pub mod frames;
pub mod golden;
pub mod pipeline;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{DType, Device, Tensor};
use proptest::prelude::ProptestConfig;
use talkie::progress::quiet;
use talkie::{Budget, Machine, ModelChoice, Session};

/// So many cases of a property, or `TALKIE_TEST_TIMES` as many.
pub fn cases(cases: u32) -> ProptestConfig {
    let times = std::env::var("TALKIE_TEST_TIMES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    ProptestConfig { cases: cases * times, failure_persistence: None, ..ProptestConfig::default() }
}

/// A file or folder under `tests/fixtures`.
pub fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

/// Where the arithmetic under test is done: on the processor, or where `TALKIE_TEST_DEVICE` says (`cuda`).
pub fn device() -> Device {
    talkie::compute::device::open(&device_name()).expect("TALKIE_TEST_DEVICE")
}

fn device_name() -> String {
    std::env::var("TALKIE_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned())
}

/// Has a command compute on `device()`, in the type that the references have.
pub fn on_device(command: &mut Command) {
    command.args(["--device", &device_name(), "--dtype", "f32"]);
}

/// Every tensor of a safetensors file under `tests/fixtures`.
pub fn tensors(path: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture(path), &device()).expect(path)
}

/// `‖a − b‖ / ‖b‖`, in f64: how far `a` is from the reference `b`.
pub fn relative_l2(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims(), "shapes");
    let flat = |x: &Tensor| {
        x.to_dtype(DType::F64).and_then(|x| x.flatten_all()).and_then(|x| x.to_vec1::<f64>()).expect("numbers")
    };
    let (a, b) = (flat(a), flat(b));
    let difference: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
    (difference / b.iter().map(|b| b.powi(2)).sum::<f64>().max(f64::MIN_POSITIVE)).sqrt()
}

/// What was held on a card, where the sums run in an order of its own: no bar is below that there.
const ON_A_CARD: f64 = 1e-5;

/// Holds `made` against the reference: no further than `bar` in relative L2. Says how far it is, for whoever sets a bar.
///
/// A bar is about three times of what was measured on a processor with AVX-512 and AMX, and at least twice of what was measured
/// there with `TALKIE_PLAIN=1`; both stand beside it, in this order. With AVX2 alone (QEMU's `Haswell`) sums run in another order,
/// and come as close.
#[track_caller]
pub fn close(made: &Tensor, reference: &Tensor, bar: f64, what: &str) {
    let bar = if made.device().is_cpu() { bar } else { bar.max(ON_A_CARD) };
    let error = relative_l2(made, reference);
    println!("parity {what}: {error:.1e} of {bar:.0e}");
    assert!(error <= bar, "{what}: relative L2 {error:e}, and {bar:e} is allowed");
}

/// `reference.json` of a fixture folder.
pub fn reference(folder: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(fixture(folder).join("reference.json")).expect(folder);
    serde_json::from_str(&text).expect("JSON")
}

/// Text embeddings (1, rows, width) as the reference had them: 512 rows, those that are not kept zero.
pub fn padded(rows: &Tensor, json: &serde_json::Value, key: &str) -> Tensor {
    let kept = json["rows"][key].as_u64().map_or(rows.dim(1).unwrap(), |kept| kept as usize);
    let rows = rows.to_dtype(DType::F32).unwrap().narrow(1, 0, kept).unwrap();
    rows.pad_with_zeros(1, 0, 512 - kept).unwrap()
}

/// The weights of a fixture.
pub fn choice(name: &str) -> ModelChoice {
    ModelChoice { model: Some(fixture(name).to_string_lossy().into_owned()), ..ModelChoice::default() }
}

/// This machine with a home in a folder of the test's.
pub fn machine(home: &Path) -> Machine {
    Machine::here().with_home(home)
}

/// A session of some weights that keeps nothing, with a home of the test's.
#[track_caller]
pub fn session(choice: &ModelChoice, home: &Path) -> Session {
    Session::open_on(machine(home), choice, Budget::Nothing, &mut quiet).expect("a session")
}

/// The steps of every phase of a plan in JSON.
pub fn steps(plan: &serde_json::Value) -> Vec<serde_json::Value> {
    let phases = plan["phases"].as_array().expect("phases");
    phases.iter().flat_map(|phase| phase["steps"].as_array().expect("steps").clone()).collect()
}
