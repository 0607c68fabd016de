//! Step caching: which steps are skipped, what serves for them, what it cost, and that a stop changes nothing of it.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Tensor};
use serde_json::Value;
use talkie::families::Opened;
use talkie::families::conditioning::{Conditioned, Conditioning, Embedding};
use talkie::families::family::{
    Compute, Decoded, Denoiser, DenoiserInput, Family, Film, FrameSink, Given, Prompt, Stages, VideoDecoder,
};
use talkie::families::latents::{self, Latents};
use talkie::pipeline::denoise::{Cached, Denoise};
use talkie::pipeline::recipe::inspect;
use talkie::pipeline::run::Run;
use talkie::plan::{Costs, Facts, Pass, Settings, Shape, StageMemory, Workload};
use talkie::progress::{Progress, Stage, quiet};
use talkie::sampling::Scales;
use talkie::sampling::noise::randn;
use talkie::sampling::stepper::Stepper;
use talkie::weights::bundle;
use talkie::{Budget, Event, ModelChoice, Plan, Request, Result, Session};

use crate::support::command::Bench;
use crate::support::{choice, device, machine, relative_l2};

/// A family whose velocity is a formula, which notes at which timesteps it was asked. Its texts are empty, its frames grey.
#[derive(Clone)]
struct Formula {
    facts: Facts,
    asked: Arc<Mutex<Vec<f64>>>,
}

/// A velocity that turns slowly with the timestep, and more for the sound.
fn velocity(x: &Tensor, timestep: f64, turn: f64) -> Tensor {
    let wave = (x * 0.4).and_then(|x| x.sin()).expect("a tensor");
    ((x * 0.3).unwrap() + (wave + (turn * timestep / 1000.0).sin()).unwrap()).expect("a tensor")
}

fn velocities(xs: &Latents, timestep: f64) -> Latents {
    Latents {
        video: velocity(&xs.video, timestep, 1.0),
        audio: xs.audio.as_ref().map(|audio| velocity(audio, timestep, 3.0)),
    }
}

impl Denoiser for Formula {
    fn velocity(&self, input: DenoiserInput<'_>, _: Prompt, _: Pass) -> Result<Latents> {
        self.asked.lock().expect("one thread").push(input.timestep);
        Ok(velocities(input.latents, input.timestep))
    }
}

impl VideoDecoder for Formula {
    fn decode(&self, latents: &[Tensor], frames: FrameSink<'_>) -> Result<()> {
        for latents in latents {
            let (_, _, t, h, w) = latents.dims5()?;
            let Facts { temporal, spatial, .. } = self.facts;
            let shape = (1, 3, (t - 1) * temporal + 1, h * spatial, w * spatial);
            frames(Decoded::Frames(Tensor::zeros(shape, DType::F32, &device())?))?;
        }
        Ok(())
    }
}

impl Costs for Formula {
    fn memory(&self, _: &Plan, _: &Shape) -> Vec<StageMemory> {
        Vec::new()
    }

    fn weights(&self) -> Vec<(Stage, u64)> {
        Vec::new()
    }

    fn flops(&self, _: &Plan, _: Workload<'_>) -> f64 {
        0.0
    }
}

impl Stages for Formula {
    fn tokens(&self, prompts: &[&str], _: &Settings, _: &Compute, _: &mut Progress<'_>) -> Result<Vec<Vec<u32>>> {
        Ok(vec![Vec::new(); prompts.len()])
    }

    fn text(&self, prompts: &[&str], _: &Settings, _: &Compute, _: &mut Progress<'_>) -> Result<Vec<Embedding>> {
        let nothing = Tensor::zeros((1, 1, 1), DType::F32, &device())?;
        Ok(vec![Embedding { video: nothing.clone(), audio: Some(nothing) }; prompts.len()])
    }

    fn condition(&self, _: &[Given], _: (&Settings, &Shape), _: &Compute, _: &mut Progress<'_>) -> Result<Conditioned> {
        Ok(Conditioned::default())
    }

    fn denoiser(&self, _: usize, _: Film<'_>, _: &Compute, _: &mut Progress<'_>) -> Result<Box<dyn Denoiser>> {
        Ok(Box::new(self.clone()))
    }

    fn decoder(&self, _: &Settings, _: &Compute, _: &mut Progress<'_>) -> Result<Box<dyn VideoDecoder>> {
        Ok(Box::new(self.clone()))
    }
}

impl Family for Formula {
    fn facts(&self) -> Result<Facts> {
        Ok(self.facts.clone())
    }
}

/// The plan of a film of a fixture, without guidance, from a noise in a file of `home`.
fn plan(model: &str, steps: usize, cache: Option<f64>, home: &Path) -> Plan {
    let choice = ModelChoice { device: Some("cpu".into()), ..choice(model) };
    let request = Request {
        prompt: "a red fox walks".into(),
        size: Some("64x64".parse().expect("a size")),
        frames: Some(9),
        steps: Some(steps),
        guidance: Some(1.0),
        seed: Some(3),
        cache,
        ..Request::default()
    };
    let mut plan = Session::look(&machine(home), &choice, &request).expect("a plan");
    // One prediction a step, whatever the model's own guidance is.
    for step in plan.phases.iter_mut().flat_map(|phase| &mut phase.steps) {
        step.guidance = Scales::text(1.0);
        step.audio_guidance = step.audio_guidance.map(|_| Scales::text(1.0));
    }
    let noise = |shape: &[usize]| randn(shape, 7).expect("noise");
    let audio = plan.settings.sound.as_ref().map(|sound| noise(&sound.latents));
    let noise = Latents { video: noise(&plan.shape.latents), audio };
    let path = home.join(format!("{model}.safetensors"));
    bundle::save(&path, &noise.pack(), HashMap::new()).expect("a file");
    Plan { negative: None, request: Request { noise: Some(path), ..plan.request }, ..plan }
}

/// What came of a run: the latents, the figures of the cache, and the timesteps at which the transformer worked.
type Made = (Latents, Option<Cached>, Vec<f64>);

/// The formula with the facts of the model of a plan.
fn formula(plan: &Plan) -> Formula {
    let opened = Opened::open(&plan.choice, None, &mut Progress::new(&mut quiet)).expect("a model");
    Formula { facts: opened.family.facts().expect("facts"), asked: Arc::default() }
}

/// The latents of a plan, with a stop after each of the steps `stops`.
fn made(plan: &Plan, stops: &[u64], home: &Path) -> Made {
    let family = formula(plan);
    let compute = Compute::new(device(), DType::F32);
    let mut on_event = quiet;
    let mut progress = Progress::new(&mut on_event);
    let text = family.text(&["a fox"], &plan.settings, &compute, &mut progress).expect("a text").remove(0);
    let conditioning = Conditioning { text, negative: None, given: Conditioned::default() };
    let denoise = Denoise { family: &family, plan, compute: &compute, conditioning: &conditioning, preview: None };
    let mut run = Run::create(plan, home).expect("a run");
    for &stop in stops {
        let mut on_event = |event: &Event| match event {
            Event::Advance { stage: Stage::Denoise, done, .. } if *done == stop => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        denoise.run(&mut run, &mut Progress::new(&mut on_event)).expect_err("a stop");
    }
    let (latents, cached) = denoise.run(&mut run, &mut Progress::new(&mut quiet)).expect("latents");
    run.remove().expect("removed");
    let asked = std::mem::take(&mut *family.asked.lock().expect("one thread"));
    (latents, cached, asked)
}

#[test]
fn a_family_of_a_formula_makes_a_film_like_any_other() {
    let home = tempfile::tempdir().expect("a folder");
    for model in ["wan21-t2v", "ltx2"] {
        let choice = choice(model);
        let mut opened = Opened::open(&choice, None, &mut Progress::new(&mut quiet)).expect("a model");
        let family = Formula { facts: opened.family.facts().expect("facts"), asked: Arc::default() };
        opened.family = Box::new(family.clone());
        let session = Session::of(opened, &choice, Budget::All, machine(home.path()));
        let size = Some("64x64".parse().expect("a size"));
        let request = Request { prompt: "a fox".into(), size, frames: Some(9), steps: Some(3), ..Request::default() };
        let film = session.generate(&request, &mut quiet).expect("a film");
        assert!(film.count == 9 && film.frames.iter().all(|frame| frame.data.iter().all(|&byte| byte == 128)));
        let (steps, asked) =
            (session.plan(&request).expect("a plan").step_count(), family.asked.lock().expect("one").len());
        assert!(asked >= steps, "{model}: {asked} predictions in {steps} steps");
    }
}

fn mean(tensor: &Tensor) -> f64 {
    let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("values");
    values.iter().map(|value| f64::from(value.abs())).sum::<f64>() / values.len() as f64
}

fn parts(of: &Latents) -> Vec<&Tensor> {
    std::iter::once(&of.video).chain(&of.audio).collect()
}

/// The same by hand: EasyCache's rule in the plainest words, around the formula and the library's own sampler.
fn by_hand(plan: &Plan, threshold: f64) -> Made {
    let schedule = plan.phases[0].schedule();
    let mut steppers: Vec<_> =
        (0..2).map(|_| Stepper::new(plan.sampling.clone(), &schedule).expect("a sampler")).collect();
    let mut xs = latents::load_latents(plan.request.noise.as_ref().expect("a file")).expect("noise");
    let (mut asked, mut errors, mut skipped) = (Vec::new(), Vec::new(), 0);
    let mut computed: Vec<(usize, Latents, Latents)> = Vec::new();
    let networks: Vec<usize> = plan.steps().map(|(_, step)| step.expert).collect();
    for (index, (_, step)) in plan.steps().enumerate() {
        let own: Vec<usize> = (0..networks.len()).filter(|&other| networks[other] == step.expert).collect();
        let known: Vec<_> = computed.iter().filter(|(at, ..)| networks[*at] == step.expert).collect();
        let expected = match known.as_slice() {
            [.., (_, x1, v1), (_, x2, v2)] => {
                let all = parts(&xs).into_iter().zip(parts(x1)).zip(parts(v1)).zip(parts(x2)).zip(parts(v2));
                let change = all.map(|((((x, x1), v1), x2), v2)| {
                    let away = |one: &Tensor, other: &Tensor| mean(&(one - other).expect("a difference"));
                    away(v2, v1) / away(x2, x1) * away(x, x2) / mean(v2)
                });
                change.fold(0.0, f64::max)
            }
            _ => f64::INFINITY,
        };
        let begins = index < own[0] + own.len().div_ceil(5);
        let skip = !begins && Some(&index) != own.last() && expected < threshold;
        let v = if skip {
            skipped += 1;
            computed.last().expect("a step").2.clone()
        } else {
            let v = velocities(&xs, step.timestep);
            if let Some((at, _, kept)) = computed.last().filter(|(at, ..)| networks[*at] == step.expert)
                && at + 1 < index
            {
                let off = parts(kept).into_iter().zip(parts(&v)).map(|(kept, v)| relative_l2(kept, v));
                errors.push(off.fold(0.0, f64::max));
            }
            asked.push(step.timestep);
            computed.push((index, xs.clone(), v.clone()));
            v
        };
        let mut next = parts(&xs).into_iter().zip(parts(&v)).zip(&mut steppers);
        let mut step = || next.next().map(|((x, v), stepper)| stepper.step(index, v, x, None).expect("a step"));
        xs = Latents { video: step().expect("pictures"), audio: step() };
    }
    let cached = Cached {
        threshold,
        skipped,
        error: errors.iter().copied().fold(0.0, f64::max),
        mean_error: errors.iter().sum::<f64>() / errors.len().max(1) as f64,
    };
    (xs, Some(cached), asked)
}

fn same(made: &Latents, wanted: &Latents) -> bool {
    parts(made).into_iter().zip(parts(wanted)).all(|(made, wanted)| relative_l2(made, wanted) == 0.0)
}

#[test]
fn steps_are_skipped_by_the_rule() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    {
        // Pictures alone, pictures and sound, two experts.
        for (model, threshold, least) in [("wan21-t2v", 0.05, 8), ("ltx2", 0.08, 4), ("wan22-a14b", 0.05, 8)] {
            let plan = plan(model, 30, Some(threshold), home);
            let (latents, cached, asked) = made(&plan, &[], home);
            let (wanted, figures, at) = by_hand(&plan, threshold);
            assert_eq!(asked, at, "{model}: the transformer works at these timesteps");
            assert!(same(&latents, &wanted), "{model}");
            let (cached, figures) = (cached.expect("figures"), figures.expect("figures"));
            assert_eq!(cached.skipped, figures.skipped, "{model}");
            assert!((least..25).contains(&cached.skipped), "{model}: {cached:?}");
            assert!(
                (cached.error - figures.error).abs() < 1e-5 && cached.error > 0.0,
                "{model}: {cached:?} {figures:?}"
            );
            assert!((cached.mean_error - figures.mean_error).abs() < 1e-5, "{model}: {cached:?} {figures:?}");
            assert!(cached.mean_error <= cached.error && cached.error < 4.0 * threshold, "{model}: {cached:?}");
        }
    }
}

#[test]
fn nothing_is_skipped_unasked() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    {
        let (plain, none, asked) = made(&plan("wan21-t2v", 12, None, home), &[], home);
        assert_eq!((none, asked.len()), (None, 12));
        let (latents, cached, asked) = made(&plan("wan21-t2v", 12, Some(1e-9), home), &[], home);
        let cached = cached.expect("figures");
        assert_eq!((asked.len(), cached.skipped, cached.error), (12, 0, 0.0));
        assert!(same(&latents, &plain), "what is only watched is not changed");
    }
}

#[test]
fn a_stop_at_any_step_changes_nothing() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    {
        for model in ["wan21-t2v", "ltx2", "wan22-a14b"] {
            let plan = plan(model, 15, Some(0.15), home);
            let (wanted, figures, asked) = made(&plan, &[], home);
            assert!(figures.expect("figures").skipped >= 2, "{model}: {figures:?}");
            for stop in 1..15 {
                let (latents, cached, again) = made(&plan, &[stop], home);
                assert!(same(&latents, &wanted), "{model}, stopped after step {stop}");
                assert_eq!((cached, &again), (figures, &asked), "{model}, stopped after step {stop}");
            }
            assert!(same(&made(&plan, &[2, 5, 6, 9, 14], home).0, &wanted), "{model}");
        }
    }
}

#[test]
fn a_film_tells_what_was_skipped() {
    let bench = Bench::new("wan21-t2v");
    let done = bench.generate(&["--steps", "12", "--cache", "0.9", "--guidance", "3", "-o", "out/film/"]);
    done.worked(&["of 12 steps were skipped; where a kept prediction was given up, it was off by"]);
    let recipe: Value = inspect(&bench.path("out/film")).expect("a recipe");
    assert_eq!(recipe["parameters"]["cache"], 0.9);
    let cached = &recipe["cached"];
    assert!(cached["skipped"].as_u64().is_some_and(|skipped| (1..9).contains(&skipped)), "{recipe}");
    assert!(
        cached["error"].as_f64() >= cached["mean_error"].as_f64() && cached["error"].as_f64() > Some(0.0),
        "{recipe}"
    );
    let done = bench.generate(&["--steps", "4", "--cache", "0.0001", "-o", "out/whole/"]);
    done.worked(&["no step was skipped"]);
}

#[test]
fn a_share_that_makes_no_sense_is_refused() {
    let bench = Bench::new("wan21-t2v");
    for share in ["0", "1", "-0.1", "nan", "2"] {
        bench.generate(&["--cache", share]).refused(2, &["`--cache` must be a share above 0 and below 1, not"]);
    }
    bench.generate(&["--cache", "some"]).refused(2, &["--cache"]);
    let plan = |model: &str, sampler: &str| {
        let shared = ["generate", "a fox", "--plan", "--memory", "900GB", "--cache", "0.05"];
        bench.run(&[&shared[..], &["-m", model, "--sampler", sampler]].concat())
    };
    assert!(plan("wan2.1-t2v-1.3b", "unipc").worked(&[]).stdout.contains("cache = 0.05"));
    for (model, sampler) in [("wan2.1-t2v-1.3b", "renoise"), ("fastwan2.2-ti2v-5b", "renoise")] {
        plan(model, sampler).refused(2, &["`--cache` does not go with a recipe of few steps"]);
    }
}
