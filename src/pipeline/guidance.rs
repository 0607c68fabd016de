//! Guidance: how several predictions of the transformer become one.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::families::family::{Conditioning, Denoiser, DenoiserInput, Pass};
use crate::families::latents::Latents;
use crate::plan::Step;
use crate::sampling::Scales;

/// The passes of the transformer that a step asks for, the plain one first, each with whether it is told the negative prompt.
/// `negative` says whether there is one.
pub fn passes(step: &Step, negative: bool) -> Vec<(Pass, bool)> {
    let asked = [
        (true, (Pass::Whole, false)),
        (negative && asks(step, Scales::uses_text), (Pass::Whole, true)),
        (asks(step, Scales::uses_stg), (Pass::Perturbed, false)),
        (asks(step, Scales::uses_modality), (Pass::Isolated, false)),
    ];
    asked.into_iter().filter(|(asked, _)| *asked).map(|(_, pass)| pass).collect()
}

/// Whether a step asks for something, for the pictures or for the sound.
fn asks(step: &Step, asks: fn(&Scales) -> bool) -> bool {
    asks(&step.guidance) || step.audio_guidance.as_ref().is_some_and(asks)
}

/// The velocity of a step under all its kinds of guidance.
///
/// From the prediction p come the differences to that with the negative prompt (classifier-free guidance, Ho and Salimans
/// 2022), to that of perturbed attention (Hyung et al. 2024) and to that in which pictures and sound do not see each other
/// (LTX-2), each as often as its scale says. A prediction that no scale asks for is not made. The mixture may be rescaled
/// towards the deviation of p (Lin et al. 2023, section 3.4), as predictions of x₀.
///
/// # Errors
/// Those of the transformer.
pub fn velocity(model: &dyn Denoiser, at: DenoiserInput<'_>, step: &Step, on: &Conditioning) -> Result<Latents> {
    let plain = model.velocity(at, &on.text, Pass::Whole)?;
    let mut others = Vec::new();
    if let Some(negative) = on.negative.as_ref().filter(|_| asks(step, Scales::uses_text)) {
        others.push((Scales::of_text as fn(&Scales) -> f64, model.velocity(at, negative, Pass::Whole)?));
    }
    if asks(step, Scales::uses_stg) {
        others.push((Scales::of_stg, model.velocity(at, &on.text, Pass::Perturbed)?));
    }
    if asks(step, Scales::uses_modality) {
        others.push((Scales::of_modality, model.velocity(at, &on.text, Pass::Isolated)?));
    }
    if others.is_empty() {
        return Ok(plain);
    }
    let videos: Vec<_> = others.iter().map(|(scale, other)| (scale(&step.guidance), &other.video)).collect();
    let video = mix(&at.latents.video, &plain.video, &videos, (step.guidance.rescale, step.sigma))?;
    let audio = match (&at.latents.audio, &plain.audio, &step.audio_guidance) {
        (Some(x), Some(plain), Some(scales)) => {
            let audios = others.iter().filter_map(|(scale, other)| Some((scale(scales), other.audio.as_ref()?)));
            Some(mix(x, plain, &audios.collect::<Vec<_>>(), (scales.rescale, step.sigma))?)
        }
        _ => plain.audio.clone(),
    };
    Ok(Latents { video, audio })
}

/// `plain + Σ scale·(plain − other)`, rescaled.
fn mix(x: &Tensor, plain: &Tensor, others: &[(f64, &Tensor)], (rescale, sigma): (f64, f64)) -> Result<Tensor> {
    let mut mixed = plain.clone();
    for (scale, other) in others {
        mixed = (mixed + ((plain - *other)? * *scale)?)?;
    }
    if rescale <= 0.0 {
        return Ok(mixed);
    }
    let x0 = |velocity: &Tensor| x - (velocity * sigma)?;
    let (plain, mixed) = (x0(plain)?, x0(&mixed)?);
    let ratio = deviation(&plain)? / deviation(&mixed)?;
    let rescaled = (mixed * (rescale * ratio + (1.0 - rescale)))?;
    Ok(((x - rescaled)? / sigma)?)
}

/// The standard deviation of all values, summed in f64.
fn deviation(values: &Tensor) -> Result<f64> {
    let values = values.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?;
    Ok(values.var(0)?.to_scalar::<f64>()?.sqrt())
}
