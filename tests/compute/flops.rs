//! Arithmetic counted from shapes, against hands and against PyTorch's counter; and `talkie bench`, whose figures add up.

use std::fs;

use serde_json::{Value, json};
use talkie::Session;
use talkie::compute::flops::{attention, convolution, linear};
use talkie::families::family::Prompt;
use talkie::pipeline::guidance;
use talkie::plan::{Pass, Plan, Workload};
use talkie::request::{Request, Size};

use crate::support::command::Bench;
use crate::support::{choice, fixture, session};

#[test]
fn layers_are_counted_as_by_hand() {
    // 3 rows of 4 numbers times 4x5: 60 multiplications, and as many additions.
    assert_eq!(linear(3, 4, 5), 120.0);
    // 2 queries, 3 keys, 4 channels in however many heads: 24 multiplications for the scores, 24 for what they weigh.
    assert_eq!(attention(2, 3, 4), 96.0);
    // 6 pixels, each from 27 places of 2 channels, with 5 channels: 1620 multiplications.
    assert_eq!(convolution(6, 27, 2, 5), 3240.0);
    assert_eq!(convolution(6, 1, 2, 5), linear(6, 2, 5));
}

/// A session of a fixture and its plan of a film of a counted shape.
fn planned(name: &str, counted: &Value, arguments: &[(&str, &str)]) -> (Session, Plan) {
    let size = |key: &str| counted[key].as_u64().expect(key) as usize;
    let request = Request {
        prompt: "a fox".into(),
        size: Some(Size { width: size("width"), height: size("height") }),
        frames: Some(size("frames")),
        set: arguments.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..Request::default()
    };
    let session = session(&choice(name), &std::env::temp_dir());
    let plan = session.plan(&request).expect("a plan");
    assert_eq!(json!(plan.shape.latents[2..]), counted["latents"], "{name}");
    assert_eq!(json!(plan.settings.text_length), counted["rows"], "{name}");
    (session, plan)
}

/// A forward that is told a short prompt.
fn of_forward(plan: &Plan, pass: Pass) -> Workload<'_> {
    Workload::Forward { shape: &plan.shape, pass, text_tokens: 7 }
}

fn counts() -> Value {
    serde_json::from_slice(&fs::read(fixture("work.json")).expect("a fixture")).expect("JSON")
}

#[test]
fn wan_is_counted_as_pytorch_counts() {
    let counts = counts();
    let tokens = counts["tokens"].as_u64().expect("a number") as usize;
    for name in ["wan21-t2v", "wan22-ti2v-5b"] {
        let counted = &counts[name];
        let (session, plan) = planned(name, counted, &[]);
        let of = |job: Workload<'_>| json!(session.family().flops(&plan, job) as u64);
        assert_eq!(of(Workload::Text(&[tokens])), counted["text"], "{name}");
        assert_eq!(of(of_forward(&plan, Pass::Full)), counted["forward"], "{name}");
        assert_eq!(of(Workload::Decode(&plan.shape)), counted["decode"], "{name}");
    }
}

#[test]
fn ltx_is_counted_as_pytorch_counts() {
    let counts = counts();
    let tokens = counts["tokens"].as_u64().expect("a number") as usize;
    // What the projections make of a token: of 6 states of 16 numbers one text of 16 for both, or 20 and 12 numbers.
    for (name, projected) in [("ltx2", 16), ("ltx23", 32)] {
        let counted = &counts[name];
        let (session, plan) = planned(name, counted, &[("stg_blocks", "1")]);
        assert_eq!(json!(plan.settings.sound.expect("sound").latents[1]), counted["sounds"], "{name}");
        let of = |job: Workload<'_>| json!(session.family().flops(&plan, job) as u64);
        // PyTorch projected a token for every row.
        let padding = linear(plan.settings.text_length - tokens, 6 * 16, projected) as u64;
        let number = |key: &str| counted[key].as_u64().expect(key);
        assert_eq!(of(Workload::Text(&[tokens])), json!(number("text") + number("connectors") - padding), "{name}");
        let forward = |pass| of(of_forward(&plan, pass));
        assert_eq!(forward(Pass::Full), counted["forward"], "{name}");
        assert_eq!(forward(Pass::Isolated), counted["isolated"], "{name}");
        // LTX-2.0 knows no perturbed attention: that pass is a whole one.
        assert_eq!(forward(Pass::Perturbed), *counted.get("perturbed").unwrap_or(&counted["forward"]), "{name}");
        assert_eq!(of(Workload::Decode(&plan.shape)), counted["decode"], "{name}");
    }
}

#[test]
fn equal_rows_of_a_text_are_counted_once() {
    let of = |name: &str, rows: &str, text_tokens: usize, attended: usize| {
        let set = [("text_length".to_owned(), rows.to_owned())].into();
        let session = session(&choice(name), &std::env::temp_dir());
        let plan = session.plan(&Request { prompt: "a fox".into(), set, ..Request::default() }).expect("a plan");
        assert_eq!(session.family().text_rows(&plan, text_tokens), attended, "{name}");
        session.family().flops(&plan, Workload::Forward { shape: &plan.shape, pass: Pass::Full, text_tokens })
    };
    // Without blocks in the connectors: 8 registers behind 8 text_tokens, over and over.
    assert_eq!(of("ltx2-toybox", "1024", 8, 16), of("ltx2-toybox", "16", 16, 16));
    assert_eq!(of("ltx2-toybox", "1024", 504, 1024), of("ltx2-toybox", "1024", 1024, 1024));
    assert!(of("ltx2", "1024", 8, 1024) > of("ltx2", "16", 16, 16));
}

#[test]
fn a_step_has_a_pass_for_each_kind_of_guidance() {
    let counts = counts();
    let passes = |arguments: &[(&str, &str)], negative: bool| {
        let (_, plan) = planned("ltx23", &counts["ltx23"], arguments);
        guidance::passes(&plan.phases[0].steps[0], negative)
    };
    let off = [("audio_guidance", "1"), ("stg_scale", "0"), ("audio_stg_scale", "0"), ("modality_scale", "1")];
    let off = [&off[..], &[("audio_modality_scale", "1")]].concat();
    let (plain, negative) = ((Pass::Full, Prompt::Positive), (Pass::Full, Prompt::Negative));
    assert_eq!(passes(&off, false), [plain]);
    assert_eq!(passes(&off, true), [plain, negative]);
    let all = [plain, negative, (Pass::Perturbed, Prompt::Positive), (Pass::Isolated, Prompt::Positive)];
    assert_eq!(passes(&[], true), all);
    assert_eq!(passes(&[], false), [all[0], all[2], all[3]]);
}

#[track_caller]
fn number(of: &Value, key: &str) -> f64 {
    of[key].as_f64().unwrap_or_else(|| panic!("no number `{key}` in {of}"))
}

/// Whether parts make a whole, but for rounding.
#[track_caller]
fn adds_up(whole: f64, parts: &[f64]) {
    let sum: f64 = parts.iter().sum();
    assert!(parts.iter().all(|part| *part >= 0.0) && (whole - sum).abs() < 1e-6, "{parts:?} are {sum}, not {whole}");
}

#[test]
fn a_bench_adds_up_and_leaves_nothing() {
    for (model, stages) in
        [("wan21-t2v", &["text", "denoise", "decode"][..]), ("ltx2", &["text", "denoise", "sound", "decode"])]
    {
        let bench = Bench::new(model);
        let arguments = ["bench", "a fox", "-m", "model", "--size", "64x64", "--frames", "9", "--steps", "2"];
        let done = bench.run(&[&arguments[..], &["--repeat", "2", "--json"]].concat());
        let figures: Value = serde_json::from_str(&done.worked(&[]).stdout).expect("JSON");
        let setting = &figures["setting"];
        assert_eq!((&setting["width"], &setting["frames"], &setting["dtype"]), (&json!(64), &json!(9), &json!("f32")));
        assert_eq!(setting["text_tokens"].as_array().map(Vec::len), Some(2), "{setting}");
        let roofline = number(setting, "roofline");
        assert!(roofline > 1e8 && number(&figures, "hash") >= 0.0, "{setting}");
        let runs = figures["runs"].as_array().expect("runs");
        assert_eq!(runs.len(), 2);
        for run in runs {
            let of = run["stages"].as_array().expect("stages");
            assert_eq!(of.iter().map(|stage| stage["stage"].as_str().expect("a name")).collect::<Vec<_>>(), stages);
            let seconds: Vec<f64> = of.iter().map(|stage| number(stage, "seconds")).collect();
            let rest = [number(run, "finish"), number(run, "other")];
            adds_up(number(run, "seconds"), &[&seconds[..], &rest].concat());
            for stage in of {
                let parts = ["load", "write", "compute"].map(|part| number(stage, part));
                adds_up(number(stage, "seconds"), &parts);
                rates(stage, number(stage, "compute"), roofline);
            }
            let denoise = &of[1];
            let steps = denoise["steps"].as_array().expect("steps");
            assert!(steps.len() == 2 && of[0].get("steps").is_none(), "{run}");
            let alone: f64 = steps.iter().map(|step| number(step, "seconds")).sum();
            assert!(alone > 0.0 && alone <= number(denoise, "compute") + 1e-6, "{denoise}");
            let flop: f64 = steps.iter().map(|step| number(step, "flop")).sum();
            assert_eq!(flop, number(denoise, "flop"));
            for step in steps {
                assert!(step["passes"].as_u64() >= Some(2), "{step}");
                rates(step, number(step, "seconds"), roofline);
            }
            if cfg!(target_os = "linux") {
                let peak = run["peak"].as_u64().expect("a peak");
                assert!(of.iter().filter_map(|stage| stage["peak"].as_u64()).all(|part| part <= peak), "{run}");
            }
        }
        assert!(bench.left().is_empty() && bench.runs().is_empty(), "{:?} {:?}", bench.left(), bench.runs());
    }
}

/// Whether the rate of a part follows from its operations and seconds, where they are counted.
#[track_caller]
fn rates(part: &Value, seconds: f64, roofline: f64) {
    if part["flop"].is_null() {
        assert!(part["flop_per_second"].is_null() && part["share"].is_null(), "{part}");
        return;
    }
    let rate = number(part, "flop_per_second");
    assert!((rate * seconds / number(part, "flop") - 1.0).abs() < 1e-6, "{part}");
    assert!((rate / roofline / number(part, "share") - 1.0).abs() < 1e-6, "{part}");
}

#[test]
fn a_bench_is_a_table() {
    let bench = Bench::new("wan21-t2v");
    let small = ["bench", "a fox", "-m", "model", "--size", "32x32", "--frames", "5", "--steps", "2"];
    let done = bench.run(&[&small[..], &["--cache", "0.05"]].concat());
    let lines: Vec<&str> = done.worked(&[]).stdout.lines().collect();
    let first = |word: &str| lines.iter().any(|line| line.split_whitespace().next() == Some(word));
    let text_tokens = [
        "model", "film", "text", "device", "roofline", "runs", "seconds", "denoise", "step", "decode", "finish", "all",
    ];
    assert!(text_tokens.into_iter().all(first), "{done}");

    let failed = bench.run(&[&small[..], &["--repeat", "0"]].concat());
    assert_eq!(failed.code, Some(2), "{failed}");
    bench.json("model/vae/config.json", |config| config["z_dim"] = json!(15));
    bench.run(&small).refused(1, &[]);
    assert!(bench.runs().is_empty(), "{:?}", bench.runs());
}
