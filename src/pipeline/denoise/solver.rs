//! The samplers of one phase: one for each modality.

use std::collections::HashMap;

use candle_core::Tensor;

use crate::error::Result;
use crate::families::latents::Latents;
use crate::plan::Plan;
use crate::sampling::stepper::Stepper;

/// The samplers of one phase.
pub(super) struct Solver {
    pub phase: usize,
    /// The number of the phase's first step.
    first: usize,
    video: Stepper,
    audio: Option<Stepper>,
}

/// What the names of the audio's state begin with.
const OF_AUDIO: &str = "audio.";

impl Solver {
    pub(super) fn new(plan: &Plan, phase: usize) -> Result<Self> {
        let video = Stepper::new(plan.sampling.clone(), &plan.phases[phase].schedule())?;
        let audio = plan.settings.sound.as_ref().map(|_| video.clone());
        let first = plan.phases[..phase].iter().map(|phase| phase.steps.len()).sum();
        Ok(Self { phase, first, video, audio })
    }

    pub(super) fn step(&mut self, index: usize, v: &Latents, xs: &Latents, noise: Option<&Latents>) -> Result<Latents> {
        let index = index - self.first;
        let video = self.video.step(index, &v.video, &xs.video, noise.map(|noise| &noise.video))?;
        let audio = match (&mut self.audio, &v.audio, &xs.audio) {
            (Some(audio), Some(v), Some(xs)) => {
                Some(audio.step(index, v, xs, noise.and_then(|noise| noise.audio.as_ref()))?)
            }
            _ => None,
        };
        Ok(Latents { video, audio })
    }

    pub(super) fn state(&self) -> Vec<(String, Tensor)> {
        let audio =
            self.audio.iter().flat_map(Stepper::state).map(|(name, tensor)| (format!("{OF_AUDIO}{name}"), tensor));
        self.video.state().into_iter().chain(audio).collect()
    }

    pub(super) fn restore(&mut self, next: usize, mut tensors: HashMap<String, Tensor>) -> Result<()> {
        let audio = tensors.extract_if(|name, _| name.starts_with(OF_AUDIO));
        let audio = audio.map(|(name, tensor)| (name[OF_AUDIO.len()..].to_owned(), tensor)).collect();
        let next = next.saturating_sub(self.first);
        self.video.restore(next, tensors)?;
        self.audio.as_mut().map_or(Ok(()), |stepper| stepper.restore(next, audio))
    }
}
