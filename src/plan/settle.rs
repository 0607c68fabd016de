//! From a request, the facts of a model and a machine to a plan.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::Value;

use super::parameters::Parameters;
use super::{Facts, ImageUse, Input, Machine, Plan, Settings, Shape, Streams, VERSION, few_steps};
use crate::error::{Error, Result};
use crate::files::atomic;
use crate::model::catalogue;
use crate::request::{Condition, MAX_PROMPT, ModelChoice, Request, Size};
use crate::sampling::Scales;
use crate::sampling::schedule::Sampler;

/// Settles everything but files and memory.
///
/// # Errors
/// A request that this model cannot carry out, or numbers that make no sense. Each names the field.
pub fn settle(choice: &ModelChoice, request: &Request, facts: &Facts, machine: &Machine) -> Result<Plan> {
    let mut notes = Vec::new();
    check_prompts(request)?;
    check_conditions(request, facts)?;
    let fps = request.fps.map_or_else(|| facts.film.fps.to_string().parse(), Ok)?;
    let shape = Shape::settle(request, facts, fps, &mut notes)?;
    let (preset, defaults) = facts.sampling(request)?;
    check_cache(request, &defaults)?;
    notes.extend(defaults.few_steps.as_ref().and_then(|recipe| few_steps::note(choice, request, recipe)));
    let device = choice.device.clone().unwrap_or_else(|| machine.device.clone());
    let mut set = Parameters::read(request, facts, &defaults, (&device, choice.dtype.as_deref()))?;
    let phases = set.phases(request, facts, &defaults, shape, &mut notes)?;
    let shape = phases.last().map_or(shape, |phase| phase.shape);
    notes.extend(unused(request, facts));
    let mut steps = phases.iter().flat_map(|phase| &phase.steps);
    let asks = |scales: &Scales| scales.uses_text();
    let guided = steps.any(|step| asks(&step.guidance) || step.audio_guidance.as_ref().is_some_and(asks));
    if request.negative.is_some() && !guided {
        notes.push("the negative prompt has no effect: guidance is 1 or less throughout".into());
    }
    notes.extend(facts.silent.clone());
    notes.extend(unheard(request, facts));
    let prompt = (facts.render)(request);
    notes.extend(facts.vocabulary.as_ref().and_then(|vocabulary| vocabulary.note(&prompt)));
    notes.extend(replaced(request));
    let negative = request.negative.clone().unwrap_or(defaults.negative_prompt);
    let (parameters, flow_shift) = (set.listed(facts), set.flow_shift);
    Ok(Plan {
        talkie: VERSION.to_owned(),
        model: facts.title.clone(),
        folder: PathBuf::new(),
        prompt,
        negative: guided.then_some(negative),
        seed: request.seed.unwrap_or_else(fresh_seed),
        shape,
        preset,
        phases,
        parameters,
        flow_shift,
        settings: Settings {
            fps,
            sound: facts.sound.as_ref().map(|sound| sound.settle(&shape, fps)),
            dtype: choice.dtype.clone().unwrap_or_else(|| if device == "cpu" { "f32" } else { "bf16" }.to_owned()),
            // On a processor each of the encoder's weights is read once, in its file: to hold it would save nothing.
            streams: set.streams.unwrap_or(Streams { text: device == "cpu", transformer: false }),
            stg_blocks: set.stg_blocks,
            cross_timestep: set.cross_timestep,
            image_crf: set.image_crf,
            text_length: set.text_length,
            tiling: set.tiling,
            fp8: set.fp8,
            device,
        },
        sampling: set.sampling,
        files: Vec::new(),
        conditions: vec![facts.image_becomes.to_owned(); request.conditions.len()],
        inputs: Input::of(choice, request),
        stages: Vec::new(),
        keeps: Vec::new(),
        memory: None,
        notes,
        replaces: request.output.as_deref().is_some_and(atomic::is_taken),
        choice: choice.clone(),
        request: request.clone(),
    })
}

/// The plan of a film whose latents are there already: only the decode is left.
///
/// `metadata` is the latent file's; the rate in its recipe holds where the request names none.
///
/// # Errors
/// Latents that this model did not make.
pub fn of_latents(
    (choice, request): (&ModelChoice, &Request),
    (facts, machine): (&Facts, &Machine),
    latents: &[usize],
    metadata: &HashMap<String, String>,
) -> Result<Plan> {
    let &[1, channels, frames, height, width] = latents else {
        return Err(Error::failed(format!("latents of shape {latents:?} are not one film's"))
            .hint("they have five axes: (1, C, T, H, W)"));
    };
    if channels != facts.channels {
        return Err(Error::failed(format!(
            "the latents have {channels} channels, and those of {} have {}",
            facts.title, facts.channels
        ))
        .hint("decode latents with the model that made them: `-m MODEL`"));
    }
    let recipe: Option<Value> = metadata.get("recipe").and_then(|recipe| serde_json::from_str(recipe).ok());
    let kept = |field: &str| recipe.as_ref().and_then(|recipe| recipe.get(field)).cloned();
    let mut request = request.clone();
    request.prompt =
        kept("prompt").and_then(|prompt| Some(prompt.as_str()?.to_owned())).unwrap_or_else(|| "latents".into());
    request.fps = request.fps.or_else(|| serde_json::from_value(kept("fps")?).ok());
    request.size = Some(Size { width: width * facts.spatial, height: height * facts.spatial });
    request.frames = Some((frames.max(1) - 1) * facts.temporal + 1);
    request.seconds = None;
    let facts = Facts { image: ImageUse::Optional, upsamples: false, ..facts.clone() };
    settle(choice, &request, &facts, machine)
}

/// Whether there is a prompt, and neither it nor the negative one is longer than any model reads.
fn check_prompts(request: &Request) -> Result<()> {
    if request.prompt.trim().is_empty() {
        return Err(Error::usage("the prompt is empty")
            .hint("say what should be seen: `talkie generate \"a red ball bounces on a wooden floor\"`"));
    }
    let negative = request.negative.as_deref().unwrap_or_default();
    for (name, text) in [("prompt", request.prompt.as_str()), ("negative prompt", negative)] {
        if text.len() > MAX_PROMPT {
            return Err(Error::usage(format!("the {name} must have {MAX_PROMPT} bytes at most, not {}", text.len()))
                .hint("shorten it: of a long prompt only the first few hundred words are read"));
        }
    }
    Ok(())
}

/// Whether the conditions are of kinds that the model takes, as many as it takes, and there.
fn check_conditions(request: &Request, facts: &Facts) -> Result<()> {
    let (title, images) = (&facts.title, request.conditions.len());
    let refused = match (request.first_image(), facts.image) {
        (Some(image), ImageUse::None) => Error::usage(format!(
            "{title} is text-to-video and cannot use `--image`: {}",
            image.display()
        ))
        .hint("leave `--image` out, or use a model that begins with an image: `-m wan2.2-ti2v-5b` or `-m wan2.2-i2v-a14b`"),
        (None, ImageUse::Required) => Error::usage(format!("{title} is image-to-video and needs a first image"))
            .hint("add `--image FILE`, or use a model that makes films from text: `-m wan2.2-t2v-a14b`"),
        _ if images > 1 => Error::usage(format!("{title} takes one image, not {images}"))
            .hint("leave all but one `--image` out"),
        _ => {
            let absent = request.conditions.iter().map(Condition::file).find(|file| !file.is_file());
            return absent.map_or(Ok(()), |file| {
                let what = format!("there is no image at {}", file.display());
                Err(Error::usage(what).hint("check the path after `--image`"))
            });
        }
    };
    Err(refused)
}

/// Whether steps may be skipped as often as the request says.
fn check_cache(request: &Request, defaults: &catalogue::Sampling) -> Result<()> {
    let Some(cache) = request.cache else { return Ok(()) };
    if !(cache > 0.0 && cache < 1.0) {
        return Err(Error::usage(format!("`--cache` must be a share above 0 and below 1, not {cache}"))
            .hint("0.05 is careful; leave it out to compute every step"));
    }
    if defaults.few_steps.is_some() || request.sampler == Some(Sampler::Renoise) {
        return Err(Error::usage(
            "`--cache` does not go with a recipe of few steps: none of them is like the one before it",
        )
        .hint("leave `--cache` out"));
    }
    Ok(())
}

/// A note where spatio-temporal guidance is asked for and the transformer has none.
fn unused(request: &Request, facts: &Facts) -> Option<String> {
    let asked = facts.sound.is_some() && !facts.perturbs && request.set.keys().any(|key| key.contains("stg_"));
    asked.then(|| "spatio-temporal guidance has no effect: this transformer knows no perturbed attention".into())
}

/// A note where sound is asked for and the model makes none.
fn unheard(request: &Request, facts: &Facts) -> Option<String> {
    let asked = !request.dialogue.is_empty() || !request.sounds.is_empty() || request.music.is_some();
    (asked && facts.sound.is_none())
        .then(|| "this model makes silent films: dialogue, sounds and music are left out".into())
}

/// Notes on what is there already under the names of the film and of its contact sheet.
fn replaced(request: &Request) -> impl Iterator<Item = String> {
    let taken = [&request.output, &request.contact_sheet].into_iter().flatten().filter(|path| atomic::is_taken(path));
    taken.map(|path| format!("{} is there already, and is replaced when the new film is whole", path.display()))
}

/// A seed that differs from run to run, small enough to be typed again.
fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (now.as_nanos() as u64 ^ u64::from(std::process::id()) << 17) % 1_000_000_007
}
