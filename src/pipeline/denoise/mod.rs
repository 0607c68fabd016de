//! The denoising loop: from noise to latents, a step at a time, each step kept.

mod cache;
mod noise;
mod solver;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::families::conditioning::{Conditioning, Mask};
use crate::families::family::{Compute, Denoiser, DenoiserInput, Family, Film};
use crate::families::latents::Latents;
use crate::pipeline::guidance::velocity;
use crate::pipeline::preview::Projection;
use crate::pipeline::run::{Run, State};
use crate::plan::Plan;
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
    /// How latents become a small image, where previews are wanted.
    pub preview: Option<&'a Projection>,
}

impl Denoise<'_> {
    /// Goes through the steps that are left, and keeps the state in the run's folder.
    ///
    /// A stop from the callback takes effect after the current step, with the state kept. What step caching saved and cost
    /// comes beside the latents, where it was asked for.
    ///
    /// # Errors
    /// A stop, weights that do not load, latents that are no longer finite, a full disk.
    pub fn run(&self, run: &mut Run, progress: &mut Progress<'_>) -> Result<(Latents, Option<Cached>)> {
        let total = self.plan.step_count() as u64;
        let mut noises = Noises::new(self.plan);
        let mut cache = Cache::new(self.plan);
        let Start { first, mut xs, mut solver } = self.begin(run, &mut noises, &mut cache)?;
        let mut pin = self.pin_of(solver.phase)?;
        progress.advance(Stage::Denoise, first as u64, total)?;
        let mut loaded: Option<(usize, Box<dyn Denoiser>)> = None;
        for (index, (phase, step)) in self.plan.steps().enumerate().skip(first) {
            if phase != solver.phase {
                loaded = None;
                pin = self.pin_of(phase)?;
                xs = self.enlarged(&xs, (phase, step.sigma), pin.as_ref(), &mut noises, progress)?;
                solver = Solver::new(self.plan, phase)?;
            }
            let v = match cache.reuse(index, &xs)? {
                Some(v) => v,
                None => {
                    let model = self.expert(&mut loaded, (phase, step.expert), progress)?;
                    let input = DenoiserInput { latents: &xs, timestep: step.timestep, pin: pin.as_ref() };
                    let v = velocity(model, input, step, self.conditioning.negative.is_some())?;
                    cache.learn(index, &xs, &v)?;
                    v
                }
            };
            let before = xs;
            let noise = noises.of_step(index)?.map(|noise| self.on_device(&noise)).transpose()?;
            xs = pinned(solver.step(index, &v, &before, noise.as_ref())?, pin.as_ref(), &before.video)?;
            self.check(&xs, index)?;
            let next = index + 1;
            let state: Vec<_> = xs.pack().into_iter().chain(solver.state()).chain(cache.state()?).collect();
            run.save_state(next, &state, false)?;
            let reported = self.report_step(progress, next, (&before.video, &v.video), step.sigma);
            if reported.is_err() {
                run.save_state(next, &state, true)?;
            }
            reported?;
        }
        Ok((xs, cache.figures()))
    }

    /// Where to begin: with the state of the run's folder, or with noise in which the given cells are as they are.
    fn begin(&self, run: &Run, noises: &mut Noises<'_>, cache: &mut Cache<'_>) -> Result<Start> {
        let Some(State { next, mut tensors }) = run.state(&self.compute.device)? else {
            let noise = self.on_device(&noises.first()?)?;
            let given = &self.conditioning.given;
            let xs = match &given.init {
                Some(init) => pinned(noise, given.pin.as_ref(), init)?,
                None => noise,
            };
            return Ok(Start { first: 0, xs, solver: Solver::new(self.plan, 0)? });
        };
        // The state after a phase's last step is of that phase still.
        let phase = next.checked_sub(1).and_then(|last| self.plan.phase_of(last)).unwrap_or(0);
        let audio = self.plan.settings.sound.as_ref().map(|sound| sound.latents.as_slice());
        let shape = self.plan.phases[phase].shape.latents;
        let xs = Latents::unpack(&mut tensors).filter(|xs| xs.has_shapes(&shape, audio));
        let xs = xs.ok_or_else(|| damaged(run))?;
        cache.restore(&xs, &mut tensors)?;
        let mut solver = Solver::new(self.plan, phase)?;
        solver.restore(next, tensors)?;
        noises.skip(next)?;
        Ok(Start { first: next, xs, solver })
    }

    fn on_device(&self, latents: &Latents) -> candle_core::Result<Latents> {
        latents.map(|latents| latents.to_device(&self.compute.device))
    }

    /// The cells that are given in a phase.
    fn pin_of(&self, phase: usize) -> Result<Option<Mask>> {
        let Some(pin) = &self.conditioning.given.pin else { return Ok(None) };
        let [_, _, cells @ ..] = self.plan.phases[phase].shape.latents;
        Ok(Some(if phase == 0 { pin.clone() } else { pin.resized(cells)? }))
    }

    /// The latents of the phase before, upsampled and with noise again.
    fn enlarged(
        &self,
        xs: &Latents,
        (phase, sigma): (usize, f64),
        pin: Option<&Mask>,
        noises: &mut Noises<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Latents> {
        let noise = self.on_device(&noises.of_phase(phase)?)?;
        let video = self.family.upsample(&xs.video, self.compute, progress)?;
        let larger = Latents { video, audio: xs.audio.clone() };
        let noised = larger.zip(&noise, |xs, noise| (noise * sigma)? + (xs * (1.0 - sigma))?)?;
        pinned(noised, pin, &larger.video)
    }

    /// The transformer of this step. Another one that is in memory goes first.
    fn expert<'m>(
        &self,
        loaded: &'m mut Option<(usize, Box<dyn Denoiser>)>,
        (phase, expert): (usize, usize),
        progress: &mut Progress<'_>,
    ) -> Result<&'m dyn Denoiser> {
        let model = match loaded.take_if(|(loaded, _)| *loaded == expert) {
            Some(model) => model,
            None => {
                *loaded = None;
                let Self { plan, conditioning, .. } = *self;
                let film = Film { settings: &plan.settings, shape: &plan.phases[phase].shape, conditioning };
                (expert, self.family.denoiser(expert, film, self.compute, progress)?)
            }
        };
        Ok(loaded.insert(model).1.as_ref())
    }

    fn check(&self, xs: &Latents, index: usize) -> Result<()> {
        if xs.is_finite()? {
            return Ok(());
        }
        let (step, steps) = (index + 1, self.plan.step_count());
        Err(Error::failed(format!("the latents are no longer finite after step {step} of {steps}"))
            .hint("try `--dtype f32`, a lower `--guidance`, or other weights: these, or their number type, overflow"))
    }

    /// Reports a step, and every few steps a preview of the video as the transformer sees it, without the noise that is left:
    /// x₀ = x − σ·v.
    fn report_step(
        &self,
        progress: &mut Progress<'_>,
        next: usize,
        (before, v): (&Tensor, &Tensor),
        sigma: f64,
    ) -> Result<()> {
        let steps = self.plan.step_count();
        let every = steps.div_ceil(10);
        if let Some(projection) = self.preview.filter(|_| next.is_multiple_of(every) || next == steps) {
            let picture = projection.picture(&(before - (v * sigma)?)?)?;
            let (width, height, rgb) = (picture.width, picture.height, picture.data);
            progress.emit(&Event::Preview { step: next, width, height, rgb })?;
        }
        progress.advance(Stage::Denoise, next as u64, steps as u64)
    }
}

/// Where the loop begins: the first step, the latents before it, and the sampler.
struct Start {
    first: usize,
    xs: Latents,
    solver: Solver,
}

/// The latents with the given cells of `source`.
fn pinned(xs: Latents, pin: Option<&Mask>, source: &Tensor) -> Result<Latents> {
    pin.map_or(Ok(xs.clone()), |pin| pin.pin(&xs, source))
}

fn damaged(run: &Run) -> Error {
    Error::failed(format!("the state of the run holds no latents of its film, in {}", run.folder().display()))
        .hint("start the run again with `talkie generate`")
}
