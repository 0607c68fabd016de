//! Prompts, sizes, lengths and sampling values: what is absurd is refused, what is rounded is said aloud.

use std::fs;

use serde_json::Value;

use super::nothing_left;
use crate::support::command::{Bench, Done};

#[test]
fn absurd_values_are_refused() {
    let bench = Bench::new("wan21-t2v");
    let floats: &[&str] = &["nan", "NaN", "inf", "-inf", "-1", "1e300", "x", ""];
    let whole: &[&str] = &["-1", "1.5", "nan", "99999999999999999999999", "x", ""];
    let mut table: Vec<(&str, &str)> = Vec::new();
    let mut add = |flag, values: &[&'static str]| table.extend(values.iter().map(|value| (flag, *value)));
    for flag in ["--guidance", "--flow-shift", "--seconds", "--fps", "--memory"] {
        add(flag, floats);
    }
    for flag in ["--steps", "--frames", "--seed"] {
        add(flag, whole);
    }
    add("--guidance", &["1000.5"]);
    add("--flow-shift", &["0", "-0", "100.5", "1e-300"]);
    add("--seconds", &["0", "1e-9", "1e9"]);
    add("--fps", &["0", "0.5", "241", "1/0", "0/1", "30/1/1", "24,5", "1e1"]);
    add("--memory", &["0", "0GB", "5 parsecs", "-8GB", "."]);
    add("--steps", &["0", "1001"]);
    add("--frames", &["0", "100001"]);
    let sizes = ["0x0", "7x7", "99999x99999", "16385x32", "-8x8", "32", "32x", "x32", "32x32x32", "32.5x32", "axb", ""];
    add("--size", &sizes);
    add("--sampler", &["foo", "UniPC", ""]);
    add("--device", &["gpu", "cpu:1", "cuda:x", ""]);
    add("--dtype", &["f64", "bf16", "int8", ""]);
    for (flag, value) in table {
        let done = bench.generate(&[flag, value]);
        nothing_left(&bench, done.refused(2, &[]));
        // What was wrong is named: the flag, its word, its value, or the sides of a size.
        let words = flag.trim_start_matches("--").replace('-', " ");
        let named = [flag, &words, &format!("`{value}`"), "pixels"].iter().any(|name| done.stderr.contains(name));
        assert!(named, "{done}");
        assert_eq!(bench.runs(), [""; 0], "a run began with {flag} {value}");
    }
}

#[test]
fn parameters_are_checked_by_name_and_value() {
    let bench = Bench::new("wan21-t2v");
    let table: &[(&[&str], &[&str])] = &[
        (&["foo=1"], &["foo", "sigmas, solver_order"]),
        (&["sigma=1"], &["sigma", "did you mean", "sigmas"]),
        (&["tile_stides=8"], &["tile_stride"]),
        (&["solver-ordr=2"], &["solver_order"]),
        (&["nothing"], &["nothing", "KEY=VALUE"]),
        (&["=1"], &["not a parameter"]),
        (&["tile=16", "tile=24"], &["tile", "twice"]),
        (&["guidance_2=3"], &["guidance_2", "one transformer"]),
        (&["boundary_ratio=0.5"], &["boundary_ratio", "one transformer"]),
        (&["sigmas=0.5,1"], &["sigma", "below"]),
        (&["sigmas=0.5,0.5"], &["sigma", "below"]),
        (&["sigmas=nan,0.5"], &["sigma", "NaN"]),
        (&["sigmas=2,1"], &["sigma", "2.0"]),
        (&["sigmas=1,-0.5"], &["sigma", "-0.5"]),
        (&["sigmas=1,1e-300"], &["sigma"]),
        (&["sigmas=1,x"], &["`x`", "number"]),
        (&["sigmas="], &["sigmas", "number"]),
        (&["sigmas=0"], &["0 is not a number of steps"]),
        (&["sigmas=1,0.7,0.3"], &["--steps 2", "3 steps"]),
        (&["text_length=0"], &["text_length", "1 to 512"]),
        (&["text_length=513"], &["text_length", "1 to 512"]),
        (&["text_length=nan"], &["text_length=nan"]),
        (&["tile=-1"], &["tile=-1"]),
        (&["tile=7"], &["7 pixels", "multiples of 8"]),
        (&["tile=8"], &["8 pixels"]),
        (&["tile=16777216"], &["16777216 pixels"]),
        (&["tile=18446744073709551608"], &["18446744073709551608 pixels"]),
        (&["tile=64", "tile_stride=72"], &["every 72 pixels"]),
        (&["tile_stride=8"], &["tile_stride", "without `tile`"]),
        (&["fp8_matmul=true"], &["fp8_matmul=true", "`cpu`"]),
        (&["fp8_matmul=yes"], &["fp8_matmul=yes", "true or false"]),
        (&["solver_order=0"], &["solver_order", "1 to 3"]),
        (&["solver_order=4"], &["solver_order", "1 to 3"]),
        (&["solver_order=two"], &["solver_order=two"]),
        (&["solver_type=zz"], &["solver_type=zz"]),
    ];
    for (pairs, words) in table {
        let arguments: Vec<&str> = pairs.iter().flat_map(|pair| ["--set", pair]).collect();
        nothing_left(&bench, bench.generate(&arguments).refused(2, words));
    }
    let two = Bench::new("wan22-a14b");
    for value in ["nan", "inf", "-1", "1e9", "x", ""] {
        for key in ["guidance_2", "boundary_ratio"] {
            nothing_left(&two, two.generate(&["--set", &format!("{key}={value}")]).refused(2, &[key]));
        }
    }
    let both = ["--frames", "5", "--seconds", "1"];
    nothing_left(&bench, bench.generate(&both).refused(2, &["--frames", "--seconds"]));
    // Sigmas need no shift, but the recipe tells it.
    let shifted = ["--flow-shift", "nan", "--set", "sigmas=1,0.5"];
    nothing_left(&bench, bench.generate(&shifted).refused(2, &["flow shift", "NaN"]));
    assert_eq!((bench.runs().len(), two.runs().len()), (0, 0));
}

#[test]
fn what_is_rounded_is_said_aloud() {
    let bench = Bench::new("wan21-t2v");
    let frames = |done: &Done| done.worked(&[]).stderr.lines().filter(|line| line.starts_with("note:")).count();
    let odd = bench.generate(&["--frames", "7", "--size", "35x47", "-o", "out/odd"]);
    odd.worked(&["frames 7 → 5", "4n + 1", "width 35 → 32", "height 47 → 32", "divisible by 16"]);
    assert_eq!(frames(&odd), 3);
    assert_eq!(frames(&bench.generate(&["-o", "out/even"])), 0);
    let short = bench.generate(&["--seconds", "0.4", "--fps", "16", "-o", "out/short"]);
    short.worked(&["frames 6 → 5"]);
    for film in ["odd", "even", "short"] {
        let count = fs::read_dir(bench.path("out").join(film)).expect("frames").count();
        assert_eq!(count, 6, "five frames and a recipe");
    }
}

#[test]
fn prompts_are_not_empty_and_cut_aloud() {
    let bench = Bench::new("wan21-t2v");
    for prompt in ["", " ", "\t\n", "\u{3000}"] {
        nothing_left(&bench, bench.generate(&[prompt]).refused(2, &["prompt is empty"]));
    }
    bench.run(&["generate", "-m", "model", "-o", "out/film"]).refused(2, &["PROMPT"]);
    // More than any model reads, and less than the longest argument of a command.
    let endless = "fox ".repeat(30_000);
    nothing_left(
        &bench,
        bench.generate(&[&endless]).refused(2, &["the prompt must have 100000 bytes at most, not 120000", "shorten"]),
    );
    nothing_left(
        &bench,
        bench.generate(&[&endless, "--plan"]).refused(2, &["the prompt must have 100000 bytes at most, not 120000"]),
    );
    nothing_left(
        &bench,
        bench.generate(&["--negative", &endless]).refused(2, &["negative prompt must have", "not 120000"]),
    );
    assert_eq!(bench.runs(), [""; 0], "it was refused before a run began");
    let long = "A red fox walks through the snow. ".repeat(200);
    bench.generate(&[&long]).worked(&["note: the prompt is", "tokens too long", "first 512"]);
    assert_eq!(bench.left(), ["film"]);
    let strange = "\u{1b}[31m\u{0}é\u{202e}猫🐈\u{feff}&lt;&#x0;&#xffffffff;".replace('\0', "");
    bench.generate(&[&strange, "-o", "out/strange"]).worked(&[]);
    // A prompt that looks like an option is one after `--`.
    bench
        .run(&[
            "generate", "-m", "model", "-o", "out/dash", "--size", "32x32", "--frames", "1", "--steps", "1", "--", "-x",
        ])
        .worked(&[]);
}

#[test]
fn a_film_that_does_not_fit_is_refused_with_one_that_does() {
    let bench = Bench::new("wan21-t2v");
    nothing_left(&bench, bench.generate(&["--memory", "10MB"]).refused(1, &["10.0 MB", "no film of this model fits"]));
    let huge = bench.generate(&["--size", "16384x16384", "--frames", "4093"]);
    nothing_left(&bench, huge.refused(1, &["memory", "--size", "would fit"]));
    let large = ["--memory", "55MB", "--size", "256x256", "--frames", "81"];
    let done = bench.generate(&large);
    nothing_left(&bench, done.refused(1, &["55.0 MB", "would fit"]));
    // What the error proposes is taken at its word.
    let proposed = |flag: &str| {
        let rest = done.stderr.split_once(&format!("{flag} ")).expect("a proposal").1;
        rest.split([' ', '`']).next().expect("a value").to_owned()
    };
    let (size, frames) = (proposed("--size"), proposed("--frames"));
    let plan = bench.generate(&["--memory", "55MB", "--size", &size, "--frames", &frames, "--plan", "--json"]);
    let plan: Value = serde_json::from_str(&plan.worked(&[]).stdout).expect("a plan");
    assert_eq!(
        plan["notes"].as_array().map_or(0, |notes| notes.iter().filter(|n| n.to_string().contains('→')).count()),
        0
    );
    assert_eq!(bench.runs(), [""; 0]);
    let long = bench.generate(&["--size", "16x16", "--frames", "99997"]);
    nothing_left(&bench, long.refused(2, &["positions", "4093 frames"]));
    // A decoder that mirrors pictures at their edges needs two rows and columns of latents.
    let bench = Bench::new("ltx2");
    for size in ["32x64", "64x32"] {
        let small = bench.generate(&["--size", size, "--frames", "9"]);
        nothing_left(&bench, small.refused(2, &[size, "too small", "64 pixels at least"]));
    }
    let none = bench.generate(&["--size", "128x64", "--frames", "9", "--memory", "1MB"]);
    nothing_left(&bench, none.refused(1, &["no film of this model fits"]));
}

#[test]
fn tiles_are_for_films_that_do_not_fit_without() {
    let bench = Bench::new("wan21-t2v");
    let plan = |arguments: &[&str]| -> Value {
        let done = bench.generate(&[&["--plan", "--json", "--size", "640x640", "--frames", "1"], arguments].concat());
        serde_json::from_str(&done.worked(&[]).stdout).expect("a plan")
    };
    let decode = |plan: &Value| -> u64 {
        let stages = plan["stages"].as_array().expect("stages");
        let decode = stages.iter().find(|stage| stage["stage"] == "decode").expect("a decode");
        ["weights", "scratch"].iter().map(|part| decode[part].as_u64().expect("bytes")).sum()
    };
    let whole = plan(&["--memory", "8GB"]);
    assert!(whole["tiling"].is_null());
    let need = decode(&whole);
    assert!(plan(&["--memory", &need.to_string()])["tiling"].is_null());
    let tiled = plan(&["--memory", &(need - 1).to_string()]);
    assert_eq!((&tiled["tiling"]["min_width"], &tiled["parameters"]["tile"]), (&256.into(), &256.into()));
    assert!(tiled["notes"].to_string().contains("tiles of 256 pixels") && decode(&tiled) < need, "{tiled}");
    // Where the user says so, there are none.
    let memory = (need - 1).to_string();
    let refused = bench.generate(&["--size", "640x640", "--frames", "1", "--memory", &memory, "--set", "tile=0"]);
    nothing_left(&bench, refused.refused(1, &["decode", "memory"]));
}

#[test]
fn a_plan_refuses_what_a_film_would() {
    let bench = Bench::new("wan21-t2v");
    for wrong in [["--size", "7x7"], ["--steps", "0"], ["--device", "gpu"], ["--dtype", "bf16"], ["--set", "foo=1"]] {
        bench.generate(&[wrong[0], wrong[1], "--plan"]).refused(2, &[]);
    }
    assert_eq!((bench.left().len(), bench.runs().len()), (0, 0));
}
