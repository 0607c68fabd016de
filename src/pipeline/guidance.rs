//! Guidance: several predictions of the transformer mixed into one velocity.

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::families::family::{Denoiser, DenoiserInput, Prompt};
use crate::families::latents::Latents;
use crate::plan::{Pass, Step};
use crate::sampling::Scales;

/// The forward passes that a step asks for, the plain one first, each with its prompt. `negative` says whether there is a
/// negative one.
pub fn passes(step: &Step, negative: bool) -> Vec<(Pass, Prompt)> {
    let asks = |asks: fn(&Scales) -> bool| asks(&step.guidance) || step.audio_guidance.as_ref().is_some_and(asks);
    let asked = [
        (true, (Pass::Full, Prompt::Positive)),
        (negative && asks(Scales::uses_text), (Pass::Full, Prompt::Negative)),
        (asks(Scales::uses_stg), (Pass::Perturbed, Prompt::Positive)),
        (asks(Scales::uses_modality), (Pass::Isolated, Prompt::Positive)),
    ];
    asked.into_iter().filter(|(asked, _)| *asked).map(|(_, pass)| pass).collect()
}

/// The weight of the difference to the prediction of a pass.
fn weight(scales: &Scales, pass: Pass) -> f64 {
    match pass {
        Pass::Full => scales.of_text(),
        Pass::Perturbed => scales.of_stg(),
        Pass::Isolated => scales.of_modality(),
    }
}

/// The velocity of a step under all its kinds of guidance.
///
/// From the prediction p come the differences to that with the negative prompt (classifier-free guidance, Ho and Salimans
/// 2022), to that of perturbed attention (Hyung et al. 2024) and to that in which video and audio do not attend to each other
/// (LTX-2), each times its weight. The passes are those of [`passes`]. The mixture may be rescaled towards the deviation of p
/// (Lin et al. 2023, section 3.4), as predictions of x₀.
///
/// # Errors
/// Those of the transformer.
pub fn velocity(model: &dyn Denoiser, input: DenoiserInput<'_>, step: &Step, negative: bool) -> Result<Latents> {
    let passes = passes(step, negative);
    let mut made = model.velocities(input, &passes)?.into_iter();
    let plain = made.next().ok_or_else(|| Error::failed("the transformer predicted nothing"))?;
    let others: Vec<(Pass, Latents)> = passes[1..].iter().map(|(pass, _)| *pass).zip(made).collect();
    if others.is_empty() {
        return Ok(plain);
    }
    let videos: Vec<_> = others.iter().map(|(pass, other)| (weight(&step.guidance, *pass), &other.video)).collect();
    let mixing = Mixing { rescale: step.guidance.rescale, sigma: step.sigma };
    let video = mixing.mix(&input.latents.video, &plain.video, &videos)?;
    let audio = match (&input.latents.audio, &plain.audio, &step.audio_guidance) {
        (Some(x), Some(plain), Some(scales)) => {
            let audios = others.iter().filter_map(|(pass, other)| Some((weight(scales, *pass), other.audio.as_ref()?)));
            let mixing = Mixing { rescale: scales.rescale, sigma: step.sigma };
            Some(mixing.mix(x, plain, &audios.collect::<Vec<_>>())?)
        }
        _ => plain.audio.clone(),
    };
    Ok(Latents { video, audio })
}

/// How far a mixture is rescaled, at which share of noise.
struct Mixing {
    rescale: f64,
    sigma: f64,
}

impl Mixing {
    /// `plain + Σ weight·(plain − other)`, rescaled.
    fn mix(&self, x: &Tensor, plain: &Tensor, others: &[(f64, &Tensor)]) -> Result<Tensor> {
        let &Self { rescale, sigma } = self;
        let mut mixed = plain.clone();
        for (weight, other) in others {
            mixed = (mixed + ((plain - *other)? * *weight)?)?;
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
}

/// The standard deviation of all values, summed in f64.
fn deviation(values: &Tensor) -> Result<f64> {
    let values = values.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?;
    Ok(values.var(0)?.to_scalar::<f64>()?.sqrt())
}
