//! What cuDNN and the compiler of kernels say without a card.

use std::fs;

use talkie::compute::kernels::cuda::{self, cudnn};

use crate::support::fixture;

/// A card as cuDNN describes one, made from what NVIDIA says of the H200.
fn h200() -> String {
    fs::read_to_string(fixture("cuda/h200.json")).expect("a description")
}

#[test]
fn cudnn_has_plans_for_the_shapes_of_films() {
    let plans = cudnn::rehearse(&h200()).expect("a description that cuDNN understands");
    assert!(plans.len() > 8, "{} plans", plans.len());
    for (name, plan) in plans {
        match plan {
            Ok(workspace) => println!("{name}: a plan, {workspace} bytes of workspace"),
            // The kernel was chosen and compiled, and there is no driver that would take it.
            Err(error) if error.to_string().contains("cuLibraryLoadData") => println!("{name}: a plan, compiled"),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[test]
fn a_card_that_is_none_is_refused() {
    assert!(cudnn::rehearse("{}").is_err());
    assert!(cudnn::rehearse("no JSON at all").is_err());
}

#[test]
fn kernels_compile_for_every_type() {
    let program = cuda::program().expect("kernels that compile");
    let names =
        ["norm_modulate", "norm_rope", "gate_add", "channel_norm", "widen_bytes", "widen_blocks", "largest", "to_e4m3"];
    for (name, kind) in names.iter().flat_map(|name| ["f32", "bf16", "f16"].map(|kind| (name, kind))) {
        assert!(program.contains(&format!(".entry {name}_{kind}(")), "no kernel {name}_{kind}");
    }
}
