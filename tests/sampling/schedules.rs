//! Noise, schedules and samplers against torch 2.11 and diffusers 0.42.1; `fixtures/sampling.py` made the numbers.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, IndexOp, Tensor};
use proptest::prelude::*;
use talkie::error::Context;
use talkie::files::parse_json;
use talkie::sampling::noise::{Generator, randn};
use talkie::sampling::schedule::{Sampler, Sampling, Schedule, SchedulerConfig};
use talkie::sampling::stepper::Stepper;

use crate::support::{close, device, fixture, tensors};

const SHIFTS: [f64; 3] = [1.0, 5.0, 16.0];
const RUNS: [usize; 6] = [1, 2, 3, 5, 10, 30];

/// Of a value of noise. Measured: 2.4e-7, one unit in the last place.
const NOISE: f64 = 5e-7;

/// Of the latents after a step. Measured: 4.7e-7.
const STEP: f64 = 1.5e-6;

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.flatten_all().and_then(|flat| flat.to_dtype(DType::F64));
    flat.and_then(|flat| flat.to_vec1()).expect("numbers")
}

fn largest_difference(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

/// The settings that the reference's own configuration file of a variant asks for.
fn sampling(variant: &str) -> Sampling {
    config(variant).sampling().expect(variant)
}

fn config(variant: &str) -> SchedulerConfig {
    parse(&config_text(variant)).expect(variant)
}

fn parse(text: &str) -> talkie::Result<SchedulerConfig> {
    let json = parse_json(text).context(|| "the configuration is not JSON")?;
    serde_json::from_value(json).context(|| "a field does not fit")
}

fn config_text(variant: &str) -> String {
    let file = std::fs::read_to_string(fixture("sampling/configs.json")).expect("configs.json");
    let mut texts: BTreeMap<String, String> = serde_json::from_str(&file).expect("configs.json");
    texts.remove(variant).expect(variant)
}

#[test]
fn noise_is_that_of_torch() {
    for (name, expected) in tensors("sampling/noise.safetensors") {
        let expected = numbers(&expected);
        let actual = match name.split('.').collect::<Vec<_>>()[..] {
            ["single", seed, size] => {
                let (seed, size) = (seed.parse().expect("seed"), size.parse().expect("size"));
                Generator::seed(seed).normal(size)
            }
            ["long"] => {
                let values = Generator::seed(7).normal(300_007);
                values.iter().step_by(997).chain(&values[values.len() - 64..]).copied().collect()
            }
            ["row"] => {
                let mut generator = Generator::seed(3);
                let sizes = [3, 5, 17, 1, 1, 20, 7, 16, 2, 640, 9, 33];
                sizes.into_iter().flat_map(|size| generator.normal(size)).collect()
            }
            ["shaped"] => {
                let noise = randn((1, 16, 3, 4, 5), 11).expect("noise");
                assert_eq!((noise.dims(), noise.dtype()), (&[1, 16, 3, 4, 5][..], DType::F32));
                noise.flatten_all().and_then(|flat| flat.to_vec1()).expect("noise")
            }
            _ => panic!("{name}"),
        };
        let difference = largest_difference(&actual, &expected);
        println!("parity {name}: {difference:.1e}");
        assert!(difference <= NOISE, "{name}: {difference:e}");
    }
}

#[test]
fn schedules_are_those_of_diffusers() {
    let tables = tensors("sampling/schedules.safetensors");
    for sampler in [Sampler::UniPc, Sampler::Euler, Sampler::DpmPp2m] {
        for shift in ["1", "2.5", "3", "5", "8", "12", "16"] {
            let column = |what: &str| numbers(&tables[&format!("{sampler}.{shift}.{what}")]);
            let (mut sigmas, mut timesteps) = (column("sigmas").into_iter(), column("timesteps").into_iter());
            for steps in column("runs").into_iter().map(|steps| steps as usize) {
                let schedule = Schedule::new(sampler, shift.parse().expect("shift"), steps).expect("schedule");
                let mut expected: Vec<f64> = sigmas.by_ref().take(steps).collect();
                expected.push(0.0);
                assert_eq!(schedule.steps(), steps);
                assert_eq!(schedule.sigmas, expected, "{sampler}, shift {shift}, {steps} steps: sigmas");
                let expected: Vec<f64> = timesteps.by_ref().take(steps).collect();
                assert_eq!(schedule.timesteps, expected, "{sampler}, shift {shift}, {steps} steps: times");
            }
            assert_eq!((sigmas.next(), timesteps.next()), (None, None));
        }
    }
}

#[test]
fn given_sigmas_are_used_as_they_are() {
    let tables = tensors("sampling/schedules.safetensors");
    let given = [1.0, 0.9375, 0.8333, 0.625, 0.1];
    for sampler in [Sampler::UniPc, Sampler::Euler] {
        let schedule = Schedule::from_sigmas(sampler, &given).expect("schedule");
        assert_eq!(schedule.sigmas, numbers(&tables[&format!("{sampler}.given.sigmas")]));
        assert_eq!(schedule.timesteps, numbers(&tables[&format!("{sampler}.given.timesteps")]));
        let with_end = [&given[..], &[0.0]].concat();
        assert_eq!(Schedule::from_sigmas(sampler, &with_end).expect("schedule"), schedule);
    }
    let dpm = Schedule::from_sigmas(Sampler::DpmPp2m, &given).expect("schedule");
    assert_eq!(dpm, Schedule::from_sigmas(Sampler::UniPc, &given).expect("schedule"));
}

#[test]
fn absurd_schedules_are_refused() {
    for sampler in Sampler::ALL {
        for (shift, steps) in [
            (5.0, 0),
            (5.0, 1001),
            (5.0, usize::MAX),
            (0.0, 20),
            (-3.0, 20),
            (100.5, 20),
            (f64::NAN, 20),
            (f64::INFINITY, 20),
            (1e-300, 20),
        ] {
            let error = Schedule::new(sampler, shift, steps).expect_err("an absurd schedule");
            assert!(error.advice().is_some() && error.report().len() < 400, "{}", error.report());
        }
        let many: Vec<f64> = (0..1001).map(|i| 1.0 - f64::from(i) / 2000.0).collect();
        for sigmas in [
            &[][..],
            &[0.0],
            &[1.5, 0.5],
            &[1.0, 0.5, 0.5],
            &[0.5, 0.7],
            &[1.0, f64::NAN],
            &[f64::INFINITY],
            &[0.9, -0.1],
            &[0.9, 0.0, 0.0],
            &[0.9, 0.0, 0.5],
            &[1.0, 1.0 - 1e-9],
            &[0.5, 1e-300],
            &many,
        ] {
            let error = Schedule::from_sigmas(sampler, sigmas).expect_err("absurd sigmas");
            assert!(error.advice().is_some() && error.report().len() < 400, "{}", error.report());
        }
    }
}

#[test]
fn samplers_have_names() {
    for sampler in Sampler::ALL {
        assert_eq!(sampler.name().parse::<Sampler>().expect("a name"), sampler);
        assert_eq!(serde_json::to_string(&sampler).expect("json"), format!("\"{sampler}\""));
    }
    let report = "ddim".parse::<Sampler>().expect_err("not a sampler").report();
    assert_eq!(report, "error: `ddim` is not a sampler\n  try: use `unipc`, `euler`, `dpm++` or `renoise`");
}

#[test]
fn configurations_are_read_as_diffusers_reads_them() {
    let plain = Sampling::from(Sampler::UniPc);
    assert_eq!(sampling("unipc"), plain);
    assert_eq!(sampling("unipc-1"), Sampling { order: 1, ..plain.clone() });
    assert_eq!(sampling("unipc-uncorrected"), Sampling { uncorrected: vec![0, 2], ..plain });
    assert_eq!(sampling("euler"), Sampler::Euler.into());
    assert_eq!(sampling("dpm++-heun"), Sampling { heun: true, ..Sampler::DpmPp2m.into() });
    for variant in ["unipc", "euler", "dpm++"] {
        assert_eq!(config(variant).flow_shift().expect(variant), 7.0);
    }
    let bare = parse(r#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#).expect("bare");
    assert_eq!(bare.flow_shift().expect("shift"), 1.0);
}

/// Changes one field of the reference's configuration and returns the whole error.
fn refusal(variant: &str, field: &str, value: serde_json::Value) -> String {
    let text = config_text(variant).replace("-Infinity", "null");
    let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).expect("json");
    if value == "left out" {
        fields.remove(field)
    } else {
        fields.insert(field.to_string(), value)
    };
    let config = parse(&serde_json::to_string(&fields).expect("json"));
    let error = config.and_then(|config| config.flow_shift().and(config.sampling().map(|_| ())));
    error.expect_err(field).report()
}

#[test]
fn settings_that_are_not_done_are_refused_by_name() {
    let cases = r#"[
        ["unipc", "_class_name", "DDIMScheduler"],
        ["unipc", "use_karras_sigmas", true],
        ["unipc", "use_exponential_sigmas", true],
        ["unipc", "use_beta_sigmas", true],
        ["unipc", "use_dynamic_shifting", true],
        ["unipc", "shift_terminal", 0.1],
        ["unipc", "thresholding", true],
        ["unipc", "solver_p", {"order": 1}],
        ["unipc", "predict_x0", false],
        ["unipc", "prediction_type", "epsilon"],
        ["unipc", "prediction_type", "left out"],
        ["unipc", "use_flow_sigmas", false],
        ["unipc", "use_flow_sigmas", "left out"],
        ["unipc", "final_sigmas_type", "sigma_min"],
        ["unipc", "lower_order_final", false],
        ["unipc", "num_train_timesteps", 500],
        ["unipc", "solver_order", 4],
        ["unipc", "solver_order", 0],
        ["unipc", "solver_type", "bh1"],
        ["euler", "use_dynamic_shifting", true],
        ["euler", "use_karras_sigmas", true],
        ["euler", "invert_sigmas", true],
        ["euler", "stochastic_sampling", true],
        ["dpm++", "algorithm_type", "sde-dpmsolver++"],
        ["dpm++", "use_lu_lambdas", true],
        ["dpm++", "solver_order", 3],
        ["dpm++", "solver_type", "bh3"]
    ]"#;
    let cases: Vec<(String, String, serde_json::Value)> = serde_json::from_str(cases).expect("cases");
    for (variant, field, value) in cases {
        let report = refusal(&variant, &field, value);
        assert!(report.contains(&format!("`{field}`")) && report.contains("supports"), "{report}");
        assert!(report.contains("try: "), "{report}");
    }
    assert!(refusal("unipc", "flow_shift", serde_json::json!(-1.0)).contains("-1.0 is not a flow shift"));
    assert!(refusal("unipc", "flow_shift", serde_json::json!("high")).contains("invalid type"));
    assert!(parse("{\"_class_name\":").is_err());
}

/// The toy model of the fixture: v = tanh(a·x + b·t/1000).
struct Toy {
    a: Tensor,
    b: Tensor,
    x: Tensor,
}

impl Toy {
    fn load(tables: &HashMap<String, Tensor>) -> Self {
        let [a, b, x] = ["a", "b", "x"].map(|name| tables[name].clone());
        Self { a, b, x }
    }

    fn velocity(&self, x: &Tensor, timestep: f64) -> Tensor {
        let time = (&self.b * (timestep / 1000.0)).expect("b·t");
        self.a.matmul(x).and_then(|ax| ax.broadcast_add(&time)).and_then(|sum| sum.tanh()).expect("velocity")
    }

    /// Steps `from` to `to` of a run; the latents after each.
    fn walk(&self, stepper: &mut Stepper, times: &[f64], start: &Tensor, from: usize) -> Vec<Tensor> {
        let mut x = start.clone();
        let step = |(index, time): (usize, &f64)| {
            x = stepper.step(index, &self.velocity(&x, *time), &x, None).expect("step");
            x.clone()
        };
        times.iter().enumerate().skip(from).map(step).collect()
    }
}

#[test]
fn runs_take_the_way_of_diffusers() {
    let tables = tensors("sampling/trajectories.safetensors");
    let toy = Toy::load(&tables);
    let variants = ["unipc", "unipc-1", "unipc-3", "unipc-uncorrected", "euler", "dpm++", "dpm++-1", "dpm++-heun"];
    for variant in variants {
        for shift in SHIFTS {
            for steps in RUNS {
                let sampling = sampling(variant);
                let schedule = Schedule::new(sampling.sampler, shift, steps).expect("schedule");
                let mut stepper = Stepper::new(sampling, &schedule).expect("stepper");
                let latents = toy.walk(&mut stepper, &schedule.timesteps, &toy.x, 0);
                let expected = &tables[&format!("{variant}.{shift}.{steps}")];
                for (index, latent) in latents.iter().enumerate() {
                    let what = format!("{variant}, shift {shift}, step {index} of {steps}");
                    close(latent, &expected.i(index).expect("latent"), STEP, &what);
                }
            }
        }
    }
}

#[test]
fn a_restored_run_goes_on_bit_for_bit() {
    let tables = tensors("sampling/trajectories.safetensors");
    let toy = Toy::load(&tables);
    for variant in ["unipc", "unipc-1", "unipc-3", "euler", "dpm++", "dpm++-1"] {
        let sampling = sampling(variant);
        let schedule = Schedule::new(sampling.sampler, 5.0, 6).expect("schedule");
        let fresh = || Stepper::new(sampling.clone(), &schedule).expect("stepper");
        let whole = toy.walk(&mut fresh(), &schedule.timesteps, &toy.x, 0);
        for done in 0..=6 {
            let mut first = fresh();
            let before = toy.walk(&mut first, &schedule.timesteps[..done], &toy.x, 0);
            let folder = tempfile::tempdir().expect("folder");
            let file = folder.path().join("state.safetensors");
            let state: HashMap<String, Tensor> = first.state().into_iter().collect();
            candle_core::safetensors::save(&state, &file).expect("saved");

            let mut second = fresh();
            second.restore(done, candle_core::safetensors::load(&file, &device()).expect("loaded")).expect("state");
            let start = before.last().unwrap_or(&toy.x);
            let after = toy.walk(&mut second, &schedule.timesteps, start, done);
            for (resumed, expected) in after.iter().zip(&whole[done..]) {
                assert_eq!(numbers(resumed), numbers(expected), "{variant} after {done} steps");
            }
        }
    }
}

#[test]
fn state_that_does_not_fit_is_refused() {
    let tables = tensors("sampling/trajectories.safetensors");
    let toy = Toy::load(&tables);
    let schedule = Schedule::new(Sampler::UniPc, 5.0, 6).expect("schedule");
    let mut stepper = Stepper::new(Sampler::UniPc, &schedule).expect("stepper");
    toy.walk(&mut stepper, &schedule.timesteps[..3], &toy.x, 0);
    let good: HashMap<String, Tensor> = stepper.state().into_iter().collect();
    assert_eq!(good.len(), 3);

    let mut target = Stepper::new(Sampler::UniPc, &schedule).expect("stepper");
    for name in ["x0.0", "x0.1", "last_sample"] {
        let mut missing = good.clone();
        missing.remove(name);
        let mut narrow = good.clone();
        narrow.insert(name.to_string(), Tensor::zeros(3, DType::F32, &device()).expect("zeros"));
        let mut double = good.clone();
        double.insert(name.to_string(), good[name].to_dtype(DType::F64).expect("f64"));
        for (bad, why) in [(missing, "is missing"), (narrow, "has shape"), (double, "is f64, not f32")] {
            let report = target.restore(3, bad).expect_err(why).report();
            assert!(report.contains(why) && report.contains("try: "), "{report}");
        }
    }
    assert!(target.restore(7, good.clone()).expect_err("beyond").to_string().contains("has done 7 steps"));
    assert!(target.state().is_empty(), "a refused state changes nothing");
    target.restore(3, good).expect("the state fits");

    let wide = Tensor::zeros((8, 4), DType::F32, &device()).expect("zeros");
    assert!(target.step(3, &wide, &wide, None).expect_err("wide").to_string().contains("the state has shape [8, 3]"));
    assert!(
        target.step(3, &wide, &toy.x, None).expect_err("wide").to_string().contains("the velocity has shape [8, 4]")
    );
    assert!(target.step(4, &toy.x, &toy.x, None).expect_err("order").to_string().contains("step 3 of 6 is next"));
}

#[test]
fn a_small_shift_does_not_start_above_one() {
    let schedule = Schedule::new(Sampler::Euler, 0.01, 1).expect("schedule");
    assert_eq!((schedule.sigmas, schedule.timesteps), (vec![1.0, 0.0], vec![1000.0]));
}

#[test]
fn steppers_refuse_what_they_cannot_do() {
    let schedule = Schedule::new(Sampler::Euler, 5.0, 6).expect("schedule");
    assert_eq!(schedule.sigmas[0], 1.0);
    assert!(Stepper::new(Sampler::Euler, &schedule).is_ok());
    assert!(Stepper::new(Sampler::UniPc, &schedule).is_err(), "sigma 1 is infinite for a multistep sampler");
    for (sampler, order) in
        [(Sampler::UniPc, 4), (Sampler::DpmPp2m, 3), (Sampler::Euler, 2), (Sampler::Renoise, 2), (Sampler::UniPc, 0)]
    {
        let schedule = Schedule::new(sampler, 5.0, 6).expect("schedule");
        assert!(Stepper::new(Sampling { order, ..sampler.into() }, &schedule).is_err(), "{sampler} {order}");
    }
    for sigmas in [vec![], vec![0.0], vec![0.9, 0.5], vec![0.9, f64::NAN, 0.0], vec![0.5, 0.7, 0.0]] {
        let schedule = Schedule { sigmas, timesteps: vec![] };
        assert!(Stepper::new(Sampler::UniPc, &schedule).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_schedule_in_range_falls_to_zero(shift in 0.01f64..=100.0, steps in 1usize..=1000, which in 0usize..Sampler::ALL.len()) {
        let schedule = Schedule::new(Sampler::ALL[which], shift, steps).expect("schedule");
        prop_assert!(schedule.sigmas.windows(2).all(|pair| pair[1] < pair[0]) && schedule.sigmas[0] <= 1.0);
        prop_assert!(schedule.timesteps.windows(2).all(|pair| pair[1] <= pair[0]));
        prop_assert!(Stepper::new(Sampler::ALL[which], &schedule).is_ok());
    }

    #[test]
    fn no_configuration_panics(text in "\\{(\"[a-z_]{1,12}\": (1|-3|true|null|\"x\"|\\[\\])(, )?){0,4}\\}") {
        let _ = parse(&text).and_then(|config| config.sampling());
    }
}
