//! The noise of a run: what a stage begins with, drawn from the seed or the user's own, and what some samplers add on the way.

use std::path::Path;

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};
use crate::families::latents::{self, Latents};
use crate::plan::Plan;
use crate::sampling::noise::Generator;
use crate::sampling::schedule::Sampler;

/// The noises of a run, drawn one after the other: what its first stage begins with, what its steps add, what its second
/// stage begins with, and what the steps of that add.
pub(super) struct Noises<'a> {
    plan: &'a Plan,
    generator: Generator,
}

impl<'a> Noises<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        Self { plan, generator: Generator::seed(plan.seed) }
    }

    /// What the first stage begins with: the noise of the seed or of the user's file, as much of it as the first sigma says
    /// where the sampler is one that mixes.
    pub(super) fn first(&mut self) -> Result<Latents> {
        let noise = match &self.plan.request.noise {
            None => self.of_phase(0)?,
            Some(path) => {
                self.skip_first()?;
                noise_of(path, self.plan)?
            }
        };
        match self.plan.steps().next().filter(|_| self.adds()) {
            Some((_, step)) => Ok(noise.map(|noise| noise * step.sigma)?),
            None => Ok(noise),
        }
    }

    /// What a stage begins with.
    pub(super) fn of_phase(&mut self, phase: usize) -> Result<Latents> {
        drawn(&mut self.generator, self.plan, phase)
    }

    /// What a step adds, where the sampler is one that adds noise: nothing after the last of a stage.
    pub(super) fn of_step(&mut self, index: usize) -> Result<Option<Latents>> {
        let phase = self.phase(index);
        let adds = self.adds() && phase.is_some() && phase == self.phase(index + 1);
        phase.filter(|_| adds).map(|phase| self.of_phase(phase)).transpose()
    }

    /// Draws and drops what was used before step `next`: a run goes on with the noises that it would have had.
    pub(super) fn skip(&mut self, next: usize) -> Result<()> {
        self.skip_first()?;
        for index in 0..next {
            if index > 0 && self.phase(index) != self.phase(index - 1) {
                self.phase(index).map(|phase| self.of_phase(phase)).transpose()?;
            }
            self.of_step(index)?;
        }
        Ok(())
    }

    /// The seed's first noise. A file takes its place; but where steps add noise it is drawn all the same, because the file
    /// may hold this very noise, which must not come again after the first step.
    fn skip_first(&mut self) -> Result<()> {
        if self.plan.request.noise.is_none() || self.adds() {
            self.of_phase(0)?;
        }
        Ok(())
    }

    fn phase(&self, index: usize) -> Option<usize> {
        self.plan.phase_of(index)
    }

    fn adds(&self) -> bool {
        self.plan.sampling.sampler == Sampler::Renoise
    }
}

/// The next noises of a generator, in the reference's order: pictures, then sound. Its first stage draws them in the shapes of
/// the autoencoders, its second in the order of the transformer's tokens, but for a film that begins with a picture.
fn drawn(generator: &mut Generator, plan: &Plan, phase: usize) -> Result<Latents> {
    let mut draw = |shape: &[usize]| Tensor::from_vec(generator.normal(shape.iter().product()), shape, &Device::Cpu);
    let shape @ [_, channels, frames, height, width] = plan.phases[phase].shape.latents;
    let video = if phase == 0 || !plan.request.conditions.is_empty() {
        draw(&shape)?
    } else {
        draw(&[1, frames, height, width, channels])?.permute((0, 4, 1, 2, 3))?.contiguous()?
    };
    let Some(sound) = &plan.settings.sound else { return Ok(video.into()) };
    let [_, length, width] = sound.latents;
    let audio = if phase == 0 {
        let bins = width / sound.channels;
        draw(&[1, sound.channels, length, bins])?.transpose(1, 2)?.contiguous()?.reshape(sound.latents.to_vec())?
    } else {
        draw(&sound.latents)?
    };
    Ok(Latents { video, audio: Some(audio) })
}

/// The noise in the user's file, of the shape of the plan's latents. What it lacks of sound is drawn from the seed.
///
/// # Errors
/// A file that cannot be read or holds none, or one of another shape.
pub fn noise_of(path: &Path, plan: &Plan) -> Result<Latents> {
    let noise = latents::load_latents(path)?;
    let audio = match (noise.audio, &plan.settings.sound) {
        (audio, Some(sound)) => {
            let audio = audio.map_or_else(
                || drawn(&mut Generator::seed(plan.seed), plan, 0).map(|noise| noise.audio),
                |audio| Ok(Some(audio)),
            )?;
            audio.map(|audio| of_shape(audio, &sound.latents, path)).transpose()?
        }
        (_, None) => None,
    };
    Ok(Latents { video: of_shape(noise.video, &plan.first_shape().latents, path)?, audio })
}

fn of_shape(noise: Tensor, shape: &[usize], path: &Path) -> Result<Tensor> {
    if noise.dims() == shape {
        return Ok(noise);
    }
    Err(Error::usage(format!(
        "the noise has the shape {:?}, where {shape:?} belongs, in {}",
        noise.dims(),
        path.display()
    ))
    .hint("`--plan` shows the shape of the latents for a size and a number of frames"))
}
