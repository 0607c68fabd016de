//! Step caching: where the prediction is known to change little, the last one serves again, and the transformer rests.
//!
//! After EasyCache (Zhou et al. 2025, arXiv 2507.02860), which asks nothing of a transformer but what goes in and what comes out:
//! from one step to the next its prediction v changes at a rate k = ‖Δv‖ / ‖Δx‖ times its input x, and k is steady once the film
//! has taken shape. While k·‖x − x₀‖ / ‖v₀‖ is small, where x₀ is the input of the last step that was computed and v₀ what came
//! of it, v₀ is taken for v. Norms are mean absolute values. The prediction is the guided one, and x₀ the last computed input, not
//! the last one: k is never learnt from what was itself taken from the cache. Nor is v₀ + x − x₀ taken, as in the paper: films of
//! the model in the box then came out one and a half times as far from those of all steps, and their sound six times.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::families::latents::Latents;
use crate::plan::Plan;

/// The steps of a run, of which some are skipped where it was asked for.
pub(super) struct Cache<'a> {
    threshold: Option<f64>,
    plan: &'a Plan,
    last: Option<Last>,
    figures: Figures,
}

/// The last computed step.
struct Last {
    step: usize,
    xs: Latents,
    v: Latents,
    /// How much more the prediction changes than the input, of pictures and of sound: known after two computed steps.
    rates: Option<[f64; 2]>,
}

/// What was counted so far.
#[derive(Default)]
struct Figures {
    skipped: usize,
    given_up: usize,
    sum: f64,
    largest: f64,
}

/// What step caching saved, and what it cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cached {
    /// The change, as a share of the prediction, up to which a step was skipped.
    pub threshold: f64,
    /// Steps that were skipped.
    pub skipped: usize,
    /// How far off the kept prediction was where it was given up, at the first computed step after skipped ones: the relative L2
    /// distance, of pictures or of sound, the largest of all. At the skipped steps themselves it was nearer.
    pub error: f64,
    /// Their mean.
    pub mean_error: f64,
}

impl Cached {
    /// The same in a sentence, for a run of so many steps.
    pub fn sentence(&self, steps: usize) -> String {
        let Self { skipped, error, mean_error, .. } = self;
        match skipped {
            0 => "no step was skipped: a larger `--cache` skips more".to_owned(),
            _ => format!(
                "{skipped} of {steps} steps were skipped; where a kept prediction was given up, it was off by {:.1} % on average and \
                 by {:.1} % at most",
                100.0 * mean_error,
                100.0 * error
            ),
        }
    }
}

/// The share of a network's steps, from its first one, that are always computed: the film takes shape in them.
const SHAPE: usize = 5;

impl<'a> Cache<'a> {
    /// The cache of a run before its first step.
    pub(super) fn new(plan: &'a Plan) -> Self {
        Self { threshold: plan.request.cache, plan, last: None, figures: Figures::default() }
    }

    /// The prediction at step `index`, where the last computed one may serve.
    pub(super) fn reuse(&mut self, index: usize, xs: &Latents) -> Result<Option<Latents>> {
        let last = self.last.as_ref().filter(|last| self.may_skip(index, last.step));
        let (Some(threshold), Some(last)) = (self.threshold, last) else { return Ok(None) };
        let Some(rates) = last.rates else { return Ok(None) };
        let moved = distances(xs, &last.xs)?;
        let sizes = sizes(&last.v)?;
        let change = (0..2).map(|part| ratio(rates[part] * moved[part], sizes[part])).fold(0.0, f64::max);
        if change >= threshold {
            return Ok(None);
        }
        self.figures.skipped += 1;
        Ok(Some(last.v.clone()))
    }

    /// Takes note of a prediction that was computed.
    pub(super) fn learn(&mut self, index: usize, xs: &Latents, v: &Latents) -> Result<()> {
        if self.threshold.is_none() {
            return Ok(());
        }
        let last = self.last.take().filter(|last| self.is_of_one_network(index, last.step));
        let rates = match last {
            Some(last) => {
                if last.step + 1 < index {
                    self.figures.give_up(error(&last.v, v)?);
                }
                let (moved, changed) = (distances(xs, &last.xs)?, distances(v, &last.v)?);
                Some([0, 1].map(|part| ratio(changed[part], moved[part])))
            }
            None => None,
        };
        self.last = Some(Last { step: index, xs: xs.clone(), v: v.clone(), rates });
        Ok(())
    }

    /// What was saved and what it cost, where steps were to be skipped.
    pub(super) fn figures(&self) -> Option<Cached> {
        let Figures { skipped, given_up, sum, largest } = self.figures;
        let mean_error = sum / given_up.max(1) as f64;
        self.threshold.map(|threshold| Cached { threshold, skipped, error: largest, mean_error })
    }

    /// Whether step `index` may be skipped after `last` was computed: not the first fifth of a network's steps, and not its last,
    /// which leave nothing to make up for an error.
    fn may_skip(&self, index: usize, last: usize) -> bool {
        if !self.is_of_one_network(index, last) || !self.is_of_one_network(index, index + 1) {
            return false;
        }
        let same = |&other: &usize| self.is_of_one_network(index, other);
        let (before, all) = ((0..index).filter(same).count(), (0..self.plan.step_count()).filter(same).count());
        before >= all.div_ceil(SHAPE)
    }

    fn is_of_one_network(&self, one: usize, other: usize) -> bool {
        let network = |index: usize| self.plan.steps().nth(index).map(|(phase, step)| (phase, step.expert));
        network(one) == network(other)
    }

    /// The tensors that the next step needs, by name.
    pub(super) fn state(&self) -> Result<Vec<(String, Tensor)>> {
        if self.threshold.is_none() {
            return Ok(Vec::new());
        }
        let Figures { skipped, given_up, sum, largest } = self.figures;
        let [step, video, audio] = match &self.last {
            Some(Last { step, rates, .. }) => {
                let [video, audio] = rates.unwrap_or([UNKNOWN; 2]);
                [*step as f64, video, audio]
            }
            None => [UNKNOWN; 3],
        };
        let numbers = [skipped as f64, given_up as f64, sum, largest, step, video, audio];
        let numbers = (NUMBERS.to_owned(), Tensor::new(&numbers, &Device::Cpu)?);
        let last = self.last.iter().flat_map(|last| {
            let named = |prefix: &str, latents: &Latents| {
                latents.pack().into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect::<Vec<_>>()
            };
            [named(INPUT, &last.xs), named(OUTPUT, &last.v)].concat()
        });
        Ok(std::iter::once(numbers).chain(last).collect())
    }

    /// Goes on with the tensors of a [`state`](Self::state), and takes them out. What is missing or of another shape than `xs` is
    /// computed again.
    pub(super) fn restore(&mut self, xs: &Latents, tensors: &mut HashMap<String, Tensor>) -> Result<()> {
        let mut latents = |prefix: &str| {
            let mut own: HashMap<_, _> = tensors
                .extract_if(|name, _| name.starts_with(prefix))
                .map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor))
                .collect();
            let audio = xs.audio.as_ref().map(Tensor::dims);
            Latents::unpack(&mut own).filter(|own| own.has_shapes(xs.video.dims(), audio))
        };
        let (input, output) = (latents(INPUT), latents(OUTPUT));
        let Some(numbers) = tensors.remove(NUMBERS) else { return Ok(()) };
        let numbers = numbers.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let &[skipped, given_up, sum, largest, step, video, audio] = numbers.as_slice() else { return Ok(()) };
        self.figures = Figures { skipped: skipped as usize, given_up: given_up as usize, sum, largest };
        if let (Some(xs), Some(v)) = (input, output)
            && step >= 0.0
        {
            let rates = (video >= 0.0).then_some([video, audio]);
            self.last = Some(Last { step: step as usize, xs, v, rates });
        }
        Ok(())
    }
}

/// The names of the state, or what they begin with.
const NUMBERS: &str = "cache.numbers";
const INPUT: &str = "cache.x.";
const OUTPUT: &str = "cache.v.";

/// What stands in the state for a number that is not known yet.
const UNKNOWN: f64 = -1.0;

impl Figures {
    fn give_up(&mut self, error: f64) {
        self.given_up += 1;
        self.sum += error;
        self.largest = self.largest.max(error);
    }
}

/// The mean absolute value of video and audio.
fn sizes(of: &Latents) -> Result<[f64; 2]> {
    let (video, audio) = of.each(|tensor| mean(&tensor.abs()?))?;
    Ok([video, audio.unwrap_or(0.0)])
}

/// The mean absolute difference of video and audio.
fn distances(one: &Latents, other: &Latents) -> Result<[f64; 2]> {
    sizes(&one.zip(other, |one, other| one - other)?)
}

/// The relative L2 distance, of pictures or of sound, whichever is larger.
fn error(made: &Latents, wanted: &Latents) -> Result<f64> {
    let squares = |of: &Latents| -> Result<[f64; 2]> {
        let (video, audio) = of.each(|tensor| mean(&tensor.sqr()?))?;
        Ok([video, audio.unwrap_or(0.0)])
    };
    let (off, whole) = (squares(&made.zip(wanted, |made, wanted| made - wanted)?)?, squares(wanted)?);
    Ok((0..2).map(|part| ratio(off[part], whole[part]).sqrt()).fold(0.0, f64::max))
}

fn mean(tensor: &Tensor) -> Result<f64> {
    Ok(f64::from(tensor.to_dtype(DType::F32)?.mean_all()?.to_scalar::<f32>()?))
}

/// `part` of `whole`; of nothing, nothing.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
