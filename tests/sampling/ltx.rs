//! LTX-2's noise levels and guidance against diffusers 0.42.1; `fixtures/ltx_sampling.py` made the numbers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use candle_core::{DType, Tensor};
use talkie::families::family::{Denoiser, DenoiserInput, Prompt};
use talkie::families::latents::Latents;
use talkie::pipeline::guidance::{passes, velocity};
use talkie::plan::{Pass, Step};
use talkie::sampling::Scales;
use talkie::sampling::schedule::{Sampler, Schedule, SchedulerConfig};

use crate::support::{close, device, fixture, tensors};

/// Of a guided velocity. Measured: 8.8e-8.
const GUIDED: f64 = 2.7e-7;

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn near(made: &[f64], expected: &[f64], bar: f64, name: &str) {
    assert_eq!(made.len(), expected.len(), "{name}");
    let worst = made.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= bar, "{name}: {worst:e}");
}

#[test]
fn ltx_noise_levels_are_those_of_diffusers() {
    let texts = std::fs::read_to_string(fixture("ltx-sampling/configs.json")).unwrap();
    let texts: BTreeMap<String, String> = serde_json::from_str(&texts).unwrap();
    let config: SchedulerConfig = serde_json::from_str(&texts["dev"]).unwrap();
    assert_eq!(config.even_sampling().unwrap().sampler, Sampler::Euler);
    config.sampling().expect_err("a shift for the number of tokens is LTX's own");
    let expected = tensors("ltx-sampling/schedules.safetensors");
    let mut seen = 0;
    for name in expected.keys().filter_map(|name| name.strip_suffix(".sigmas")) {
        let schedule = match name.split('.').collect::<Vec<_>>()[..] {
            ["dev", tokens, steps] => {
                let shift = config.flow_shift_at(tokens.parse().unwrap()).unwrap();
                Schedule::even(shift, config.shift_terminal.unwrap(), steps.parse().unwrap()).unwrap()
            }
            _ => Schedule::from_sigmas(Sampler::Euler, &numbers(&expected[&format!("{name}.sigmas")])).unwrap(),
        };
        near(&schedule.sigmas, &numbers(&expected[&format!("{name}.sigmas")]), 1e-6, name);
        near(&schedule.timesteps, &numbers(&expected[&format!("{name}.timesteps")]), 1e-3, name);
        seen += 1;
    }
    assert!(seen > 60, "{seen} schedules");
}

#[test]
fn ltx_schedules_of_one_step_and_of_any_film_are_numbers() {
    // With one step, nothing is left to be stretched: the reference divides by zero.
    assert_eq!(Schedule::even(2.0, 0.1, 1).unwrap().sigmas, [1.0, 0.0]);
    for (shift, terminal) in
        [(0.0, 0.1), (f64::NAN, 0.1), (f64::INFINITY, 0.1), (2.0, 1.0), (2.0, -0.1), (2.0, f64::NAN)]
    {
        Schedule::even(shift, terminal, 4).expect_err("no schedule");
    }
    Schedule::even(1e30, 0.1, 4).expect_err("sigmas that are all one");
}

/// Answers with what the reference's transformer predicted.
struct Recorded(HashMap<String, Tensor>);

impl Denoiser for Recorded {
    fn velocity(&self, _: DenoiserInput<'_>, prompt: Prompt, pass: Pass) -> talkie::Result<Latents> {
        let name = match (pass, prompt) {
            (Pass::Full, Prompt::Negative) => "uncond",
            (Pass::Full, Prompt::Positive) => "cond",
            (Pass::Perturbed, _) => "stg",
            (Pass::Isolated, _) => "isolated",
        };
        let made = self.0[&format!("guidance.{name}")].clone();
        Ok(Latents { video: made.clone(), audio: Some((made * 2.0).unwrap()) })
    }
}

#[test]
fn ltx_guidance_mixes_as_diffusers_does() {
    let expected = tensors("ltx-sampling/schedules.safetensors");
    let sigma = numbers(&expected["guidance.sigma"])[0];
    let sample = &expected["guidance.sample"];
    for (row, scales) in
        expected["guidance.scales"].to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap().iter().enumerate()
    {
        let &[text, stg, modality, rescale] = scales.as_slice() else { panic!("four scales") };
        let guidance = Scales { text, stg, modality, rescale };
        let step = Step { sigma, timestep: 1000.0 * sigma, expert: 0, guidance, audio_guidance: Some(guidance) };
        // The sound of twice everything: its guidance is that of the pictures, doubled.
        let latents = Latents { video: sample.clone(), audio: Some((sample * 2.0).unwrap()) };
        let at = DenoiserInput { latents: &latents, timestep: step.timestep, pin: None };
        let made = velocity(&Recorded(expected.clone()), at, &step, true).unwrap();
        let wanted = &expected[&format!("guidance.velocity.{row}")];
        close(&made.video, wanted, GUIDED, &format!("guidance {row}"));
        close(&made.audio.unwrap(), &(wanted * 2.0).unwrap(), GUIDED, &format!("guidance {row}, sound"));
    }
}

/// Answers anything, and keeps which passes were asked for.
#[derive(Default)]
struct Asked(Mutex<Vec<(Pass, Prompt)>>);

impl Denoiser for Asked {
    fn velocity(&self, at: DenoiserInput<'_>, prompt: Prompt, pass: Pass) -> talkie::Result<Latents> {
        self.0.lock().unwrap().push((pass, prompt));
        Ok(at.latents.clone())
    }
}

/// What `talkie bench` counts is what is computed: the same passes in the same order, of every mixture of scales.
#[test]
fn the_passes_of_a_step_are_those_that_are_made() {
    let scales = |bits: usize| Scales {
        text: [0.0, 1.0, 4.0][bits % 3],
        stg: [0.0, 0.5][bits / 3 % 2],
        modality: [1.0, 3.0][bits / 6 % 2],
        rescale: 0.0,
    };
    let latents = Tensor::ones((1, 1, 1, 2, 2), DType::F32, &device()).unwrap();
    let mut counts = [0; 5];
    for (film, sound, negative) in (0..12 * 13 * 2).map(|case| (case % 12, case / 12 % 13, case / 156 == 1)) {
        let audio_guidance = (sound < 12).then(|| scales(sound));
        let step = Step { sigma: 0.5, timestep: 500.0, expert: 0, guidance: scales(film), audio_guidance };
        let audio = audio_guidance.map(|_| latents.clone());
        let latents = Latents { video: latents.clone(), audio };
        let at = DenoiserInput { latents: &latents, timestep: step.timestep, pin: None };
        let asked = Asked::default();
        velocity(&asked, at, &step, negative).unwrap();
        let asked = asked.0.into_inner().unwrap();
        assert_eq!(asked, passes(&step, negative), "{step:?}, a negative prompt: {negative}");
        counts[asked.len()] += 1;
    }
    assert!(counts[0] == 0 && counts[1..].iter().all(|count| *count > 0), "from one pass to four: {counts:?}");
}
