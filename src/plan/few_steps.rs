//! Recipes of few steps: what goes with the weights that were distilled for one, and what does not.

use crate::error::{Error, Result};
use crate::model::catalogue::{Entry, FewSteps};
use crate::request::{ModelChoice, Request};
use crate::sampling::schedule::Schedule;

/// Refuses a recipe of few steps over a released model's own weights, which know nothing of it. That is known before
/// anything is fetched.
///
/// # Errors
/// A preset of the entry that is for other weights, where the request gives none for each of its transformers.
pub fn check_weights(entry: &Entry, choice: &ModelChoice, preset: Option<&str>) -> Result<()> {
    let preset = preset.and_then(|name| entry.presets.get_key_value(name));
    let Some((name, recipe)) = preset else { return Ok(()) };
    let pair = entry.parameters.transformer_2.is_some();
    let adapts = |part: &str| choice.loras.iter().any(|lora| lora.strength != 0.0 && (!pair || lora.is_for(part)));
    let first = choice.transformer.is_some() || adapts("transformer");
    let second = !pair || choice.transformer_2.is_some() || adapts("transformer_2");
    if first && second {
        return Ok(());
    }
    let how = if pair {
        "`--lora FILE` for each expert, or `--transformer FILE` and `--transformer-2 FILE`"
    } else {
        "`--lora FILE` or `--transformer FILE`"
    };
    let which =
        format!("preset `{name}` is for weights that were distilled for it, and those of {} were not", entry.name);
    Err(Error::usage(which).hint(format!("add {how}: {}", recipe.weights)))
}

/// What a user should know who asked for a recipe without saying which weights are for it.
pub(super) fn note(choice: &ModelChoice, request: &Request, recipe: &FewSteps) -> Option<String> {
    let name = request.preset.as_deref()?;
    let named = choice.transformer.is_some() || !choice.loras.is_empty();
    (!named).then(|| {
        format!(
            "preset `{name}` is for distilled weights, and whether these are such cannot be told: {}",
            recipe.weights
        )
    })
}

/// Refuses what the weights of a recipe do not know. `preset` is its name, empty where it is the model's only one.
pub(super) fn check(request: &Request, preset: &str, recipe: &FewSteps) -> Result<()> {
    let whose = if preset.is_empty() { "this model".to_owned() } else { format!("preset `{preset}`") };
    let second = request.set.get("guidance_2").and_then(|text| text.trim().parse::<f64>().ok());
    for (flag, guidance) in [("--guidance ", request.guidance), ("--set guidance_2=", second)] {
        if let Some(guidance) = guidance.filter(|&guidance| guidance > 1.0) {
            return Err(Error::usage(format!(
                "`{flag}{guidance}` does not go with {whose}: its weights were trained to predict the guided film at once, and \
                 guided again it is over-saturated"
            ))
            .hint("leave it out, or give 1, which is no guidance"));
        }
    }
    let most = recipe.sigmas.len();
    let steps = request.steps.filter(|&steps| steps != most && !(recipe.fewer && (1..most).contains(&steps)));
    let sampler = request.sampler.filter(|&sampler| sampler != recipe.sampler);
    let shift = request.flow_shift.filter(|&shift| shift != recipe.flow_shift);
    let own = |key: &str| request.set.contains_key(key).then(|| format!("--set {key}"));
    let others = [
        (steps.map(|n| format!("--steps {n}")), format!("{}{most} steps", if recipe.fewer { "1 to " } else { "" })),
        (sampler.map(|sampler| format!("--sampler {sampler}")), format!("sampler `{}`", recipe.sampler)),
        (shift.map(|shift| format!("--flow-shift {shift}")), format!("flow shift {}", recipe.flow_shift)),
        (own("sigmas"), "those of its recipe".to_owned()),
        (own("boundary_ratio"), "the one of its recipe".to_owned()),
    ];
    match others.into_iter().find_map(|(typed, known)| Some((typed?, known))) {
        None => Ok(()),
        Some((typed, known)) => {
            Err(Error::usage(format!("`{typed}` does not go with {whose}: its weights were distilled for {known}"))
                .hint("leave it out"))
        }
    }
}

/// The sigmas and timesteps of a recipe: of the first `steps`, where so many are asked for.
pub(super) fn schedule(recipe: &FewSteps, steps: Option<usize>) -> Result<Schedule> {
    let most = recipe.sigmas.len();
    let mut schedule = Schedule::from_sigmas(recipe.sampler, &recipe.sigmas[..steps.unwrap_or(most).min(most)])?;
    schedule.timesteps.iter_mut().zip(&recipe.timesteps).for_each(|(own, told)| *own = *told);
    Ok(schedule)
}
