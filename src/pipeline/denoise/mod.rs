//! The denoising loop: from noise to latents, a step at a time, each step kept.

mod cache;
mod noise;
mod solver;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::families::family::{Compute, Conditioning, Denoiser, DenoiserInput, Family};
use crate::families::latents::Latents;
use crate::pipeline::guidance::velocity;
use crate::pipeline::preview::Projection;
use crate::pipeline::run::{Run, State};
use crate::plan::{Plan, Step};
use crate::progress::{Event, Progress, Stage};
use cache::Cache;
pub use cache::Cached;
use noise::Noises;
pub use noise::noise_of;
use solver::Solver;

/// What the loop works on.
pub struct Denoise<'a> {
    /// The model.
    pub family: &'a dyn Family,
    /// What was settled.
    pub plan: &'a Plan,
    /// Where to compute.
    pub compute: &'a Compute,
    /// What the predictions are conditioned on.
    pub conditioning: &'a Conditioning,
    /// How latents become a small picture, where previews are wanted.
    pub preview: Option<&'a Projection>,
}

impl Denoise<'_> {
    /// Goes through the steps that are left, and keeps the state in the run's folder.
    ///
    /// A stop from the callback takes effect after the step at hand, with the state kept. What step caching saved and cost comes
    /// beside the latents, where it was asked for.
    ///
    /// # Errors
    /// A stop, weights that do not load, latents that are no longer finite, a full disk.
    pub fn run(&self, run: &mut Run, progress: &mut Progress<'_>) -> Result<(Latents, Option<Cached>)> {
        let total = self.plan.steps.len() as u64;
        let mut noises = Noises::new(self.plan);
        let mut cache = Cache::new(self.plan);
        let (first, mut xs, mut solver) = self.begin(run, &mut noises, &mut cache)?;
        progress.advance(Stage::Denoise, first as u64, total)?;
        let mut loaded: Option<(usize, Box<dyn Denoiser>)> = None;
        for (index, step) in self.plan.steps.iter().enumerate().skip(first) {
            if step.stage != solver.stage {
                loaded = None;
                xs = self.enlarged(&xs, step, &mut noises)?;
                solver = Solver::new(self.plan, step.stage)?;
            }
            let v = match cache.reuse(index, &xs)? {
                Some(v) => v,
                None => {
                    let model = self.expert(&mut loaded, step, progress)?;
                    let at = DenoiserInput {
                        latents: &xs,
                        timestep: step.timestep,
                        image: self.conditioning.image.as_ref(),
                    };
                    let v = velocity(model, at, step, self.conditioning)?;
                    cache.learn(index, &xs, &v)?;
                    v
                }
            };
            let before = xs;
            let noise = noises.of_step(index)?.map(|noise| noise.to_device(&self.compute.device)).transpose()?;
            xs = self.pinned(solver.step(index, &v, &before, noise.as_ref())?, &before.video)?;
            self.check(&xs, index)?;
            let next = index + 1;
            let state: Vec<_> = xs.pack().into_iter().chain(solver.state()).chain(cache.state()?).collect();
            run.save_state(next, &state, false)?;
            let told = self.tell(progress, next, &before.video, &v.video, step);
            if told.is_err() {
                run.save_state(next, &state, true)?;
            }
            told?;
        }
        Ok((xs, cache.figures()))
    }

    /// The step to begin with, the latents before it and the solver: those of the run's folder, or noise.
    fn begin(&self, run: &Run, noises: &mut Noises<'_>, cache: &mut Cache<'_>) -> Result<(usize, Latents, Solver)> {
        let device = &self.compute.device;
        let Some(State { next, mut tensors }) = run.state(device)? else {
            let xs = noises.first()?.to_device(device)?;
            let video = match &self.conditioning.image {
                Some(image) if self.family.begins_with_image() => begin_with(image, &xs.video)?,
                _ => xs.video,
            };
            return Ok((0, Latents { video, ..xs }, Solver::new(self.plan, 0)?));
        };
        // The state after a stage's last step is of that stage still.
        let stage = next.checked_sub(1).and_then(|last| self.plan.steps.get(last)).map_or(0, |step| step.stage);
        let audio = self.plan.sound.as_ref().map(|sound| sound.latents);
        let shape = self.plan.stage_shape(stage).latents;
        let xs = Latents::unpack(&mut tensors);
        let xs = xs.filter(|xs| xs.has_shapes(&shape, audio.as_ref().map(<[usize; 3]>::as_slice)));
        let xs = xs.ok_or_else(|| damaged(run))?;
        cache.restore(&xs, &mut tensors)?;
        let mut solver = Solver::new(self.plan, stage)?;
        solver.restore(next, tensors)?;
        noises.skip(next)?;
        Ok((next, xs, solver))
    }

    /// The latents of a first stage, twice as large and with noise again, for the second.
    fn enlarged(&self, xs: &Latents, step: &Step, noises: &mut Noises<'_>) -> Result<Latents> {
        let noise = noises.of_stage(step.stage)?.to_device(&self.compute.device)?;
        let video = self.family.upsample(&xs.video, self.compute)?;
        let noised = |xs: &Tensor, noise: &Tensor| (noise * step.sigma)? + (xs * (1.0 - step.sigma))?;
        let audio = match (&xs.audio, &noise.audio) {
            (Some(audio), Some(noise)) => Some(noised(audio, noise)?),
            _ => None,
        };
        self.pinned(Latents { video: noised(&video, &noise.video)?, audio }, &video)
    }

    /// The latents with the first frame of `before`, where the film begins with a picture.
    fn pinned(&self, xs: Latents, before: &Tensor) -> Result<Latents> {
        if self.conditioning.image.is_none() || !self.family.begins_with_image() {
            return Ok(xs);
        }
        Ok(Latents { video: begin_with(&before.narrow(2, 0, 1)?, &xs.video)?, ..xs })
    }

    /// The transformer of this step. Another one that is in memory goes first.
    fn expert<'m>(
        &self,
        loaded: &'m mut Option<(usize, Box<dyn Denoiser>)>,
        step: &Step,
        progress: &mut Progress<'_>,
    ) -> Result<&'m dyn Denoiser> {
        if loaded.as_ref().is_some_and(|(expert, _)| *expert != step.expert) {
            *loaded = None;
        }
        let model = match loaded.take() {
            Some(model) => model,
            None => (step.expert, self.family.denoiser(step.expert, self.plan, self.compute, progress)?),
        };
        Ok(loaded.insert(model).1.as_ref())
    }

    fn check(&self, xs: &Latents, index: usize) -> Result<()> {
        if xs.is_finite()? {
            return Ok(());
        }
        let (step, steps) = (index + 1, self.plan.steps.len());
        Err(Error::failed(format!("the latents are no longer finite after step {step} of {steps}"))
            .hint("try `--dtype f32`, a lower `--guidance`, or other weights: these, or their number type, overflow"))
    }

    fn tell(&self, progress: &mut Progress<'_>, next: usize, before: &Tensor, v: &Tensor, step: &Step) -> Result<()> {
        let steps = self.plan.steps.len();
        let every = steps.div_ceil(10);
        if let Some(projection) = self.preview.filter(|_| next.is_multiple_of(every) || next == steps) {
            // The film as the transformer sees it now, without the noise that is left: x₀ = x − σ·v.
            let picture = projection.picture(&(before - (v * step.sigma)?)?)?;
            let (width, height, rgb) = (picture.width, picture.height, picture.data);
            progress.emit(&Event::Preview { step: next, width, height, rgb })?;
        }
        progress.advance(Stage::Denoise, next as u64, steps as u64)
    }
}

/// `video` with another first frame.
fn begin_with(first: &Tensor, video: &Tensor) -> Result<Tensor> {
    let frames = video.dim(2)?;
    if frames == 1 {
        return Ok(first.clone());
    }
    Ok(Tensor::cat(&[first, &video.narrow(2, 1, frames - 1)?], 2)?)
}

fn damaged(run: &Run) -> Error {
    Error::failed(format!("the state of the run holds no latents of its film, in {}", run.folder().display()))
        .hint("start the run again with `talkie generate`")
}
