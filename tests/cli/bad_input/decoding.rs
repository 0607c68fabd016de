//! Files of latents and noise, and films that are asked for their recipe.

use std::fs;

use super::nothing_left;
use crate::support::command::{Bench, floats, write_tensors};

/// Writes latent files that are wrong, each in its own way, and says what their errors have to name.
fn wrong_latents(bench: &Bench) -> Vec<(&'static str, &'static [&'static str])> {
    let write = |name: &str, tensor: &str, shape: &[usize], value: fn(usize) -> f32| {
        write_tensors(&bench.path(name), &[(tensor.to_owned(), floats(shape, value))].into());
    };
    write("key", "latents", &[1, 16, 2, 4, 4], |_| 0.0);
    write("rank", "video", &[16, 2, 4, 4], |_| 0.0);
    write("films", "video", &[2, 16, 2, 4, 4], |_| 0.0);
    write("none", "video", &[1, 16, 0, 4, 4], |_| 0.0);
    write("nan", "video", &[1, 16, 2, 4, 4], |at| if at == 77 { f32::NAN } else { 0.0 });
    write("inf", "video", &[1, 16, 2, 4, 4], |at| if at == 77 { f32::NEG_INFINITY } else { 0.0 });
    fs::write(bench.path("text"), "no latents at all").expect("a file");
    fs::write(bench.path("empty"), "").expect("a file");
    vec![
        ("key", &["no tensor `video`", "key"]),
        ("rank", &["(1, C, T, H, W)", "rank"]),
        ("films", &["(1, C, T, H, W)", "films"]),
        ("none", &["(1, C, T, H, W)", "none"]),
        ("nan", &["not finite", "nan"]),
        ("inf", &["not finite", "inf"]),
        ("text", &["safetensors", "text"]),
        ("empty", &["safetensors", "empty"]),
        ("missing", &["cannot open", "missing"]),
        ("model", &["cannot open", "model"]),
    ]
}

#[test]
fn latents_that_this_model_did_not_make_are_refused() {
    let bench = Bench::new("wan21-t2v");
    let decode = |latents: &str, more: &[&str]| {
        bench.run(&[&["decode", latents, "-m", "model", "-o", "out/film"], more].concat())
    };
    for (name, words) in wrong_latents(&bench) {
        nothing_left(&bench, decode(name, &[]).refused(1, words));
    }
    write_tensors(&bench.path("other"), &[("video".to_owned(), floats(&[1, 48, 2, 4, 4], |_| 0.0))].into());
    nothing_left(&bench, decode("other", &[]).refused(1, &["48 channels", "have 16", "-m MODEL"]));
    write_tensors(&bench.path("wide"), &[("video".to_owned(), floats(&[1, 16, 1, 1, 4000], |_| 0.0))].into());
    nothing_left(&bench, decode("wide", &[]).refused(2, &["32000 pixels"]));
    write_tensors(&bench.path("long"), &[("video".to_owned(), floats(&[1, 16, 30_000, 2, 2], |_| 0.0))].into());
    nothing_left(&bench, decode("long", &[]).refused(2, &["119997 frames"]));
    write_tensors(
        &bench.path("whole"),
        &[("video".to_owned(), floats(&[1, 16, 2, 4, 4], |at| (at % 7) as f32))].into(),
    );
    for wrong in [
        ["--fps", "nan"],
        ["--fps", "0"],
        ["--memory", "0"],
        ["--set", "tile"],
        ["--set", "tile=7"],
        ["--device", "gpu"],
    ] {
        nothing_left(&bench, decode("whole", &wrong).refused(2, &[]));
    }
    nothing_left(&bench, decode("whole", &["--memory", "1MB"]).refused(1, &["memory", "1.0 MB"]));
    nothing_left(&bench, decode("whole", &["--vae", "text"]).refused(1, &["text"]));
    decode("whole", &["--set", "tile=16"]).worked(&[]);
}

#[test]
fn noise_that_does_not_fit_is_refused_before_anything_is_computed() {
    let bench = Bench::new("wan21-t2v");
    for (name, words) in wrong_latents(&bench) {
        nothing_left(&bench, bench.generate(&["--noise", name]).refused(1, words));
    }
    write_tensors(&bench.path("other"), &[("video".to_owned(), floats(&[1, 16, 2, 4, 5], |_| 0.0))].into());
    let done = bench.generate(&["--noise", "other"]);
    nothing_left(&bench, done.refused(2, &["[1, 16, 2, 4, 5]", "[1, 16, 2, 4, 4]", "--plan"]));
    assert_eq!(bench.runs(), [""; 0]);
    write_tensors(
        &bench.path("whole"),
        &[("video".to_owned(), floats(&[1, 16, 2, 4, 4], |at| (at % 7) as f32))].into(),
    );
    bench.generate(&["--noise", "whole"]).worked(&[]);
}

#[test]
fn what_has_no_recipe_says_so() {
    let bench = Bench::new("wan21-t2v");
    bench.generate(&[]).worked(&[]);
    bench.run(&["inspect", "out/film"]).worked(&[]);
    fs::create_dir(bench.path("frames")).expect("a folder");
    fs::copy(bench.path("out/film/frame-00000.png"), bench.path("frames/frame-00000.png")).expect("a frame");
    let none: &[&str] = &["no recipe", "editors and upload sites"];
    bench.run(&["inspect", "frames"]).refused(1, none);
    bench.run(&["inspect", "frames/frame-00000.png"]).refused(1, none);
    for text in ["", "{", "[]", "7", "{\"prompt\": \"of another program\"}", &"[".repeat(100_000)] {
        fs::write(bench.path("frames/recipe.json"), text).expect("a recipe");
        bench.run(&["inspect", "frames"]).refused(1, none);
    }
    fs::write(bench.path("frames/recipe.json"), b"\xff\xfe").expect("a recipe");
    bench.run(&["inspect", "frames"]).refused(1, &["cannot read the recipe"]);
    bench.run(&["inspect", "nowhere.mp4"]).refused(1, &["cannot open", "nowhere.mp4"]);
    // What a recipe says is no command to the terminal.
    fs::write(bench.path("frames/recipe.json"), r#"{"talkie": "1", "prompt": "\u001b]0;x\u0007\u009b31m"}"#)
        .expect("a recipe");
    let done = bench.run(&["inspect", "frames"]);
    assert!(!done.worked(&[]).stdout.contains(|c: char| c.is_control() && c != '\n'), "{done}");
}

#[cfg(feature = "ffmpeg")]
#[test]
fn a_film_that_is_cut_short_says_so() {
    let bench = Bench::new("wan21-t2v");
    fs::write(bench.path("text.mp4"), "no film").expect("a file");
    bench.run(&["inspect", "text.mp4"]).refused(1, &["text.mp4"]);
    for name in ["film.mp4", "film.webm", "film.gif"] {
        bench.generate(&["-o", name]).worked(&[]);
        bench.run(&["inspect", name]).worked(&[]);
        let whole = fs::read(bench.path(name)).expect("a film");
        for bytes in [0, 3, 20] {
            fs::write(bench.path(name), &whole[..bytes]).expect("a film");
            bench.run(&["inspect", name]).refused(1, &[name]);
        }
    }
}
