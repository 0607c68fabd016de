//! Recipes of few steps: their schedules, the noise between steps, their weights, and what does not go with them.
//! `fixtures/few_steps.py` made the numbers.

use std::ops::ControlFlow;

use candle_core::{DType, IndexOp, Tensor};
use serde_json::Value;
use talkie::error::Kind;
use talkie::model::catalogue;
use talkie::pipeline::run::Run;
use talkie::progress::{Stage, quiet};
use talkie::sampling::noise::Generator;
use talkie::sampling::schedule::{Sampler, Schedule};
use talkie::sampling::stepper::Stepper;
use talkie::{Condition, Event, Request, media};

use crate::support::command::{Bench, Done};
use crate::support::pipeline::text;
use crate::support::{choice, close, device, fixture, reference, relative_l2, session, steps as steps_of, tensors};

/// Of a step. Measured: 1.4e-7, either way.
const STEP: f64 = 4e-7;

/// Of a run. Measured: 3.4e-6, plain 5.0e-6.
const RUN: f64 = 1e-5;

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().expect("a list").iter().map(|value| value.as_f64().expect("a number")).collect()
}

fn of_steps(plan: &Value, key: &str) -> Vec<f64> {
    steps_of(plan).iter().map(|step| step[key].as_f64().expect("a number")).collect()
}

/// A bench with the files that a plan may name.
fn bench(model: &str) -> Bench {
    let bench = Bench::new(model);
    let picture = media::Rgb { width: 2, height: 2, data: vec![90; 12] };
    media::write_png(&bench.path("picture.png"), &picture).expect("a picture");
    bench
}

/// `talkie generate --plan` of a released model whose files are not here.
fn planned(bench: &Bench, model: &str, arguments: &[&str]) -> Done {
    let image: &[&str] = if model.contains("i2v") { &["--image", "picture.png"] } else { &[] };
    let common = ["generate", "a red fox walks", "--plan", "-m", model, "--memory", "900GB"];
    bench.run(&[&common[..], image, arguments].concat())
}

/// Weights that are here.
const WEIGHTS: &str = "model/transformer/diffusion_pytorch_model.safetensors";

/// LoRAs for every transformer of a released model.
fn loras(model: &str) -> &'static [&'static str] {
    match model.contains("a14b") {
        true => &["--lora", "high.safetensors", "--lora", "low.safetensors"],
        false => &["--lora", "few.safetensors"],
    }
}

/// It worked, and stdout has all of `words`.
#[track_caller]
fn shows(done: &Done, words: &[&str]) {
    done.worked(&[]);
    words.iter().for_each(|word| assert!(done.stdout.contains(word), "not a word of `{word}`: {done}"));
}

fn json(done: &Done) -> Value {
    serde_json::from_str(&done.worked(&[]).stdout).expect("JSON")
}

#[test]
fn schedules_are_those_of_the_references() {
    let bench = bench("wan21-t2v");
    let facts = reference("few-steps");
    let models = facts["schedules"].as_object().expect("models");
    let mut count = 0;
    for (model, presets) in models {
        for (preset, expected) in presets.as_object().expect("presets") {
            let arguments = if preset.is_empty() { vec![] } else { [&["--preset", preset], loras(model)].concat() };
            let plan = json(&planned(&bench, model, &[&arguments[..], &["--json"]].concat()));
            for (key, at) in [("sigmas", "sigma"), ("timesteps", "timestep")] {
                let (made, wanted) = (of_steps(&plan, at), numbers(&expected[key]));
                assert_eq!(made.len(), wanted.len(), "{model}, {preset}: {key}");
                for (made, wanted) in made.iter().zip(&wanted) {
                    assert!((made - wanted).abs() <= 1e-6 * wanted, "{model}, {preset}: {key} {made} {wanted}");
                }
            }
            let experts: Vec<u64> = steps_of(&plan).iter().filter_map(|s| s["expert"].as_u64()).collect();
            let split: &[u64] = if model.contains("a14b") { &[0, 0, 1, 1] } else { &[0, 0, 0, 0][..experts.len()] };
            assert_eq!(experts, split, "{model}, {preset}: two steps each, where there are two experts");
            assert!(steps_of(&plan).iter().all(|step| step["guidance"]["text"] == 1.0), "{model}");
            assert_eq!(plan["preset"].as_str().unwrap_or_default(), preset, "{model}");
            count += 1;
        }
    }
    let listed = |entry: &catalogue::Entry| entry.presets.len() + usize::from(entry.sampling.few_steps.is_some());
    let entries = catalogue::entries().expect("models/*.toml");
    assert_eq!(count, entries.iter().map(listed).sum::<usize>(), "every recipe has its reference");
    for entry in entries {
        for recipe in entry.presets.values().chain(&entry.sampling.few_steps) {
            assert!(recipe.timesteps.is_empty() || recipe.timesteps.len() == recipe.sigmas.len(), "{}", entry.name);
        }
        if let Some(own) = &entry.sampling.few_steps {
            assert_eq!(own.over(&entry.sampling), entry.sampling, "{}: said twice, and the same", entry.name);
        }
    }
}

#[test]
fn fewer_steps_are_the_first_where_the_recipe_has_them() {
    let bench = bench("wan21-t2v");
    let steps = |steps: &str| {
        let arguments = ["--preset", "rcm", "--steps", steps, "--lora", "few.safetensors", "--json"];
        json(&planned(&bench, "wan2.1-t2v-14b", &arguments))
    };
    let whole = steps("4");
    for count in 1..4 {
        let plan = steps(&count.to_string());
        for key in ["sigma", "timestep"] {
            assert_eq!(of_steps(&plan, key), of_steps(&whole, key)[..count], "{count} steps");
        }
    }
}

#[test]
fn a_step_goes_to_the_prediction_and_back_with_noise() {
    let tables = tensors("few-steps/reference.safetensors");
    let [a, b, start] = ["a", "b", "x"].map(|name| tables[&format!("toy.{name}")].clone());
    let facts = reference("few-steps");
    for name in ["rcm", "rcm-1", "fastwan"] {
        let expected = &tables[&format!("toy.{name}")];
        let recipe = &facts["schedules"]["wan2.1-t2v-1.3b"][name.trim_end_matches("-1")];
        let count = expected.dim(0).unwrap();
        let sigmas = &numbers(&recipe["sigmas"])[..count];
        let schedule = Schedule::from_sigmas(Sampler::Renoise, sigmas).expect("a schedule");
        let mut stepper = Stepper::new(Sampler::Renoise, &schedule).expect("a stepper");
        let mut generator = Generator::seed(9);
        let mut x = start.clone();
        for (index, time) in numbers(&recipe["timesteps"])[..count].iter().enumerate() {
            let velocity =
                a.matmul(&x).unwrap().broadcast_add(&(&b * (time / 1000.0)).unwrap()).unwrap().tanh().unwrap();
            let last = index + 1 == count;
            if !last {
                let report = stepper.step(index, &velocity, &x, None).expect_err("no noise").to_string();
                assert!(report.contains("has no noise"), "{report}");
            }
            let noise = Tensor::from_vec(generator.normal(24), (8, 3), &device()).unwrap();
            let wide = Tensor::zeros((8, 4), DType::F32, &device()).unwrap();
            assert!(stepper.step(index, &velocity, &x, Some(&wide)).is_err(), "noise of another shape");
            x = stepper.step(index, &velocity, &x, Some(&noise).filter(|_| !last)).expect("a step");
            close(&x, &expected.i(index).unwrap(), STEP, &format!("{name}, step {index}"));
        }
        assert!(stepper.state().is_empty(), "it remembers nothing");
    }
}

#[test]
fn anybody_may_sample_so() {
    let schedule = Schedule::new(Sampler::Renoise, 5.0, 4).expect("a schedule");
    let expected = [1.0, 0.9375, 0.833_333_3, 0.625, 0.0];
    assert!(schedule.sigmas.iter().zip(expected).all(|(made, wanted)| (made - wanted).abs() < 1e-7), "{schedule:?}");
    assert!((schedule.timesteps[2] - 833.3333).abs() < 1e-3, "not cut to a whole number: {schedule:?}");
    let one = Schedule::new(Sampler::Renoise, 8.0, 1).expect("a schedule");
    assert_eq!((one.sigmas, one.timesteps), (vec![1.0, 0.0], vec![1000.0]));
    let bench = Bench::new("ltx2");
    let done = bench.generate(&["--sampler", "renoise", "--size", "64x64", "--steps", "3"]);
    done.worked(&[]);
}

/// Recipes over the small models, by the command, against diffusers' pipelines with the same recipe in the scheduler's place.
#[test]
fn runs_are_those_of_the_references() {
    let facts = reference("few-steps");
    let expected = tensors("few-steps/reference.safetensors");
    for case in facts["cases"].as_array().expect("cases") {
        let (name, size) = (text(case, "name"), numbers(&case["size"]));
        let bench = bench(text(case, "folder"));
        let (seed, steps, frames) = (case["seed"].to_string(), case["steps"].to_string(), size[2].to_string());
        let size = format!("{}x{}", size[0], size[1]);
        let image = case["image"].as_str().map(|image| format!("model/{image}"));
        let mut arguments =
            vec![text(&facts, "prompt"), "--preset", text(case, "preset"), "--seed", &seed, "--size", &size];
        arguments.extend(["--steps", &steps, "--frames", &frames, "--save-latents", "made.safetensors"]);
        arguments.extend(image.as_deref().map(|image| ["--image", image]).into_iter().flatten());
        bench.generate(&arguments).worked(&["is for distilled weights"]);
        let made = candle_core::safetensors::load(bench.path("made.safetensors"), &device()).expect("latents");
        close(&made["video"], &expected[name], RUN, name);
        let recipe = std::fs::read(bench.path("out/film/recipe.json")).expect("a recipe");
        let recipe: Value = serde_json::from_slice(&recipe).expect("JSON");
        assert_eq!(recipe["preset"], case["preset"], "{name}");
        assert_eq!(recipe["steps"], case["steps"], "{name}");
    }
}

/// A file with the seed's own noise makes the seed's own film: what the steps add is not that noise again.
#[test]
fn noise_of_a_file_is_followed_by_that_of_the_seed() {
    let bench = Bench::new("wan21-t2v");
    let run = |arguments: &[&str]| {
        let arguments =
            [&["--preset", "rcm", "--steps", "4", "--save-latents", "made.safetensors"], arguments].concat();
        bench.generate(&arguments).worked(&[]);
        let made = candle_core::safetensors::load(bench.path("made.safetensors"), &device()).expect("latents");
        made["video"].clone()
    };
    let own = run(&["--seed", "5"]);
    let noise = Tensor::from_vec(Generator::seed(5).normal(16 * 2 * 4 * 4), own.dims(), &device()).unwrap();
    noise.save_safetensors("video", bench.path("noise.safetensors")).expect("a file");
    let same = run(&["--seed", "5", "--noise", "noise.safetensors"]);
    assert_eq!(relative_l2(&same, &own), 0.0);
    let other = run(&["--seed", "6", "--noise", "noise.safetensors"]);
    assert!(relative_l2(&other, &own) > 1e-3, "the steps' noise is the seed's");
}

/// Stops after each step in turn and goes on: across two experts, with a first frame that stays, with sound, in two stages.
#[test]
fn a_run_goes_on_bit_for_bit_from_every_step() {
    let home = tempfile::tempdir().expect("a folder");
    {
        let few = |preset: &str| Request { preset: Some(preset.into()), ..Request::default() };
        let image = |model: &str| vec![Condition::Image { file: fixture(model).join("first.png") }];
        let size = |size: &str| Some(size.parse().expect("a size"));
        let three = [("sigmas".to_owned(), "1,0.8,0.5".to_owned())].into();
        let cases = [
            ("wan21-t2v", Request { size: size("32x32"), ..few("rcm") }),
            ("wan22-ti2v-5b", Request { conditions: image("wan22-ti2v-5b"), size: size("64x32"), ..few("fastwan") }),
            ("wan22-i2v-a14b", Request { conditions: image("wan22-i2v-a14b"), size: size("48x32"), ..few("rcm") }),
            (
                "ltx2",
                Request { size: size("128x128"), sampler: Some(Sampler::Renoise), set: three, ..few("distilled") },
            ),
        ];
        for (model, request) in cases {
            let request = Request { prompt: "a red fox walks".into(), frames: Some(9), seed: Some(1), ..request };
            let session = session(&choice(model), home.path());
            let whole = session.generate(&request, &mut quiet).expect(model);
            let steps = session.plan(&request).expect(model).step_count() as u64;
            for step in 1..=steps {
                let mut stop = |event: &Event| match event {
                    Event::Advance { stage: Stage::Denoise, done, .. } if *done == step => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                };
                let error = session.generate(&request, &mut stop).map(|_| ()).expect_err("a stop");
                assert_eq!(error.kind(), Kind::Stopped, "{model}: {}", error.report());
                let film = session.resume(Run::open(None, home.path()).expect("a run"), &mut quiet).expect(model);
                assert!(film.frames == whole.frames, "{model}: another film after step {step} of {steps}");
            }
        }
    }
}

#[test]
fn a_recipe_is_refused_over_weights_that_are_not_for_it() {
    let bench = bench("wan21-t2v");
    let refused = |model: &str, arguments: &[&str], words: &[&str]| {
        planned(&bench, model, &[&["--preset"], arguments].concat()).refused(2, words);
    };
    let which =
        ["those of wan2.1-t2v-14b were not", "`--lora FILE` or `--transformer FILE`", "lightx2v/Wan2.1-Distill-Loras"];
    refused("wan2.1-t2v-14b", &["lightx2v"], &which);
    refused("Wan-AI/Wan2.1-T2V-14B-Diffusers", &["lightx2v"], &which);
    refused("wan2.1-t2v-14b", &["lightx2v", "--lora", "few.safetensors:0"], &which);
    // Said before anything is fetched, by the command that would fetch.
    let arguments = ["generate", "a fox", "-m", "wan2.1-t2v-14b", "--preset", "lightx2v", "-o", "out/film"];
    bench.run(&arguments).refused(2, &which);
    let pair =
        ["those of wan2.2-t2v-a14b were not", "for each expert", "high_noise_lora_rank64", "low_noise_lora_rank64"];
    for given in [
        &[][..],
        &["--lora", "high.safetensors"],
        &["--lora", "low.safetensors"],
        &["--transformer", WEIGHTS],
        &["--transformer-2", WEIGHTS],
        &["--transformer-2", WEIGHTS, "--lora", "low.safetensors"],
    ] {
        refused("wan2.2-t2v-a14b", &[&["lightx2v"], given].concat(), &pair);
    }
    for given in [
        &["--lora", "both.safetensors"][..],
        &["--lora", "high.safetensors", "--lora", "low.safetensors"],
        &["--transformer", WEIGHTS, "--lora", "low.safetensors"],
        &["--transformer", WEIGHTS, "--transformer-2", WEIGHTS],
    ] {
        let done = planned(&bench, "wan2.2-t2v-a14b", &[&["--preset", "lightx2v"], given].concat());
        shows(&done, &["preset    lightx2v", "sampler   euler, 4 steps", "1.0000 0.9375 0.8333 0.6250 0.0000"]);
    }
    refused("wan2.1-t2v-14b", &["fastwan"], &["no preset `fastwan`", "it has lightx2v and rcm"]);
}

#[test]
fn what_a_recipe_does_not_know_is_refused() {
    let bench = bench("wan21-t2v");
    let plan = |model: &str, preset: &str, arguments: &[&str]| {
        planned(&bench, model, &[&["--preset", preset], loras(model), arguments].concat())
    };
    let cases: [(&str, &str, &[&str], &[&str]); 10] = [
        (
            "wan2.1-t2v-14b",
            "lightx2v",
            &["--guidance", "5"],
            &["`--guidance 5` does not go", "`lightx2v`", "over-saturated"],
        ),
        ("wan2.2-t2v-a14b", "lightx2v", &["--set", "guidance_2=3"], &["`--set guidance_2=3` does not go", "or give 1"]),
        ("wan2.1-t2v-14b", "lightx2v", &["--steps", "8"], &["`--steps 8` does not go", "distilled for 4 steps"]),
        ("wan2.1-t2v-14b", "lightx2v", &["--steps", "2"], &["`--steps 2` does not go", "distilled for 4 steps"]),
        ("wan2.1-t2v-1.3b", "rcm", &["--steps", "5"], &["`--steps 5` does not go", "distilled for 1 to 4 steps"]),
        ("wan2.1-t2v-1.3b", "rcm", &["--steps", "0"], &["`--steps 0` does not go"]),
        ("wan2.1-t2v-14b", "lightx2v", &["--sampler", "unipc"], &["`--sampler unipc` does not go", "sampler `euler`"]),
        ("wan2.1-t2v-14b", "lightx2v", &["--flow-shift", "3"], &["`--flow-shift 3` does not go", "flow shift 5"]),
        ("wan2.2-ti2v-5b", "fastwan", &["--set", "sigmas=1,0.5"], &["`--set sigmas` does not go"]),
        ("wan2.2-i2v-a14b", "rcm", &["--set", "boundary_ratio=0.5"], &["`--set boundary_ratio` does not go"]),
    ];
    for (model, preset, arguments, words) in cases {
        plan(model, preset, arguments).refused(2, words);
    }
    let same = ["--guidance", "1", "--steps", "4", "--sampler", "euler", "--flow-shift", "5", "--set", "guidance_2=1"];
    shows(&plan("wan2.2-t2v-a14b", "lightx2v", &same), &["negative  not used: no guidance"]);
    // Small pictures have another shift where the model samples by itself, not here.
    shows(&plan("wan2.1-t2v-14b", "lightx2v", &["--size", "480x832"]), &["shift     5"]);
    // A model that is distilled as a whole has one recipe, without a name.
    let words = ["`--guidance 5` does not go with this model"];
    planned(&bench, "fastwan2.2-ti2v-5b", &["--guidance", "5"]).refused(2, &words);
    let done = planned(&bench, "fastwan2.2-ti2v-5b", &[]);
    shows(&done, &["sampler   renoise, 3 steps", "1000.0000 757.0000 522.0000"]);
}

#[test]
fn a_name_may_tell_the_recipe() {
    let bench = bench("wan22-ti2v-5b");
    std::fs::rename(bench.path("model"), bench.path("My-FastWan2.2-5B")).expect("a folder");
    bench.json("My-FastWan2.2-5B/model_index.json", |index| index["_class_name"] = "WanDMDPipeline".into());
    let arguments = ["generate", "a fox", "-m", "My-FastWan2.2-5B", "--size", "64x32", "--frames", "5", "--plan"];
    shows(&bench.run(&arguments), &["preset    fastwan", "sampler   renoise, 3 steps"]);
    bench.run(&[&arguments[..], &["--guidance", "2"]].concat()).refused(2, &["preset `fastwan`"]);
}

#[test]
fn a_model_shows_its_recipes() {
    let bench = Bench::new("wan21-t2v");
    let words = [
        "preset        lightx2v: 4 steps of `euler` without guidance, for the LoRA wan2.1_t2v_14b_lora_rank64",
        "preset        rcm: 1 to 4 steps of `renoise` without guidance, for the LoRA",
    ];
    shows(&bench.run(&["models", "show", "wan2.1-t2v-14b"]), &words);
    let own = ["sampling      3 steps, guidance 1, sigmas of its own\n"];
    shows(&bench.run(&["models", "show", "fastwan2.2-ti2v-5b"]), &own);
}
