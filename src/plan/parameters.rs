//! The sampling parameters that have no field of their own: what `--set KEY=VALUE` reaches.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::{Value, json};

use super::{Geometry, Shape, Step, Streams, Tiling, few_steps};
use crate::compute::device;
use crate::error::{Error, Result, nearest};
use crate::model::catalogue::{self, AvSampling};
use crate::request::Request;
use crate::sampling::Scales;
use crate::sampling::schedule::{Sampler, Sampling, Schedule, TRAIN_TIMESTEPS, check_flow_shift};

/// Every key, and what it is.
const KEYS: [(&str, &str); 10] = [
    ("boundary_ratio", "share of the noise above which the first of two transformers works, 0 to 1"),
    ("fp8_matmul", "whether weights of eight bits are multiplied with numbers of eight bits, on CUDA: true or false"),
    ("guidance_2", "guidance of the second of two transformers"),
    ("sigmas", "the shares of noise of the steps, falling, separated by commas"),
    ("solver_order", "order of the multistep samplers"),
    ("solver_type", "the variant of dpm++: midpoint or heun"),
    ("stream", "networks of which a block at a time is in memory: none, or some of text,transformer"),
    ("text_length", "tokens that a prompt may have"),
    ("tile", "side of the autoencoder's tiles in pixels, 0 for none"),
    ("tile_stride", "distance from one tile to the next in pixels, less than `tile`"),
];

/// The keys of models that make pictures and sound at once.
const SOUND_KEYS: [(&str, &str); 13] = [
    ("audio_guidance", "guidance of the sound"),
    ("audio_modality_scale", "modality_scale of the sound"),
    ("audio_rescale", "rescale of the sound"),
    ("audio_stg_scale", "stg_scale of the sound"),
    ("cross_timestep", "whether pictures and sound are told each other's timestep: true or false"),
    ("image_crf", "how much a first picture is compressed before it is encoded, 0 (not at all) to 51"),
    ("modality_scale", "guidance away from pictures and sound that do not see each other, 1 for none"),
    ("refine_sigmas", "the sigmas of the second stage, separated by commas"),
    ("rescale", "how far the guided prediction goes back to the deviation of the plain one, 0 to 1"),
    ("shift_terminal", "the last sigma before 0 that the schedule is stretched to, 0 for no stretching"),
    ("stages", "1, or 2 for a second stage on a film of twice the sides"),
    ("stg_blocks", "numbers of the blocks that spatio-temporal guidance perturbs, separated by commas"),
    ("stg_scale", "spatio-temporal guidance, 0 for none"),
];

/// The sigmas of a second stage where the preset names none: those of LTX-2's distilled models.
const REFINE_SIGMAS: [f64; 3] = [0.909_375, 0.725, 0.421_875];

const OWN: &str = "leave it out to have the model's own value";

/// The parameters, read and checked.
pub(super) struct Parameters {
    pub sampling: Sampling,
    pub text_length: usize,
    pub tiling: Option<Tiling>,
    pub streams: Option<Streams>,
    pub fp8: bool,
    pub stg_blocks: Vec<usize>,
    pub cross_timestep: bool,
    pub image_crf: u8,
    guidance: Scales,
    guidance_2: f64,
    audio_guidance: Option<Scales>,
    boundary: Option<f64>,
    cache: Option<f64>,
    shift_terminal: f64,
    sigmas: Option<Vec<f64>>,
    refine_sigmas: Vec<f64>,
}

impl Parameters {
    pub(super) fn read(request: &Request, geometry: &Geometry, defaults: &catalogue::Sampling) -> Result<Self> {
        check_keys(request, geometry)?;
        let text = finite("guidance", request.guidance.unwrap_or(defaults.guidance), 0.0, 1000.0)?;
        // As in the reference: a guidance of the user's own holds for both transformers unless the second's is given.
        let fallback = if request.guidance.is_some() { None } else { defaults.guidance_2 };
        let guidance_2 = value(request, "guidance_2")?.or(fallback).unwrap_or(text);
        let text_length = value(request, "text_length")?.unwrap_or(geometry.text_length);
        if !(1..=geometry.text_length).contains(&text_length) {
            return Err(Error::usage(format!(
                "`text_length` is {text_length}, where 1 to {} belongs",
                geometry.text_length
            ))
            .hint(OWN));
        }
        let av = defaults.av.as_ref().filter(|_| geometry.sound.is_some());
        let own = |pick: fn(&AvSampling) -> f64, none: f64| av.map_or(none, pick);
        let scale = |key: &str, own: f64, most: f64| finite(key, value(request, key)?.unwrap_or(own), 0.0, most);
        // Where nothing would be perturbed, the pass that it takes is saved.
        let stg =
            |key: &str, own: f64| scale(key, own, 1000.0).map(|scale| if geometry.perturbs { scale } else { 0.0 });
        let guidance = Scales {
            text,
            stg: stg("stg_scale", own(|av| av.stg_scale, 0.0))?,
            modality: scale("modality_scale", own(|av| av.modality_scale, 1.0), 1000.0)?,
            rescale: scale("rescale", own(|av| av.rescale, 0.0), 1.0)?,
        };
        let audio_guidance = Scales {
            text: scale("audio_guidance", own(|av| av.audio_guidance, text), 1000.0)?,
            stg: stg("audio_stg_scale", own(|av| av.audio_stg_scale, 0.0))?,
            modality: scale("audio_modality_scale", own(|av| av.audio_modality_scale, 1.0), 1000.0)?,
            rescale: scale("audio_rescale", own(|av| av.audio_rescale, 0.0), 1.0)?,
        };
        let image_crf = value(request, "image_crf")?.unwrap_or(av.map_or(0, |av| av.image_crf));
        Ok(Self {
            sampling: sampling(request, geometry, defaults)?,
            text_length,
            tiling: tiling(request, geometry)?,
            streams: value(request, "stream")?,
            fp8: fp8(request)?,
            stg_blocks: list(request, "stg_blocks")?.unwrap_or(av.map_or_else(Vec::new, |av| av.stg_blocks.clone())),
            cross_timestep: value(request, "cross_timestep")?.unwrap_or(av.is_some_and(|av| av.cross_timestep)),
            image_crf: finite("image_crf", f64::from(image_crf), 0.0, 51.0)? as u8,
            guidance,
            guidance_2: finite("guidance_2", guidance_2, 0.0, 1000.0)?,
            audio_guidance: geometry.sound.is_some().then_some(audio_guidance),
            boundary: match value(request, "boundary_ratio")? {
                Some(boundary) => Some(finite("boundary_ratio", boundary, 0.0, 1.0)?),
                None => geometry.boundary,
            },
            cache: request.cache,
            shift_terminal: scale("shift_terminal", geometry.scheduler.shift_terminal.unwrap_or(0.0), 0.999)?,
            sigmas: list(request, "sigmas")?,
            refine_sigmas: refine_sigmas(request, geometry, defaults)?,
        })
    }

    /// The shape of the film and, where there are two stages, of the first: half the sides.
    pub(super) fn shapes(
        &self,
        shape: Shape,
        geometry: &Geometry,
        notes: &mut Vec<String>,
    ) -> Result<(Shape, Option<Shape>)> {
        if self.refine_sigmas.is_empty() {
            return Ok((shape, None));
        }
        shape.in_two(geometry, notes).map(|(shape, first)| (shape, Some(first)))
    }

    /// The sigmas and timesteps of each stage: the user's own, the preset's, or those of so many steps.
    pub(super) fn schedules(
        &self,
        request: &Request,
        geometry: &Geometry,
        defaults: &catalogue::Sampling,
        shape: &Shape,
    ) -> Result<Schedules> {
        let sampler = self.sampling.sampler;
        let given = self.sigmas.as_ref().or(Some(&defaults.sigmas).filter(|sigmas| !sigmas.is_empty()));
        let flow_shift = match request.flow_shift {
            // Even where sigmas are given and it shifts nothing: the recipe tells it.
            Some(shift) => check_flow_shift(shift).map(|()| shift)?,
            None if geometry.own_shift || defaults.few_steps.is_some() => {
                defaults.flow_shift_at(shape.width as u32, shape.height as u32)
            }
            // Given sigmas are not shifted, and no film is too large for them.
            None if given.is_some() => geometry.scheduler.flow_shift_at(shape.tokens).unwrap_or(1.0),
            None => geometry.scheduler.flow_shift_at(shape.tokens)?,
        };
        let steps = request.steps.unwrap_or(defaults.steps as usize);
        let first = match (&defaults.few_steps, given) {
            (Some(recipe), _) => few_steps::schedule(recipe, request.steps)?,
            (None, Some(sigmas)) => of_sigmas(sampler, sigmas, request.steps)?,
            (None, None) if geometry.even_sigmas && !sampler.is_multistep() => {
                Schedule::even(flow_shift, self.shift_terminal, steps)?
            }
            (None, None) => Schedule::new(sampler, flow_shift, steps)?,
        };
        let second = match self.refine_sigmas.as_slice() {
            [] => None,
            sigmas => Some(Schedule::from_sigmas(sampler, sigmas)?),
        };
        Ok(Schedules { flow_shift, stages: std::iter::once(first).chain(second).collect() })
    }

    /// The steps of every stage. A second stage is not guided: it only refines.
    pub(super) fn steps(&self, schedules: &Schedules, geometry: &Geometry) -> Vec<Step> {
        let boundary = self.boundary.filter(|_| geometry.boundary.is_some()).map(|ratio| ratio * TRAIN_TIMESTEPS);
        let step = |stage: usize, timestep: f64, sigma: f64| {
            let expert = usize::from(boundary.is_some_and(|boundary| timestep < boundary));
            let (guidance, audio_guidance) = match (stage, expert) {
                (0, 0) => (self.guidance, self.audio_guidance),
                (0, _) => (Scales { text: self.guidance_2, ..self.guidance }, self.audio_guidance),
                _ => (Scales::text(1.0), self.audio_guidance.map(|_| Scales::text(1.0))),
            };
            Step { sigma, timestep, expert, stage, guidance, audio_guidance }
        };
        let stages = schedules.stages.iter().enumerate();
        let steps = stages.flat_map(|(stage, schedule)| {
            let points = schedule.timesteps.iter().zip(&schedule.sigmas);
            points.map(move |(&timestep, &sigma)| step(stage, timestep, sigma)).collect::<Vec<_>>()
        });
        steps.collect()
    }

    /// Every key with its value, for the plan and the recipe.
    pub(super) fn listed(&self, schedules: &Schedules, geometry: &Geometry) -> BTreeMap<String, Value> {
        let mut listed = BTreeMap::from([
            ("guidance".to_owned(), json!(self.guidance.text)),
            ("flow_shift".to_owned(), json!(schedules.flow_shift)),
            ("sigmas".to_owned(), json!(schedules.stages[0].sigmas)),
            ("solver_order".to_owned(), json!(self.sampling.order)),
            ("text_length".to_owned(), json!(self.text_length)),
            ("tile".to_owned(), json!(self.tiling.map_or(0, |tiling| tiling.min_height))),
            ("tile_stride".to_owned(), json!(self.tiling.map_or(0, |tiling| tiling.stride_height))),
        ]);
        if self.sampling.sampler == Sampler::DpmPp2m {
            listed.insert("solver_type".into(), json!(if self.sampling.heun { "heun" } else { "midpoint" }));
        }
        if self.fp8 {
            listed.insert("fp8_matmul".into(), json!(true));
        }
        if let Some(cache) = self.cache {
            listed.insert("cache".into(), json!(cache));
        }
        if let Some(boundary) = self.boundary {
            listed.insert("guidance_2".into(), json!(self.guidance_2));
            listed.insert("boundary_ratio".into(), json!(boundary));
        }
        if let Some(audio) = &self.audio_guidance {
            listed.extend(self.listed_sound(audio, schedules));
        }
        if geometry.even_sigmas {
            listed.insert("shift_terminal".into(), json!(self.shift_terminal));
        }
        listed
    }

    fn listed_sound(&self, audio: &Scales, schedules: &Schedules) -> impl Iterator<Item = (String, Value)> {
        let values = [
            ("audio_guidance", json!(audio.text)),
            ("audio_modality_scale", json!(audio.modality)),
            ("audio_rescale", json!(audio.rescale)),
            ("audio_stg_scale", json!(audio.stg)),
            ("cross_timestep", json!(self.cross_timestep)),
            ("image_crf", json!(self.image_crf)),
            ("modality_scale", json!(self.guidance.modality)),
            ("refine_sigmas", json!(schedules.stages.get(1).map_or(&[][..], |stage| &stage.sigmas))),
            ("rescale", json!(self.guidance.rescale)),
            ("stages", json!(schedules.stages.len())),
            ("stg_blocks", json!(self.stg_blocks)),
            ("stg_scale", json!(self.guidance.stg)),
        ];
        values.into_iter().map(|(key, value)| (key.to_owned(), value))
    }
}

/// The schedule of given sigmas, of which there are as many as `steps` where these are asked for.
fn of_sigmas(sampler: Sampler, sigmas: &[f64], steps: Option<usize>) -> Result<Schedule> {
    let schedule = Schedule::from_sigmas(sampler, sigmas)?;
    match steps.filter(|&steps| steps != schedule.steps()) {
        None => Ok(schedule),
        Some(steps) => {
            Err(Error::usage(format!("`--steps {steps}` and the {} steps of the sigmas disagree", schedule.steps()))
                .hint("leave `--steps` out, or give as many sigmas: `--set sigmas=1,0.75,0.5,0.25`"))
        }
    }
}

/// The schedules of all stages.
pub(super) struct Schedules {
    pub flow_shift: f64,
    pub stages: Vec<Schedule>,
}

/// The sigmas of a second stage; none where there is one stage.
fn refine_sigmas(request: &Request, geometry: &Geometry, defaults: &catalogue::Sampling) -> Result<Vec<f64>> {
    let given = list(request, "refine_sigmas")?;
    let stages = value::<usize>(request, "stages")?;
    match (stages, geometry.upsamples) {
        (Some(1), _) if given.is_some() => {
            Err(Error::usage("`refine_sigmas` has no use with one stage").hint("leave one of the two out"))
        }
        (Some(1), _) => Ok(Vec::new()),
        (None | Some(2), true) => Ok(given.unwrap_or_else(|| match stages {
            Some(_) if defaults.refine_sigmas.is_empty() => REFINE_SIGMAS.to_vec(),
            _ => defaults.refine_sigmas.clone(),
        })),
        (None, false) if given.is_none() => Ok(Vec::new()),
        (None | Some(2), false) => {
            Err(Error::usage(format!("{} has no latent upsampler for a second stage", geometry.title))
                .hint("put one into its folder `latent_upsampler`, or use one stage: `--set stages=1`"))
        }
        (Some(stages), _) => Err(Error::usage(format!("`stages` is {stages}, where 1 or 2 belongs")).hint(OWN)),
    }
}

fn check_keys(request: &Request, geometry: &Geometry) -> Result<()> {
    let sound = SOUND_KEYS.iter().filter(|_| geometry.sound.is_some());
    let names: Vec<&str> = KEYS.iter().chain(sound).map(|(name, _)| *name).collect();
    for key in request.set.keys() {
        if geometry.sound.is_none() && SOUND_KEYS.iter().any(|(name, _)| name == key) && !names.contains(&key.as_str())
        {
            return Err(Error::usage(format!("`--set {key}` has no use here: {} makes no sound", geometry.title))
                .hint("leave it out"));
        }
        if !names.contains(&key.as_str()) {
            let near = nearest(key, &names);
            let list = if near.is_empty() { names.join(", ") } else { near.join(", ") };
            return Err(Error::usage(format!("`--set {key}` is not a parameter of this model"))
                .hint(format!("did you mean one of: {list}? `--plan` lists them all with their values")));
        }
        if matches!(key.as_str(), "guidance_2" | "boundary_ratio") && geometry.boundary.is_none() {
            return Err(Error::usage(format!("`--set {key}` has no use here: {} has one transformer", geometry.title))
                .hint("leave it out"));
        }
    }
    Ok(())
}

/// The recipe's sampler or the folder's, or the user's with its usual settings, and the user's settings over them.
fn sampling(request: &Request, geometry: &Geometry, defaults: &catalogue::Sampling) -> Result<Sampling> {
    let scheduler = &geometry.scheduler;
    let own = match &defaults.few_steps {
        Some(recipe) => Ok(recipe.sampler.into()),
        None if geometry.even_sigmas => scheduler.even_sampling(),
        None => scheduler.sampling(),
    };
    let mut sampling = match (request.sampler, own) {
        (Some(sampler), Ok(own)) if own.sampler == sampler => own,
        (Some(sampler), _) => sampler.into(),
        (None, own) => own?,
    };
    if let Some(order) = value(request, "solver_order")? {
        let most = sampling.sampler.max_order();
        if !(1..=most).contains(&order) {
            return Err(Error::usage(format!(
                "`solver_order` is {order}, where 1 to {most} belongs for `{}`",
                sampling.sampler
            ))
            .hint(OWN));
        }
        sampling.order = order;
    }
    if let Some(kind) = request.set.get("solver_type") {
        sampling.heun = match (sampling.sampler, kind.as_str()) {
            (Sampler::DpmPp2m, "heun") => true,
            (Sampler::DpmPp2m, "midpoint") => false,
            _ => {
                return Err(Error::usage(format!(
                    "`--set solver_type={kind}` is not a variant of `{}`",
                    sampling.sampler
                ))
                .hint("`--sampler dpm++` has `midpoint` and `heun`; the other samplers have one variant each"));
            }
        };
    }
    Ok(sampling)
}

/// Products of eight bits are cuBLASLt's.
fn fp8(request: &Request) -> Result<bool> {
    let on = value(request, "fp8_matmul")?.unwrap_or(false);
    let device = request.device.as_deref().unwrap_or(device::best());
    if on && !device.starts_with("cuda") {
        return Err(Error::usage(format!(
            "`--set fp8_matmul=true` multiplies in eight bits, which the device `{device}` does not"
        ))
        .hint("use `--device cuda` on a card of the Ada or Hopper generation or later, or leave it out"));
    }
    if on && request.dtype.as_deref() == Some("f32") {
        return Err(
            Error::usage("`--set fp8_matmul=true` and `--dtype f32` exclude each other").hint("leave one of them out")
        );
    }
    Ok(on)
}

fn tiling(request: &Request, geometry: &Geometry) -> Result<Option<Tiling>> {
    let (tile, stride) = (value::<usize>(request, "tile")?, value::<usize>(request, "tile_stride")?);
    let unit = geometry.spatial;
    let Some(tile) = tile.filter(|&tile| tile > 0) else {
        return match stride {
            Some(_) => Err(Error::usage("`tile_stride` has no use without `tile`").hint("add `--set tile=256`")),
            None => Ok(None),
        };
    };
    let stride = stride.unwrap_or(tile / 4 * 3 / unit * unit);
    if tile % unit != 0 || stride % unit != 0 || stride == 0 || stride >= tile {
        return Err(Error::usage(format!("tiles of {tile} pixels every {stride} pixels do not fit this model")).hint(
            format!(
                "both are multiples of {unit}, and `tile_stride` is the smaller: `--set tile=256 --set tile_stride=192`"
            ),
        ));
    }
    let tiling = Tiling { min_height: tile, min_width: tile, stride_height: stride, stride_width: stride };
    tiling.check(unit).map(|()| Some(tiling))
}

/// Numbers separated by commas.
fn list<T: FromStr>(request: &Request, key: &str) -> Result<Option<Vec<T>>> {
    let Some(text) = request.set.get(key) else { return Ok(None) };
    let parse = |part: &str| {
        let part = part.trim();
        part.parse::<T>().map_err(|_| {
            let example = if key == "stg_blocks" { "28,29" } else { "1,0.8,0.5,0.2" };
            Error::usage(format!("`{part}` in `--set {key}` is not a number"))
                .hint(format!("write them as `--set {key}={example}`"))
        })
    };
    // No block is a list of blocks; no sigma is none.
    if text.trim().is_empty() && key == "stg_blocks" {
        return Ok(Some(Vec::new()));
    }
    text.split(',').map(parse).collect::<Result<_>>().map(Some)
}

/// A key's value, in its type.
fn value<T: FromStr>(request: &Request, key: &str) -> Result<Option<T>> {
    let Some(text) = request.set.get(key) else { return Ok(None) };
    let what = KEYS.iter().chain(&SOUND_KEYS).find(|(name, _)| *name == key).map_or("", |(_, what)| what);
    let parsed = text
        .trim()
        .parse()
        .map_err(|_| Error::usage(format!("`--set {key}={text}` is not a value: {what}")).hint(OWN))?;
    Ok(Some(parsed))
}

fn finite(name: &str, value: f64, low: f64, high: f64) -> Result<f64> {
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    Err(Error::usage(format!("`{name}` is {value}, where a number from {low} to {high} belongs")).hint(OWN))
}
