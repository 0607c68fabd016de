//! Runs to go on with that are not there, or not what they were.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::command::{Bench, Done, floats, write_tensors, write_tensors_with};

#[test]
fn a_run_that_is_not_there_is_named() {
    let bench = Bench::new("wan21-t2v");
    bench.run(&["resume"]).refused(1, &["no unfinished run"]);
    bench.run(&["resume", "yesterday"]).refused(2, &["no run", "yesterday", "talkie generate"]);
    let (run, _) = stopped(&bench);
    bench.run(&["resume", "yesterday"]).refused(2, &["no run", "yesterday", &run]);
    bench.run(&["resume", "model"]).refused(2, &["no run"]);
    fs::remove_file(bench.path("home/runs").join(&run).join("plan.json")).expect("a plan");
    bench.run(&["resume", &run]).refused(1, &["stopped before its plan was written", &run]);
    bench.run(&["resume"]).refused(1, &["no unfinished run"]);
}

/// A run whose latents are done and whose film is not: its name and its folder.
fn stopped(bench: &Bench) -> (String, PathBuf) {
    let vae = bench.path("model/vae/diffusion_pytorch_model.safetensors");
    let whole = fs::read(&vae).expect("an autoencoder");
    bench.poison("model/vae/diffusion_pytorch_model.safetensors", "decoder.conv_out.bias", f32::NAN);
    bench.generate(&[]).refused(1, &["not numbers"]);
    fs::write(vae, whole).expect("an autoencoder");
    let runs = bench.runs();
    let run = runs.first().expect("a run").clone();
    let folder = bench.path("home/runs").join(&run);
    (run, folder)
}

fn refused_without_a_trace(bench: &Bench, words: &[&str]) -> Done {
    let done = bench.run(&["resume"]);
    done.refused(1, words);
    assert_eq!(bench.left(), [""; 0], "{done}");
    done
}

#[test]
fn a_plan_that_is_damaged_is_refused() {
    let bench = Bench::new("wan21-t2v");
    let (_, folder) = stopped(&bench);
    let path = folder.join("plan.json");
    let whole = fs::read(&path).expect("a plan");
    for text in [&whole[..whole.len() / 2], b"", b"[]", b"{}", b"\xff\xfe", "[".repeat(100_000).as_bytes()] {
        fs::write(&path, text).expect("a plan");
        refused_without_a_trace(&bench, &["plan", "talkie generate"]);
    }
    let table: &[(&str, Value)] = &[
        ("/shape/width", json!(0)),
        ("/shape/height", json!(1e15 as u64)),
        ("/shape/frames", json!(0)),
        ("/shape/latents", json!([1, 16, 1_u64 << 40, 1_u64 << 40, 1])),
        ("/shape/latents/2", json!(0)),
        ("/shape/tokens", json!(u64::MAX)),
        ("/phases/0/steps", json!([])),
        ("/phases/0/steps/0/expert", json!(7)),
        ("/phases/0/steps/0/sigma", json!(null)),
        ("/phases/0/steps/0/sigma", json!(-1.0)),
        ("/text_length", json!(0)),
        ("/text_length", json!(u64::MAX)),
        ("/tiling", json!({"min_height": 8, "min_width": 8, "stride_height": 0, "stride_width": 0})),
        ("/sampling/order", json!(0)),
        ("/sampling/sampler", json!("foo")),
        ("/fps", json!(0)),
        ("/device", json!("gpu")),
        ("/choice/model", json!(null)),
    ];
    for (pointer, value) in table {
        let mut plan: Value = serde_json::from_slice(&whole).expect("a plan");
        *plan.pointer_mut(pointer).expect(pointer) = value.clone();
        fs::write(&path, plan.to_string()).expect("a plan");
        fs::remove_file(folder.join("latents.safetensors")).or_else(|_| fs::metadata(&path).map(drop)).expect("a file");
        println!("{pointer} = {value}");
        let done = bench.run(&["resume"]);
        assert!(matches!(done.code, Some(1 | 2)), "{done}");
        done.refused(done.code.expect("a code"), &[]);
        assert_eq!(bench.left(), [""; 0], "{done}");
    }
}

#[test]
fn a_state_that_is_damaged_is_refused_and_can_be_removed() {
    let bench = Bench::new("wan21-t2v");
    let (_, folder) = stopped(&bench);
    fs::remove_file(folder.join("latents.safetensors")).expect("latents");
    for name in ["state.safetensors", "conditioning.safetensors"] {
        let path = folder.join(name);
        let whole = fs::read(&path).expect(name);
        for part in [&whole[..whole.len() - 1], &whole[..100], b"", b"text and more text"] {
            fs::write(&path, part).expect(name);
            refused_without_a_trace(&bench, &["a file of the run is damaged", name, "rm "]);
        }
        // Tensors, but not these.
        write_tensors(&path, &[("other".to_owned(), floats(&[2, 2], |_| 0.0))].into());
        refused_without_a_trace(&bench, &[]);
        fs::write(&path, &whole).expect(name);
    }
    // Of another shape, or not numbers.
    let state = folder.join("state.safetensors");
    for latents in [floats(&[1, 16, 9, 9, 9], |_| 0.0), floats(&[1], |_| 0.0), floats(&[1, 16, 2, 4, 4], |_| f32::NAN)]
    {
        let metadata = [("next".to_owned(), "1".to_owned())].into();
        let others = ["x0.0", "x0.1", "last_sample"].map(|name| (name.to_owned(), latents.clone()));
        let tensors = others.into_iter().chain([("latents".to_owned(), latents)]).collect();
        write_tensors_with(&state, &tensors, Some(metadata));
        refused_without_a_trace(&bench, &[]);
    }
    // What is removed is computed again, and ends in the same film.
    fs::remove_file(&state).expect("a state");
    fs::remove_file(folder.join("conditioning.safetensors")).expect("a conditioning");
    bench.run(&["resume"]).worked(&["going on"]);
    let again = Bench::new("wan21-t2v");
    again.generate(&[]).worked(&[]);
    let frame = |bench: &Bench| fs::read(bench.path("out/film/frame-00004.png")).expect("a frame");
    assert!(frame(&bench) == frame(&again));
}

#[test]
fn latents_of_a_run_that_are_damaged_are_refused() {
    let bench = Bench::new("wan21-t2v");
    let (_, folder) = stopped(&bench);
    let path = folder.join("latents.safetensors");
    let whole = fs::read(&path).expect("latents");
    fs::write(&path, &whole[..whole.len() - 4]).expect("latents");
    refused_without_a_trace(&bench, &["a file of the run is damaged", "latents.safetensors"]);
    for video in [
        floats(&[1, 16, 2, 4, 5], |_| 0.0),
        floats(&[1, 7, 2, 4, 4], |_| 0.0),
        floats(&[1, 16, 2, 4, 4], |_| f32::INFINITY),
    ] {
        write_tensors(&path, &[("video".to_owned(), video)].into());
        refused_without_a_trace(&bench, &[]);
    }
    fs::write(&path, &whole).expect("latents");
    bench.run(&["resume"]).worked(&[]);
    assert_eq!(bench.left(), ["film"]);
}
