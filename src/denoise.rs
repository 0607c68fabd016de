//! The denoising loop: from noise to latents, a step at a time, each step kept.

use std::path::Path;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::family::{Compute, Denoiser, Family};
use crate::guidance::{Conditioning, velocity};
use crate::latents;
use crate::noise;
use crate::plan::{Plan, Step};
use crate::preview::Projection;
use crate::progress::{Event, Progress, Stage};
use crate::run::{Run, State};
use crate::sample::Stepper;

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
    /// A stop from the callback takes effect after the step at hand, with the state kept.
    ///
    /// # Errors
    /// A stop, weights that do not load, latents that are no longer finite, a full disk.
    pub fn run(&self, run: &mut Run, progress: &mut Progress<'_>) -> Result<Tensor> {
        let schedule = self.plan.schedule();
        let mut stepper = Stepper::new(self.plan.sampling.clone(), &schedule)?;
        let device = &self.compute.device;
        let (first, mut xs) = match run.state(device)? {
            Some(State { next, mut tensors }) => {
                let xs = tensors.remove("latents").filter(|xs| xs.dims() == self.plan.shape.latents);
                let xs = xs.ok_or_else(|| damaged(run))?;
                stepper.restore(next, tensors)?;
                (next, xs)
            }
            None => (0, self.noise()?.to_device(device)?),
        };
        let total = self.plan.steps.len() as u64;
        progress.advance(Stage::Denoise, first as u64, total)?;
        let mut loaded: Option<(usize, Box<dyn Denoiser>)> = None;
        for (index, step) in self.plan.steps.iter().enumerate().skip(first) {
            let model = self.expert(&mut loaded, step)?;
            let v = velocity(model, &xs, step.timestep, step.guidance, self.conditioning)?;
            let before = xs;
            xs = stepper.step(index, &v, &before)?;
            self.check(&xs, index)?;
            let next = index + 1;
            let state: Vec<_> = [("latents".to_owned(), xs.clone())].into_iter().chain(stepper.state()).collect();
            run.save_state(next, &state, false)?;
            let told = self.tell(progress, next, &before, &v, step);
            if told.is_err() {
                run.save_state(next, &state, true)?;
            }
            told?;
        }
        self.family.finish(&xs, self.conditioning.image.as_ref())
    }

    /// The noise of the seed, or of the user's file.
    fn noise(&self) -> Result<Tensor> {
        let shape = self.plan.shape.latents.to_vec();
        let Some(path) = &self.plan.request.noise else { return Ok(noise::randn(shape, self.plan.seed)?) };
        noise_of(path, self.plan)
    }

    /// The transformer of this step. Another one that is in memory goes first.
    fn expert<'m>(&self, loaded: &'m mut Option<(usize, Box<dyn Denoiser>)>, step: &Step) -> Result<&'m dyn Denoiser> {
        if loaded.as_ref().is_some_and(|(expert, _)| *expert != step.expert) {
            *loaded = None;
        }
        let model = match loaded.take() {
            Some(model) => model,
            None => (step.expert, self.family.denoiser(step.expert, self.compute)?),
        };
        Ok(loaded.insert(model).1.as_ref())
    }

    fn check(&self, xs: &Tensor, index: usize) -> Result<()> {
        if latents::is_finite(xs)? {
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

/// The noise in the user's file, of the shape of the plan's latents.
///
/// # Errors
/// A file that cannot be read or holds none, or one of another shape.
pub fn noise_of(path: &Path, plan: &Plan) -> Result<Tensor> {
    let shape = plan.shape.latents;
    let noise = latents::load_video(path)?;
    if noise.dims() != shape {
        return Err(Error::usage(format!(
            "the noise has the shape {:?}, where {shape:?} belongs, in {}",
            noise.dims(),
            path.display()
        ))
        .hint("`--plan` shows the shape of the latents for a size and a number of frames"));
    }
    Ok(noise)
}

fn damaged(run: &Run) -> Error {
    Error::failed(format!("the state of the run holds no latents of its film, in {}", run.folder().display()))
        .hint("start the run again with `talkie generate`")
}
