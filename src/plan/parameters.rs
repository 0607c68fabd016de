//! The sampling parameters that have no field of their own: what `--set KEY=VALUE` reaches.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::{Value, json};

use super::{Geometry, Shape, Step};
use crate::error::{Error, Result, nearest};
use crate::request::Request;
use crate::schedule::{Sampler, Sampling, Schedule, TRAIN_TIMESTEPS, check_flow_shift};
use crate::vae::Tiling;

/// Every key, and what it is.
const KEYS: [(&str, &str); 8] = [
    ("boundary_ratio", "share of the noise above which the first of two transformers works, 0 to 1"),
    ("guidance_2", "guidance of the second of two transformers"),
    ("sigmas", "the shares of noise of the steps, falling, separated by commas"),
    ("solver_order", "order of the multistep samplers"),
    ("solver_type", "the variant of dpm++: midpoint or heun"),
    ("text_length", "tokens that a prompt may have"),
    ("tile", "side of the autoencoder's tiles in pixels, 0 for none"),
    ("tile_stride", "distance from one tile to the next in pixels, less than `tile`"),
];

const OWN: &str = "leave it out to have the model's own value";

/// The parameters, read and checked.
pub(super) struct Parameters {
    pub sampling: Sampling,
    pub flow_shift: f64,
    pub text_length: usize,
    pub tiling: Option<Tiling>,
    guidance: f64,
    guidance_2: f64,
    boundary: Option<f64>,
    sigmas: Option<Vec<f64>>,
}

impl Parameters {
    pub(super) fn read(request: &Request, geometry: &Geometry, shape: &Shape) -> Result<Self> {
        check_keys(request, geometry)?;
        let defaults = &geometry.defaults;
        let guidance = finite("guidance", request.guidance.unwrap_or(defaults.guidance), 0.0, 1000.0)?;
        // As in the reference: a guidance of the user's own holds for both transformers unless the second's is given.
        let fallback = if request.guidance.is_some() { None } else { defaults.guidance_2 };
        let guidance_2 = value(request, "guidance_2")?.or(fallback).unwrap_or(guidance);
        let boundary = match value(request, "boundary_ratio")? {
            Some(boundary) => Some(finite("boundary_ratio", boundary, 0.0, 1.0)?),
            None => geometry.boundary,
        };
        let text_length = value(request, "text_length")?.unwrap_or(geometry.text_length);
        if !(1..=geometry.text_length).contains(&text_length) {
            return Err(Error::usage(format!(
                "`text_length` is {text_length}, where 1 to {} belongs",
                geometry.text_length
            ))
            .hint(OWN));
        }
        let flow_shift = match request.flow_shift {
            // Even where sigmas are given and it shifts nothing: the recipe tells it.
            Some(shift) => check_flow_shift(shift).map(|()| shift)?,
            None if geometry.own_shift => defaults.flow_shift_at(shape.width as u32, shape.height as u32),
            None => geometry.scheduler.flow_shift()?,
        };
        Ok(Self {
            sampling: sampling(request, geometry)?,
            flow_shift,
            text_length,
            tiling: tiling(request, geometry)?,
            guidance,
            guidance_2: finite("guidance_2", guidance_2, 0.0, 1000.0)?,
            boundary,
            sigmas: request.set.get("sigmas").map(|text| sigmas(text)).transpose()?,
        })
    }

    /// The sigmas and timesteps: the user's own, or those of so many steps.
    pub(super) fn schedule(&self, request: &Request, geometry: &Geometry) -> Result<Schedule> {
        match &self.sigmas {
            Some(sigmas) => {
                let schedule = Schedule::from_sigmas(self.sampling.sampler, sigmas)?;
                match request.steps {
                    Some(steps) if steps != schedule.timesteps.len() => Err(Error::usage(format!(
                        "`--steps {steps}` and the {} steps of `--set sigmas` disagree",
                        schedule.timesteps.len()
                    ))
                    .hint("leave `--steps` out: the sigmas say how many there are")),
                    _ => Ok(schedule),
                }
            }
            None => Schedule::new(
                self.sampling.sampler,
                self.flow_shift,
                request.steps.unwrap_or(geometry.defaults.steps as usize),
            ),
        }
    }

    pub(super) fn steps(&self, schedule: &Schedule, geometry: &Geometry) -> Vec<Step> {
        let boundary = self.boundary.filter(|_| geometry.boundary.is_some()).map(|ratio| ratio * TRAIN_TIMESTEPS);
        let steps = schedule.timesteps.iter().zip(&schedule.sigmas).map(|(&timestep, &sigma)| {
            let expert = usize::from(boundary.is_some_and(|boundary| timestep < boundary));
            Step { sigma, timestep, expert, guidance: [self.guidance, self.guidance_2][expert] }
        });
        steps.collect()
    }

    /// Every key with its value, for the plan and the recipe.
    pub(super) fn listed(&self, schedule: &Schedule) -> BTreeMap<String, Value> {
        let mut listed = BTreeMap::from([
            ("guidance".to_owned(), json!(self.guidance)),
            ("flow_shift".to_owned(), json!(self.flow_shift)),
            ("sigmas".to_owned(), json!(schedule.sigmas)),
            ("solver_order".to_owned(), json!(self.sampling.order)),
            ("text_length".to_owned(), json!(self.text_length)),
            ("tile".to_owned(), json!(self.tiling.map_or(0, |tiling| tiling.min_height))),
            ("tile_stride".to_owned(), json!(self.tiling.map_or(0, |tiling| tiling.stride_height))),
        ]);
        if self.sampling.sampler == Sampler::DpmPp2m {
            listed.insert("solver_type".into(), json!(if self.sampling.heun { "heun" } else { "midpoint" }));
        }
        if let Some(boundary) = self.boundary {
            listed.insert("guidance_2".into(), json!(self.guidance_2));
            listed.insert("boundary_ratio".into(), json!(boundary));
        }
        listed
    }
}

fn check_keys(request: &Request, geometry: &Geometry) -> Result<()> {
    let names: Vec<&str> = KEYS.iter().map(|(name, _)| *name).collect();
    for key in request.set.keys() {
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

/// The folder's sampler, or the user's with its usual settings, and the user's settings over them.
fn sampling(request: &Request, geometry: &Geometry) -> Result<Sampling> {
    let mut sampling = match (request.sampler, geometry.scheduler.sampling()) {
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

fn sigmas(text: &str) -> Result<Vec<f64>> {
    let parse = |part: &str| {
        let part = part.trim();
        part.parse::<f64>().map_err(|_| {
            Error::usage(format!("`{part}` in `--set sigmas` is not a number"))
                .hint("write them as `--set sigmas=1,0.8,0.5,0.2`")
        })
    };
    text.split(',').map(parse).collect()
}

/// A key's value, in its type.
fn value<T: FromStr>(request: &Request, key: &str) -> Result<Option<T>> {
    let Some(text) = request.set.get(key) else { return Ok(None) };
    let what = KEYS.iter().find(|(name, _)| *name == key).map_or("", |(_, what)| what);
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
