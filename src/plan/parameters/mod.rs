//! The sampling parameters that have no field in a request: what `--set KEY=VALUE` reaches. [`table`] has a row for each.

mod table;

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::{Value, json};

use super::{Facts, Phase, Shape, Step, Streams, Tiling, few_steps};
use crate::error::{Error, Result};
use crate::model::catalogue::{self, AvSampling};
use crate::request::Request;
use crate::sampling::Scales;
use crate::sampling::schedule::{Sampler, Sampling, Schedule, TRAIN_TIMESTEPS, check_flow_shift};

/// The sigmas of a second phase where the preset names none: those of LTX-2's distilled models.
const REFINE_SIGMAS: [f64; 3] = [0.909_375, 0.725, 0.421_875];

/// What to do about a value that a parameter cannot have.
const OWN: &str = "leave it out to have the model's own value";

/// The parameters, read and checked.
pub(super) struct Parameters {
    pub sampling: Sampling,
    pub flow_shift: f64,
    pub text_length: usize,
    pub tiling: Option<Tiling>,
    pub streams: Option<Streams>,
    pub fp8: bool,
    pub stg_blocks: Vec<usize>,
    pub cross_timestep: bool,
    pub image_crf: u8,
    guidance: Scales,
    guidance_2: f64,
    audio_guidance: Scales,
    boundary: Option<f64>,
    cache: Option<f64>,
    shift_terminal: f64,
    sigmas: Option<Vec<f64>>,
    refine_sigmas: Option<Vec<f64>>,
    phases: Option<usize>,
    tile: Option<usize>,
    tile_stride: Option<usize>,
    /// The sigmas of each phase, once they are settled: for the list.
    settled: Vec<Vec<f64>>,
}

impl Parameters {
    /// The values of a request over those of the model. `device` is its name and the number type that the user asks for.
    pub(super) fn read(
        request: &Request,
        facts: &Facts,
        defaults: &catalogue::Sampling,
        device: (&str, Option<&str>),
    ) -> Result<Self> {
        table::check_keys(request, facts)?;
        let mut own = Self::own(request, facts, defaults)?;
        for row in table::ROWS {
            if let Some(text) = request.set.get(row.key) {
                (row.read)(&mut own, &table::Given { key: row.key, what: row.what, text: text.trim(), facts, device })?;
            }
        }
        if !facts.perturbs {
            // Nothing would be perturbed: the pass that it takes is saved.
            (own.guidance.stg, own.audio_guidance.stg) = (0.0, 0.0);
        }
        own.tiling = own.tiles(facts)?;
        own.refine_sigmas = own.refinement(facts, defaults)?;
        Ok(own)
    }

    /// The model's own values, with those that have a field in the request.
    fn own(request: &Request, facts: &Facts, defaults: &catalogue::Sampling) -> Result<Self> {
        let text = within("guidance", request.guidance.unwrap_or(defaults.guidance), 0.0, 1000.0)?;
        // As in the reference: a guidance of the user's own holds for both transformers unless the second's is given.
        let second = if request.guidance.is_some() { None } else { defaults.guidance_2 };
        let av = defaults.av.as_ref().filter(|_| facts.sound.is_some());
        let own = |pick: fn(&AvSampling) -> f64, none: f64| av.map_or(none, pick);
        Ok(Self {
            sampling: table::sampling(request, facts, defaults)?,
            flow_shift: 1.0,
            text_length: facts.text_length,
            tiling: None,
            streams: None,
            fp8: false,
            stg_blocks: av.map_or_else(Vec::new, |av| av.stg_blocks.clone()),
            cross_timestep: av.is_some_and(|av| av.cross_timestep),
            image_crf: av.map_or(0, |av| av.image_crf),
            guidance: Scales {
                text,
                stg: own(|av| av.stg_scale, 0.0),
                modality: own(|av| av.modality_scale, 1.0),
                rescale: own(|av| av.rescale, 0.0),
            },
            guidance_2: second.unwrap_or(text),
            audio_guidance: Scales {
                text: own(|av| av.audio_guidance, text),
                stg: own(|av| av.audio_stg_scale, 0.0),
                modality: own(|av| av.audio_modality_scale, 1.0),
                rescale: own(|av| av.audio_rescale, 0.0),
            },
            boundary: facts.boundary,
            cache: request.cache,
            shift_terminal: within("shift_terminal", facts.scheduler.shift_terminal.unwrap_or(0.0), 0.0, 0.999)?,
            sigmas: None,
            refine_sigmas: None,
            phases: None,
            tile: None,
            tile_stride: None,
            settled: Vec::new(),
        })
    }

    /// The phases of the denoising: their shapes, and the sigmas and timesteps of their steps. Of two phases the first works
    /// on half the sides, and the second is not guided: it only refines.
    pub(super) fn phases(
        &mut self,
        request: &Request,
        facts: &Facts,
        defaults: &catalogue::Sampling,
        shape: Shape,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Phase>> {
        let refine = self.refine_sigmas.clone().unwrap_or_default();
        let shapes = if refine.is_empty() { vec![shape] } else { shape.in_two(facts, notes)?.to_vec() };
        let first = self.schedule(request, facts, defaults, &shapes[0])?;
        let second =
            if refine.is_empty() { None } else { Some(Schedule::from_sigmas(self.sampling.sampler, &refine)?) };
        let schedules: Vec<Schedule> = std::iter::once(first).chain(second).collect();
        self.settled = schedules.iter().map(|schedule| schedule.sigmas.clone()).collect();
        let phase = |(number, (schedule, shape)): (usize, (&Schedule, Shape))| {
            let points = schedule.timesteps.iter().zip(&schedule.sigmas);
            let steps = points.map(|(&timestep, &sigma)| self.step(number, timestep, sigma, facts)).collect();
            Phase { shape, steps }
        };
        Ok(schedules.iter().zip(shapes).enumerate().map(phase).collect())
    }

    /// The sigmas and timesteps of the first phase: the user's own, the preset's, or those of a number of steps.
    fn schedule(
        &mut self,
        request: &Request,
        facts: &Facts,
        defaults: &catalogue::Sampling,
        shape: &Shape,
    ) -> Result<Schedule> {
        let sampler = self.sampling.sampler;
        let given = self.sigmas.as_ref().or(Some(&defaults.sigmas).filter(|sigmas| !sigmas.is_empty()));
        self.flow_shift = match request.flow_shift {
            // Even where sigmas are given and it shifts nothing: the recipe names it.
            Some(shift) => check_flow_shift(shift).map(|()| shift)?,
            None if facts.own_shift || defaults.few_steps.is_some() => {
                defaults.flow_shift_at(shape.width as u32, shape.height as u32)
            }
            // Given sigmas are not shifted, and no film is too large for them.
            None if given.is_some() => facts.scheduler.flow_shift_at(shape.tokens).unwrap_or(1.0),
            None => facts.scheduler.flow_shift_at(shape.tokens)?,
        };
        let steps = request.steps.unwrap_or(defaults.steps as usize);
        match (&defaults.few_steps, given) {
            (Some(recipe), _) => few_steps::schedule(recipe, request.steps),
            (None, Some(sigmas)) => of_sigmas(sampler, sigmas, request.steps),
            (None, None) if facts.even_sigmas && !sampler.is_multistep() => {
                Schedule::even(self.flow_shift, self.shift_terminal, steps)
            }
            (None, None) => Schedule::new(sampler, self.flow_shift, steps),
        }
    }

    fn step(&self, phase: usize, timestep: f64, sigma: f64, facts: &Facts) -> Step {
        let boundary = self.boundary.filter(|_| facts.boundary.is_some()).map(|ratio| ratio * TRAIN_TIMESTEPS);
        let expert = usize::from(boundary.is_some_and(|boundary| timestep < boundary));
        let (guidance, audio) = match (phase, expert) {
            (0, 0) => (self.guidance, self.audio_guidance),
            (0, _) => (Scales { text: self.guidance_2, ..self.guidance }, self.audio_guidance),
            _ => (Scales::text(1.0), Scales::text(1.0)),
        };
        Step { sigma, timestep, expert, guidance, audio_guidance: facts.sound.is_some().then_some(audio) }
    }

    /// Every key with its value, for the plan and the recipe.
    pub(super) fn listed(&self, facts: &Facts) -> BTreeMap<String, Value> {
        let mut listed = BTreeMap::from([
            ("guidance".to_owned(), json!(self.guidance.text)),
            ("flow_shift".to_owned(), json!(self.flow_shift)),
        ]);
        listed.extend(self.cache.map(|cache| ("cache".to_owned(), json!(cache))));
        let shown = |row: &table::Row| Some((row.key.to_owned(), (row.show)(self, facts)?));
        listed.extend(table::ROWS.iter().filter_map(shown));
        listed
    }

    /// The tiles of `tile` and `tile_stride`.
    fn tiles(&self, facts: &Facts) -> Result<Option<Tiling>> {
        let unit = facts.spatial;
        let Some(tile) = self.tile.filter(|&tile| tile > 0) else {
            return match self.tile_stride {
                Some(_) => Err(Error::usage("`tile_stride` has no use without `tile`").hint("add `--set tile=256`")),
                None => Ok(None),
            };
        };
        let stride = self.tile_stride.unwrap_or(tile / 4 * 3 / unit * unit);
        if !tile.is_multiple_of(unit) || !stride.is_multiple_of(unit) || stride == 0 || stride >= tile {
            return Err(Error::usage(format!("tiles of {tile} pixels every {stride} pixels do not fit this model"))
                .hint(format!(
                    "both are multiples of {unit}, and `tile_stride` is the smaller: `--set tile=256 --set tile_stride=192`"
                )));
        }
        let tiling = Tiling { min_height: tile, min_width: tile, stride_height: stride, stride_width: stride };
        tiling.check(unit).map(|()| Some(tiling))
    }

    /// The sigmas of a second phase, as `stages` and `refine_sigmas` say; none where there is one phase.
    fn refinement(&mut self, facts: &Facts, defaults: &catalogue::Sampling) -> Result<Option<Vec<f64>>> {
        let given = self.refine_sigmas.take();
        match (self.phases, facts.upsamples) {
            (Some(1), _) if given.is_some() => {
                Err(Error::usage("`refine_sigmas` has no use with one stage").hint("leave one of the two out"))
            }
            (Some(1), _) => Ok(None),
            (None | Some(2), true) => Ok(Some(given.unwrap_or_else(|| match self.phases {
                Some(_) if defaults.refine_sigmas.is_empty() => REFINE_SIGMAS.to_vec(),
                _ => defaults.refine_sigmas.clone(),
            }))),
            (None, false) if given.is_none() => Ok(None),
            (None | Some(2), false) => {
                Err(Error::usage(format!("{} has no latent upsampler for a second stage", facts.title))
                    .hint("put one into its folder `latent_upsampler`, or use one stage: `--set stages=1`"))
            }
            (Some(stages), _) => Err(Error::usage(format!("`stages` must be 1 or 2, not {stages}")).hint(OWN)),
        }
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

/// A number in a range.
fn within(name: &str, value: f64, low: f64, high: f64) -> Result<f64> {
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    Err(Error::usage(format!("`{name}` must be a number from {low} to {high}, not {value}")).hint(OWN))
}

/// A value in its type. `what` says what the parameter is.
fn parsed<T: FromStr>(key: &str, text: &str, what: &str) -> Result<T> {
    text.parse().map_err(|_| Error::usage(format!("`--set {key}={text}` is not a value: {what}")).hint(OWN))
}
