//! A row for each parameter: its key, what it is, which models have it, how it is read and how it is shown.

use std::str::FromStr;

use serde_json::{Value, json};

use super::{OWN, Parameters, parsed, within};
use crate::error::{Error, Result, nearest};
use crate::model::catalogue;
use crate::plan::Facts;
use crate::request::Request;
use crate::sampling::schedule::{Sampler, Sampling};

/// A sampling parameter.
pub(super) struct Row {
    pub key: &'static str,
    /// What it is, in words.
    pub what: &'static str,
    /// The models that have it.
    pub of: Models,
    /// Takes the user's value over, checked.
    pub read: fn(&mut Parameters, &Given<'_>) -> Result<()>,
    /// The value in the plan and the recipe, where it belongs there.
    pub show: fn(&Parameters, &Facts) -> Option<Value>,
}

/// The models that have a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Models {
    /// All.
    All,
    /// Those of two transformers.
    Pairs,
    /// Those that make video and audio at once.
    Sound,
}

/// A value that the user gave.
pub(super) struct Given<'a> {
    pub key: &'static str,
    pub what: &'static str,
    pub text: &'a str,
    pub facts: &'a Facts,
    /// The device's name, and the number type that the user asks for.
    pub device: (&'a str, Option<&'a str>),
}

impl Given<'_> {
    fn value<T: FromStr>(&self) -> Result<T> {
        parsed(self.key, self.text, self.what)
    }

    fn number(&self, low: f64, high: f64) -> Result<f64> {
        within(self.key, self.value()?, low, high)
    }

    /// Numbers separated by commas.
    fn list<T: FromStr>(&self, example: &str) -> Result<Vec<T>> {
        let key = self.key;
        let number = |part: &str| {
            let part = part.trim();
            part.parse::<T>().map_err(|_| {
                Error::usage(format!("`{part}` in `--set {key}` is not a number"))
                    .hint(format!("write them as `--set {key}={example}`"))
            })
        };
        self.text.split(',').map(number).collect()
    }
}

/// Shows a value of models with sound.
macro_rules! of_sound {
    ($($value:tt)+) => {
        |own: &Parameters, facts: &Facts| facts.sound.is_some().then(|| json!(own.$($value)+))
    };
}

/// A scale of guidance: its place, and its largest value.
macro_rules! scale {
    ($key:literal, $what:literal, $side:ident . $field:ident, $most:literal) => {
        Row {
            key: $key,
            what: $what,
            of: Models::Sound,
            read: |own, given| given.number(0.0, $most).map(|value| own.$side.$field = value),
            show: of_sound!($side.$field),
        }
    };
}

const SIGMAS: &str = "1,0.8,0.5,0.2";

/// Every parameter, by its key.
pub(super) const ROWS: &[Row] = &[
    scale!("audio_guidance", "guidance of the sound", audio_guidance.text, 1000.0),
    scale!("audio_modality_scale", "modality_scale of the sound", audio_guidance.modality, 1000.0),
    scale!("audio_rescale", "rescale of the sound", audio_guidance.rescale, 1.0),
    scale!("audio_stg_scale", "stg_scale of the sound", audio_guidance.stg, 1000.0),
    Row {
        key: "boundary_ratio",
        what: "share of the noise above which the first of two transformers works, 0 to 1",
        of: Models::Pairs,
        read: |own, given| given.number(0.0, 1.0).map(|value| own.boundary = Some(value)),
        show: |own, _| own.boundary.map(|boundary| json!(boundary)),
    },
    Row {
        key: "cross_timestep",
        what: "whether video and audio are modulated by each other's timestep: true or false",
        of: Models::Sound,
        read: |own, given| given.value().map(|value| own.cross_timestep = value),
        show: of_sound!(cross_timestep),
    },
    Row {
        key: "fp8_matmul",
        what: "whether weights of eight bits are multiplied with numbers of eight bits, on CUDA: true or false",
        of: Models::All,
        read: fp8,
        show: |own, _| own.fp8.then(|| json!(true)),
    },
    Row {
        key: "guidance_2",
        what: "guidance of the second of two transformers",
        of: Models::Pairs,
        read: |own, given| given.number(0.0, 1000.0).map(|value| own.guidance_2 = value),
        show: |own, _| own.boundary.map(|_| json!(own.guidance_2)),
    },
    Row {
        key: "image_crf",
        what: "H.264 compression of a first image before it is encoded, 0 (none) to 51",
        of: Models::Sound,
        read: image_crf,
        show: of_sound!(image_crf),
    },
    scale!(
        "modality_scale",
        "guidance away from video and audio that do not see each other, 1 for none",
        guidance.modality,
        1000.0
    ),
    Row {
        key: "refine_sigmas",
        what: "the sigmas of the second stage, separated by commas",
        of: Models::Sound,
        read: |own, given| given.list(SIGMAS).map(|value| own.refine_sigmas = Some(value)),
        show: |own, facts| facts.sound.is_some().then(|| json!(own.settled.get(1).map_or(&[][..], |sigmas| sigmas))),
    },
    scale!(
        "rescale",
        "how far the guided prediction goes back to the deviation of the plain one, 0 to 1",
        guidance.rescale,
        1.0
    ),
    Row {
        key: "shift_terminal",
        what: "the last sigma before 0 that the schedule is stretched to, 0 for no stretching",
        of: Models::Sound,
        read: |own, given| given.number(0.0, 0.999).map(|value| own.shift_terminal = value),
        show: |own, facts| facts.even_sigmas.then(|| json!(own.shift_terminal)),
    },
    Row {
        key: "sigmas",
        what: "the shares of noise of the steps, falling, separated by commas",
        of: Models::All,
        read: |own, given| given.list(SIGMAS).map(|value| own.sigmas = Some(value)),
        show: |own, _| Some(json!(own.settled.first())),
    },
    Row {
        key: "solver_order",
        what: "order of the multistep samplers",
        of: Models::All,
        read: solver_order,
        show: |own, _| Some(json!(own.sampling.order)),
    },
    Row {
        key: "solver_type",
        what: "the variant of dpm++: midpoint or heun",
        of: Models::All,
        read: solver_type,
        show: |own, _| {
            let kind = if own.sampling.heun { "heun" } else { "midpoint" };
            (own.sampling.sampler == Sampler::DpmPp2m).then(|| json!(kind))
        },
    },
    Row {
        key: "stages",
        what: "1, or 2 for a second stage on a film of twice the sides",
        of: Models::Sound,
        read: |own, given| given.value().map(|value| own.phases = Some(value)),
        show: of_sound!(settled.len()),
    },
    Row {
        key: "stg_blocks",
        what: "numbers of the blocks that spatio-temporal guidance perturbs, separated by commas",
        of: Models::Sound,
        read: |own, given| {
            own.stg_blocks = if given.text.is_empty() { Vec::new() } else { given.list("28,29")? };
            Ok(())
        },
        show: of_sound!(stg_blocks),
    },
    scale!("stg_scale", "spatio-temporal guidance, 0 for none", guidance.stg, 1000.0),
    Row {
        key: "stream",
        what: "networks streamed from disk block by block: none, or some of text,transformer",
        of: Models::All,
        read: |own, given| given.value().map(|value| own.streams = Some(value)),
        show: |_, _| None,
    },
    Row {
        key: "text_length",
        what: "tokens that a prompt may have",
        of: Models::All,
        read: text_length,
        show: |own, _| Some(json!(own.text_length)),
    },
    Row {
        key: "tile",
        what: "side of the autoencoder's tiles in pixels, 0 for none",
        of: Models::All,
        read: |own, given| given.value().map(|value| own.tile = Some(value)),
        show: |own, _| Some(json!(own.tiling.map_or(0, |tiling| tiling.min_height))),
    },
    Row {
        key: "tile_stride",
        what: "distance from one tile to the next in pixels, less than `tile`",
        of: Models::All,
        read: |own, given| given.value().map(|value| own.tile_stride = Some(value)),
        show: |own, _| Some(json!(own.tiling.map_or(0, |tiling| tiling.stride_height))),
    },
];

/// Refuses keys that no parameter has, and those of other models.
pub(super) fn check_keys(request: &Request, facts: &Facts) -> Result<()> {
    let silent = |row: &Row| row.of == Models::Sound && facts.sound.is_none();
    for key in request.set.keys() {
        let unused = |why: &str| {
            let what = format!("`--set {key}` has no use here: {} {why}", facts.title);
            Err(Error::usage(what).hint("leave it out"))
        };
        match ROWS.iter().find(|row| row.key == key) {
            Some(row) if silent(row) => return unused("makes no sound"),
            Some(row) if row.of == Models::Pairs && facts.boundary.is_none() => return unused("has one transformer"),
            Some(_) => {}
            None => {
                let names: Vec<&str> = ROWS.iter().filter(|row| !silent(row)).map(|row| row.key).collect();
                let near = nearest(key, &names);
                let list = if near.is_empty() { names.join(", ") } else { near.join(", ") };
                return Err(Error::usage(format!("`--set {key}` is not a parameter of this model"))
                    .hint(format!("did you mean one of: {list}? `--plan` lists them all with their values")));
            }
        }
    }
    Ok(())
}

/// The recipe's sampler or the folder's, or the user's with its usual settings.
pub(super) fn sampling(request: &Request, facts: &Facts, defaults: &catalogue::Sampling) -> Result<Sampling> {
    let scheduler = &facts.scheduler;
    let own = match &defaults.few_steps {
        Some(recipe) => Ok(recipe.sampler.into()),
        None if facts.even_sigmas => scheduler.even_sampling(),
        None => scheduler.sampling(),
    };
    match (request.sampler, own) {
        (Some(sampler), Ok(own)) if own.sampler == sampler => Ok(own),
        (Some(sampler), _) => Ok(sampler.into()),
        (None, own) => own,
    }
}

fn solver_order(own: &mut Parameters, given: &Given<'_>) -> Result<()> {
    let (order, most) = (given.value()?, own.sampling.sampler.max_order());
    if !(1..=most).contains(&order) {
        return Err(Error::usage(format!(
            "`solver_order` must be 1 to {most} for `{}`, not {order}",
            own.sampling.sampler
        ))
        .hint(OWN));
    }
    own.sampling.order = order;
    Ok(())
}

fn solver_type(own: &mut Parameters, given: &Given<'_>) -> Result<()> {
    own.sampling.heun = match (own.sampling.sampler, given.text) {
        (Sampler::DpmPp2m, "heun") => true,
        (Sampler::DpmPp2m, "midpoint") => false,
        (sampler, kind) => {
            return Err(Error::usage(format!("`--set solver_type={kind}` is not a variant of `{sampler}`"))
                .hint("`--sampler dpm++` has `midpoint` and `heun`; the other samplers have one variant each"));
        }
    };
    Ok(())
}

fn image_crf(own: &mut Parameters, given: &Given<'_>) -> Result<()> {
    let crf = given.value::<u8>()?;
    within(given.key, f64::from(crf), 0.0, 51.0)?;
    own.image_crf = crf;
    Ok(())
}

fn text_length(own: &mut Parameters, given: &Given<'_>) -> Result<()> {
    let (length, most) = (given.value()?, given.facts.text_length);
    if !(1..=most).contains(&length) {
        return Err(Error::usage(format!("`text_length` must be 1 to {most}, not {length}")).hint(OWN));
    }
    own.text_length = length;
    Ok(())
}

/// Products of eight bits are cuBLASLt's.
fn fp8(own: &mut Parameters, given: &Given<'_>) -> Result<()> {
    let (device, dtype) = given.device;
    own.fp8 = given.value()?;
    if own.fp8 && !device.starts_with("cuda") {
        return Err(Error::usage(format!(
            "`--set fp8_matmul=true` multiplies in eight bits, which the device `{device}` does not"
        ))
        .hint("use `--device cuda` on a card of the Ada or Hopper generation or later, or leave it out"));
    }
    if own.fp8 && dtype == Some("f32") {
        return Err(
            Error::usage("`--set fp8_matmul=true` and `--dtype f32` exclude each other").hint("leave one of them out")
        );
    }
    Ok(())
}
