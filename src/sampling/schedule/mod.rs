//! Schedules: the sigmas and timesteps of a run.
//!
//! Sigma is the share of noise in rectified flow (Liu et al. 2022): x = (1 − σ)·x₀ + σ·noise, from 1 down to
//! 0. Each sampler has the grid of its diffusers scheduler, so that a run has the reference's sigmas.

mod config;

pub use config::{Sampling, SchedulerConfig};

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Timesteps of training: a timestep is a sigma times this.
pub const TRAIN_TIMESTEPS: f64 = 1000.0;
/// The most steps of a run.
pub const MAX_STEPS: usize = 1000;
/// The largest flow shift.
pub const MAX_FLOW_SHIFT: f64 = 100.0;

/// The largest dynamic shift: beyond it sigmas are equal in f32.
pub const MAX_DYNAMIC_SHIFT: f64 = 1e6;
/// How far below 1 the multistep samplers start: they take the logarithm of 1 − σ.
const BELOW_ONE: f64 = 1e-6;

/// A sampler: how a latent gets from one sigma to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Sampler {
    /// UniPC (Zhao et al. 2023), a multistep predictor-corrector, as in Wan.
    #[serde(rename = "unipc")]
    UniPc,
    /// Euler steps along the flow (Liu et al. 2022).
    #[serde(rename = "euler")]
    Euler,
    /// DPM-Solver++ 2M (Lu et al. 2022), multistep.
    #[serde(rename = "dpm++")]
    DpmPp2m,
    /// Renoising: to the predicted x₀, and back with new noise. For models distilled to few steps, by
    /// consistency (Song et al. 2023) or distribution matching (DMD2, Yin et al. 2024).
    #[serde(rename = "renoise")]
    Renoise,
}

impl Sampler {
    /// Every sampler, the default first.
    pub const ALL: [Self; 4] = [Self::UniPc, Self::Euler, Self::DpmPp2m, Self::Renoise];

    /// The name on the command line and in files: `unipc`, `euler`, `dpm++` or `renoise`.
    pub fn name(self) -> &'static str {
        match self {
            Self::UniPc => "unipc",
            Self::Euler => "euler",
            Self::DpmPp2m => "dpm++",
            Self::Renoise => "renoise",
        }
    }

    /// The highest order: 3 for UniPC, 2 for DPM-Solver++, 1 for the others.
    pub fn max_order(self) -> usize {
        match self {
            Self::UniPc => 3,
            Self::DpmPp2m => 2,
            Self::Euler | Self::Renoise => 1,
        }
    }

    /// Whether a step uses earlier predictions. Such a sampler starts below sigma 1 and truncates timesteps
    /// to integers.
    pub fn is_multistep(self) -> bool {
        matches!(self, Self::UniPc | Self::DpmPp2m)
    }
}

const NAMES: &str = "use `unipc`, `euler`, `dpm++` or `renoise`";

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Sampler {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|sampler| sampler.name() == name)
            .ok_or_else(|| Error::usage(format!("`{name}` is not a sampler")).hint(NAMES))
    }
}

/// The sigmas and timesteps of a run of n steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Schedule {
    /// n + 1 values in [0, 1], below 1 for the multistep samplers, strictly decreasing, the last 0. Each is
    /// an f32, as in the reference: near 1 the rounding of 1 − σ decides the coefficients of a multistep
    /// sampler.
    pub sigmas: Vec<f64>,
    /// n values in [0, 1000], as fed to the transformer: integers for the multistep samplers, f32 for the
    /// others.
    pub timesteps: Vec<f64>,
}

impl Schedule {
    /// The grid of a sampler, with the flow shift s: σ′ = s·σ / (1 + (s − 1)·σ).
    ///
    /// # Errors
    /// `steps` outside 1 to 1000, or a `flow_shift` that is not above 0 and at most 100.
    pub fn new(sampler: Sampler, flow_shift: f64, steps: usize) -> Result<Self> {
        check_steps(steps)?;
        check_flow_shift(flow_shift)?;
        let shift = |sigma: f64| flow_shift * sigma / (1.0 + (flow_shift - 1.0) * sigma);
        let sigmas = match sampler {
            // https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/schedulers/scheduling_unipc_multistep.py#L428-L450
            Sampler::UniPc => {
                let grid = linspace(1.0, 1.0 / TRAIN_TIMESTEPS, steps + 1);
                grid[..steps].iter().map(|&sigma| shift(sigma)).collect()
            }
            Sampler::Euler => {
                // The reference shifts the training grid in f32, and the values that it picks from it again.
                // For a shift below 1, rounding may put 1 above 1.
                let (high, low) = (shift_f32(1.0, flow_shift).min(1.0), shift_f32(1e-3, flow_shift));
                let grid = linspace(high * TRAIN_TIMESTEPS, low * TRAIN_TIMESTEPS, steps);
                grid.into_iter().map(|timestep| shift(timestep / TRAIN_TIMESTEPS)).collect()
            }
            // https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/schedulers/scheduling_dpmsolver_multistep.py#L465-L469
            Sampler::DpmPp2m => {
                let grid = linspace(1.0, 1.0 / TRAIN_TIMESTEPS, steps + 1);
                grid[1..].iter().rev().map(|&alpha| shift(1.0 - alpha)).collect()
            }
            // As few-step models are trained: shifted once, from 1, with the step to 0 as long as the others.
            Sampler::Renoise => linspace(1.0, 1.0 / steps as f64, steps).into_iter().map(shift).collect(),
        };
        Self::finish(sampler, sigmas).map_err(|cause| {
            Error::usage(format!("flow shift {flow_shift:?} leaves no {steps} distinct sigmas"))
                .because(cause)
                .hint("use a larger flow shift, such as 3 or 5")
        })
    }

    /// LTX's grid for Euler: evenly spaced sigmas, shifted, and stretched so that the last before 0 is
    /// `terminal` (0: not stretched). In f32, as in the reference.
    ///
    /// # Errors
    /// `steps` outside 1 to 1000, a `flow_shift` that is not above 0 and at most [`MAX_DYNAMIC_SHIFT`], a
    /// `terminal` that is not at least 0 and below 1.
    pub fn even(flow_shift: f64, terminal: f64, steps: usize) -> Result<Self> {
        check_steps(steps)?;
        if !(flow_shift > 0.0 && flow_shift <= MAX_DYNAMIC_SHIFT) {
            check_flow_shift(flow_shift)?;
        }
        if !(0.0..1.0).contains(&terminal) {
            return Err(Error::usage(format!("the last sigma cannot be {terminal:?}")).hint(SIGMAS_HINT));
        }
        let shift = flow_shift as f32;
        let grid = linspace(1.0, 1.0 / steps as f64, steps);
        let mut sigmas: Vec<f32> = grid.iter().map(|&sigma| shift / (shift + (1.0 / sigma as f32 - 1.0))).collect();
        let last = 1.0 - sigmas[steps - 1];
        if terminal > 0.0 && last > 0.0 {
            let scale = last / (1.0 - terminal as f32);
            sigmas.iter_mut().for_each(|sigma| *sigma = 1.0 - (1.0 - *sigma) / scale);
        }
        Self::finish(Sampler::Euler, sigmas.into_iter().map(f64::from).collect())
    }

    /// A schedule of given sigmas: n values in (0, 1], strictly decreasing, with or without a final 0.
    ///
    /// No shift is applied. For the multistep samplers a first sigma of 1 becomes 1 − 10⁻⁶, as in the
    /// reference.
    ///
    /// # Errors
    /// No sigmas or more than 1000, one outside (0, 1], or one not below the one before.
    pub fn from_sigmas(sampler: Sampler, sigmas: &[f64]) -> Result<Self> {
        let steps = sigmas.strip_suffix(&[0.0]).unwrap_or(sigmas);
        check_steps(steps.len())?;
        if let Some(sigma) = steps.iter().find(|sigma| !(**sigma > 0.0 && **sigma <= 1.0)) {
            return Err(Error::usage(format!("a sigma must be above 0 and at most 1, not {sigma:?}")).hint(SIGMAS_HINT));
        }
        Self::finish(sampler, steps.to_vec())
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.timesteps.len()
    }

    /// Rounds sigmas as the reference stores them, derives the timesteps and appends the final 0.
    fn finish(sampler: Sampler, mut sigmas: Vec<f64>) -> Result<Self> {
        if sampler.is_multistep() && (sigmas[0] - 1.0).abs() < BELOW_ONE {
            sigmas[0] -= BELOW_ONE;
        }
        let timestep = |sigma: &f64| {
            if sampler.is_multistep() {
                (sigma * TRAIN_TIMESTEPS).trunc()
            } else {
                f64::from(*sigma as f32 * TRAIN_TIMESTEPS as f32)
            }
        };
        let timesteps = sigmas.iter().map(timestep).collect();
        sigmas.push(0.0);
        let sigmas: Vec<f64> = sigmas.into_iter().map(|sigma| f64::from(sigma as f32)).collect();
        if let Some((before, sigma)) = sigmas.iter().zip(&sigmas[1..]).find(|(before, sigma)| sigma >= before) {
            return Err(Error::usage(format!("a sigma must be below the one before it, {before:?}, not {sigma:?}"))
                .hint(SIGMAS_HINT));
        }
        Ok(Self { sigmas, timesteps })
    }
}

const SIGMAS_HINT: &str = "give sigmas that fall from at most 1 towards 0, such as `1,0.75,0.5,0.25`";

fn check_steps(steps: usize) -> Result<()> {
    if (1..=MAX_STEPS).contains(&steps) {
        return Ok(());
    }
    Err(Error::usage(format!("{steps} is not a number of steps")).hint(format!("use 1 to {MAX_STEPS} steps")))
}

/// Checks a flow shift.
///
/// # Errors
/// A shift that is not above 0 and at most [`MAX_FLOW_SHIFT`].
pub fn check_flow_shift(flow_shift: f64) -> Result<()> {
    if flow_shift > 0.0 && flow_shift <= MAX_FLOW_SHIFT {
        return Ok(());
    }
    Err(Error::usage(format!("{flow_shift:?} is not a flow shift"))
        .hint(format!("use a number above 0 and at most {MAX_FLOW_SHIFT}, such as 3 or 5")))
}

/// `numpy.linspace`: `count` values from `start` to `stop`, in NumPy's order of operations, because
/// truncation to integer timesteps would show the last bit.
fn linspace(start: f64, stop: f64, count: usize) -> Vec<f64> {
    let step = (stop - start) / (count.max(2) - 1) as f64;
    let mut values: Vec<f64> = (0..count).map(|i| i as f64 * step + start).collect();
    if count > 1 {
        values[count - 1] = stop;
    }
    values
}

fn shift_f32(sigma: f32, flow_shift: f64) -> f64 {
    f64::from(flow_shift as f32 * sigma / (1.0 + (flow_shift - 1.0) as f32 * sigma))
}
