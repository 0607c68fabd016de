//! Steppers: from a latent and the predicted velocity to the latent at the next sigma.
//!
//! A [`Stepper`] is arithmetic and the last predictions: no model, no progress, no random numbers; noise is
//! an argument. Tensors are f32 of any shape, on any device; coefficients are f64.

mod weights;

use std::collections::{HashMap, VecDeque};

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::sampling::schedule::{Sampler, Sampling, Schedule};
use weights::Weights;

/// The state tensor of the latent that a UniPC step started from.
const LAST_SAMPLE: &str = "last_sample";

/// Takes the steps of one run, in order.
///
/// - Euler, for rectified flow (Liu et al. 2022): x′ = x + (σ′ − σ)·v.
/// - DPM-Solver++ 2M (Lu et al. 2022): a multistep predictor of x₀ = x − σ·v.
/// - UniPC (Zhao et al. 2023), B(h) = eʰ − 1: the same with a corrector, which refines each latent with the
///   prediction at it.
/// - Renoise, for distilled models (DMD2, Yin et al. 2024; rCM, Zheng et al. 2025): x′ = (1 − σ′)·x₀ +
///   σ′·noise.
#[derive(Debug, Clone)]
pub struct Stepper {
    sampling: Sampling,
    sigmas: Vec<f64>,
    next: usize,
    /// Predictions of x₀ at the steps before `next`, the newest first.
    x0s: VecDeque<Tensor>,
    /// The corrected latent that the step before `next` started from. UniPC only.
    last_sample: Option<Tensor>,
}

impl Stepper {
    /// A new stepper.
    ///
    /// # Errors
    /// An unsupported order, or a schedule whose sigmas do not fall from at most 1 (below 1 for a multistep
    /// sampler) to 0.
    pub fn new(sampling: impl Into<Sampling>, schedule: &Schedule) -> Result<Self> {
        let sampling = sampling.into();
        let most = sampling.sampler.max_order();
        if !(1..=most).contains(&sampling.order) {
            return Err(Error::usage(format!("sampler {} has no order {}", sampling.sampler, sampling.order))
                .hint(format!("use an order of 1 to {most}")));
        }
        let sigmas = schedule.sigmas.clone();
        let falls = sigmas.windows(2).all(|pair| pair[1] < pair[0]);
        let starts = sigmas.first().is_some_and(|&s| s < 1.0 || (s == 1.0 && !sampling.sampler.is_multistep()));
        if !(falls && starts && sigmas.len() > 1 && sigmas.ends_with(&[0.0])) {
            return Err(Error::usage("the sigmas of the schedule do not fall from 1 to 0")
                .hint("make the schedule with `Schedule::new` or `Schedule::from_sigmas`, for the same sampler"));
        }
        Ok(Self { sampling, sigmas, next: 0, x0s: VecDeque::new(), last_sample: None })
    }

    /// Step `index`, counted from 0: the latent at `sigmas[index + 1]`, in f32.
    ///
    /// `x` is the latent at `sigmas[index]`, `velocity` the prediction there after guidance: noise − x₀.
    /// `noise` is standard normal, required by [`Sampler::Renoise`] at every step but the last, and unused by
    /// others. All have the shape of the result.
    ///
    /// # Errors
    /// A step out of order, missing noise, different shapes, or a failed tensor operation. The stepper is
    /// unchanged then.
    pub fn step(
        &mut self,
        index: usize,
        velocity: &Tensor,
        x: &Tensor,
        noise: Option<&Tensor>,
    ) -> candle_core::Result<Tensor> {
        let steps = self.sigmas.len() - 1;
        if index != self.next || index >= steps {
            candle_core::bail!("step {index} asked for where step {} of {steps} is next", self.next);
        }
        for (what, tensor) in [("velocity", Some(velocity)), ("state", self.x0s.front()), ("noise", noise)] {
            if let Some(tensor) = tensor.filter(|tensor| tensor.dims() != x.dims()) {
                candle_core::bail!("the {what} has shape {:?} where the latent has {:?}", tensor.dims(), x.dims());
            }
        }
        let (x, velocity) = (x.to_dtype(DType::F32)?, velocity.to_dtype(DType::F32)?);
        let (sigma, to) = (self.sigmas[index], self.sigmas[index + 1]);
        let x0 = || combine(&[(1.0, &x), (-sigma, &velocity)]);
        let next = match self.sampling.sampler {
            Sampler::Euler => combine(&[(1.0, &x), (to - sigma, &velocity)])?,
            Sampler::UniPc | Sampler::DpmPp2m => self.multistep(&x, x0()?)?,
            Sampler::Renoise if to == 0.0 => x0()?,
            Sampler::Renoise => match noise {
                Some(noise) => combine(&[(1.0 - to, &x0()?), (to, noise)])?,
                None => candle_core::bail!("step {index} of sampler {} has no noise", self.sampling.sampler),
            },
        };
        self.next += 1;
        Ok(next)
    }

    /// The tensors that the next step needs besides the latent, by name: none at the start.
    ///
    /// A stepper that [`restore`](Self::restore)s them continues bit for bit.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let x0s = self.x0s.iter().enumerate().map(|(age, x0)| (x0_name(age), x0.clone()));
        x0s.chain(self.last_sample.iter().map(|x| (LAST_SAMPLE.to_string(), x.clone()))).collect()
    }

    /// Continues before step `next` with the tensors of a [`state`](Self::state), on the device of the
    /// latent. Tensors of other names are ignored.
    ///
    /// # Errors
    /// A step beyond the schedule, or a tensor that is missing, not f32 or of another shape. The stepper is
    /// unchanged then.
    pub fn restore(&mut self, next: usize, mut tensors: HashMap<String, Tensor>) -> Result<()> {
        if next >= self.sigmas.len() {
            let steps = self.sigmas.len() - 1;
            return Err(Error::failed(format!("the saved run has done {next} steps, and its schedule has {steps}"))
                .hint("its folder is damaged: start the run anew, with the same seed for the same film"));
        }
        let mut shape = None;
        let mut take = |name: &str| {
            let tensor = tensors.remove(name).ok_or_else(|| unfit(name, "is missing"))?;
            if tensor.dtype() != DType::F32 {
                return Err(unfit(name, &format!("is {}, not f32", tensor.dtype().as_str())));
            }
            let shape = shape.get_or_insert_with(|| tensor.dims().to_vec());
            if tensor.dims() != shape {
                return Err(unfit(name, &format!("has shape {:?} where the others have {shape:?}", tensor.dims())));
            }
            Ok(tensor)
        };
        let x0s = (0..self.memory().min(next)).map(|age| take(&x0_name(age))).collect::<Result<_>>()?;
        let corrects = self.sampling.sampler == Sampler::UniPc && next > 0;
        let last_sample = corrects.then(|| take(LAST_SAMPLE)).transpose()?;
        (self.next, self.x0s, self.last_sample) = (next, x0s, last_sample);
        Ok(())
    }

    /// A step of UniPC or DPM-Solver++ from the latent `x` with its prediction `x0`.
    fn multistep(&mut self, x: &Tensor, x0: Tensor) -> candle_core::Result<Tensor> {
        let index = self.next;
        let x = self.corrected(&x0)?.unwrap_or_else(|| x.clone());
        let order = self.order(index);
        let others: Vec<f64> = (1..order).map(|k| self.sigmas[index - k]).collect();
        let weights = Weights::new(self.sigmas[index + 1], self.sigmas[index], &others, !self.sampling.heun);
        let x0s: Vec<&Tensor> = self.x0s.iter().take(order - 1).collect();
        let predicted = apply(&weights, &x, &x0, &x0s)?;

        self.x0s.push_front(x0);
        self.x0s.truncate(self.memory());
        self.last_sample = (self.sampling.sampler == Sampler::UniPc).then_some(x);
        Ok(predicted)
    }

    /// UniPC's corrector: repeats the step that led to the current latent, with `x0` at its end.
    fn corrected(&self, x0: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let index = self.next;
        let (Some(last_sample), Some(newest)) = (&self.last_sample, self.x0s.front()) else { return Ok(None) };
        if self.sampling.uncorrected.contains(&(index - 1)) {
            return Ok(None);
        }
        let order = self.order(index - 1);
        let (to, from) = (self.sigmas[index], self.sigmas[index - 1]);
        let others: Vec<f64> = (1..order).map(|k| self.sigmas[index - 1 - k]).chain([to]).collect();
        let x0s: Vec<&Tensor> = self.x0s.iter().skip(1).take(order - 1).chain([x0]).collect();
        apply(&Weights::new(to, from, &others, true), last_sample, newest, &x0s).map(Some)
    }

    /// The order of a step, limited by the number of earlier predictions, and falling to 1 at the end,
    /// because the step to sigma 0 is infinitely long in the logarithm.
    fn order(&self, index: usize) -> usize {
        let steps = self.sigmas.len() - 1;
        self.sampling.order.min(index + 1).min(steps - index)
    }

    /// Most earlier predictions that a step needs.
    fn memory(&self) -> usize {
        match self.sampling.sampler {
            Sampler::UniPc => self.sampling.order,
            Sampler::DpmPp2m => self.sampling.order - 1,
            Sampler::Euler | Sampler::Renoise => 0,
        }
    }
}

fn x0_name(age: usize) -> String {
    format!("x0.{age}")
}

fn unfit(name: &str, why: &str) -> Error {
    Error::failed(format!("the sampler's saved state does not fit: `{name}` {why}"))
        .hint("start the run anew, with the same seed for the same film")
}

/// Applies `weights` to `x`, the prediction `x0` at it and the predictions at the other points.
fn apply(weights: &Weights, x: &Tensor, x0: &Tensor, others: &[&Tensor]) -> candle_core::Result<Tensor> {
    let mut terms = vec![(weights.sample, x), (weights.x0, x0)];
    terms.extend(weights.others.iter().copied().zip(others.iter().copied()));
    combine(&terms)
}

/// The weighted sum of at least one tensor.
fn combine(terms: &[(f64, &Tensor)]) -> candle_core::Result<Tensor> {
    let (weight, tensor) = terms[0];
    let first = tensor.affine(weight, 0.0)?;
    terms[1..].iter().try_fold(first, |sum, (weight, tensor)| sum + tensor.affine(*weight, 0.0)?)
}
