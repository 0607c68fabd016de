//! The sampler of one stage, for pictures and for sound.

use std::collections::HashMap;

use candle_core::Tensor;

use crate::error::Result;
use crate::families::latents::Latents;
use crate::plan::Plan;
use crate::sampling::stepper::Stepper;

/// The sampler of one stage, for pictures and for sound.
pub(super) struct Solver {
    pub stage: usize,
    /// The first step of the stage.
    first: usize,
    video: Stepper,
    audio: Option<Stepper>,
}

/// What the names of the sound's state begin with.
const OF_AUDIO: &str = "audio.";

impl Solver {
    pub(super) fn new(plan: &Plan, stage: usize) -> Result<Self> {
        let video = Stepper::new(plan.sampling.clone(), &plan.schedule(stage))?;
        let audio = plan.sound.as_ref().map(|_| video.clone());
        let first = plan.steps.iter().position(|step| step.stage == stage).unwrap_or(0);
        Ok(Self { stage, first, video, audio })
    }

    pub(super) fn step(&mut self, index: usize, v: &Latents, xs: &Latents, noise: Option<&Latents>) -> Result<Latents> {
        let index = index - self.first;
        let audio = match (&mut self.audio, &v.audio, &xs.audio) {
            (Some(audio), Some(v), Some(xs)) => {
                Some(audio.step(index, v, xs, noise.and_then(|noise| noise.audio.as_ref()))?)
            }
            _ => None,
        };
        Ok(Latents { video: self.video.step(index, &v.video, &xs.video, noise.map(|noise| &noise.video))?, audio })
    }

    pub(super) fn state(&self) -> Vec<(String, Tensor)> {
        let audio =
            self.audio.iter().flat_map(Stepper::state).map(|(name, tensor)| (format!("{OF_AUDIO}{name}"), tensor));
        self.video.state().into_iter().chain(audio).collect()
    }

    pub(super) fn restore(&mut self, next: usize, tensors: HashMap<String, Tensor>) -> Result<()> {
        let (mut video, mut audio) = (HashMap::new(), HashMap::new());
        for (name, tensor) in tensors {
            match name.strip_prefix(OF_AUDIO) {
                Some(name) => audio.insert(name.to_owned(), tensor),
                None => video.insert(name, tensor),
            };
        }
        let next = next.saturating_sub(self.first);
        self.video.restore(next, video)?;
        self.audio.as_mut().map_or(Ok(()), |stepper| stepper.restore(next, audio))
    }
}
