//! Where the time of a film goes, against what this machine can do.
//!
//! A film is made as [`Session::generate`] makes it, into a folder that is removed. What its events tell of time is put beside
//! the arithmetic that its shapes ask for ([`crate::compute::flops`]) and beside a ceiling that is measured in the same process: so a
//! rate that looks good by itself has to look good there, too.

mod memory;
mod roofline;
mod watch;

use std::time::Instant;

use serde::Serialize;

use crate::compute::device;
use crate::error::{Error, Result};
use crate::families::family::{Compute, Prompt};
use crate::pipeline::guidance;
use crate::pipeline::recipe::Recipe;
use crate::pipeline::run::Run;
use crate::pipeline::{OnEvent, Session};
use crate::plan::{Budget, Pass, Plan, Workload};
use crate::progress::{Progress, Stage, quiet};
use crate::request::{ModelChoice, Request};
use watch::Watch;

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// What was run, and on what.
    pub setting: Setting,
    /// Seconds that hashing the model's files took. `generate` does that once a file, beside its first stages; here it is done
    /// before the first run, which finds the files in memory after it.
    pub hash: f64,
    /// Each time that the film was made.
    pub runs: Vec<Measured>,
}

/// What was run, and on what.
#[derive(Debug, Clone, Serialize)]
pub struct Setting {
    /// The version of talkie.
    pub talkie: String,
    /// The model.
    pub model: String,
    /// The device.
    pub device: String,
    /// The type that it computes in; weights may be stored in another.
    pub dtype: String,
    /// Threads of a processor.
    pub threads: usize,
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Frames.
    pub frames: usize,
    /// Tokens of pictures that the transformer works on, at the full size.
    pub tokens: usize,
    /// Tokens of sound.
    pub sound_tokens: usize,
    /// Tokens of the prompt and, where there is guidance, of the negative one, as the text encoder reads them.
    pub text_tokens: Vec<usize>,
    /// Rows of text that the transformer attends to.
    pub text_rows: usize,
    /// The ceiling: the rate of a large matrix product in the type above, in operations a second.
    pub roofline: f64,
    /// Rows and columns of its matrices.
    pub roofline_side: usize,
}

/// One time that the film was made. The seconds of the stages, `finish` and `other` add up to `seconds`.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// All of it.
    pub seconds: f64,
    /// The stages, in turn.
    pub stages: Vec<StageFigures>,
    /// Seconds of writing after the last stage: what the encoders held back, the end of the file, its way to the disk.
    pub finish: f64,
    /// Seconds outside of all this: the plan, and checks of the files.
    pub other: f64,
    /// The largest resident set of the process in this run, or since its start where the kernel does not set that back.
    pub peak: Option<u64>,
    /// The most bytes that tensors took on the device, where it counts them itself.
    pub device_peak: Option<u64>,
}

/// A stage. `load`, `write` and `compute` add up to `seconds`.
#[derive(Debug, Clone, Serialize)]
pub struct StageFigures {
    /// Which one.
    pub stage: Stage,
    /// All of it.
    pub seconds: f64,
    /// Seconds of loading weights. Those that stay in their file are read while they are used, and are not in here.
    pub load: f64,
    /// Seconds of writing frames.
    pub write: f64,
    /// The rest.
    pub compute: f64,
    /// Operations that were asked for, and the rate that follows for `compute`.
    #[serde(flatten)]
    pub rate: Rate,
    /// The largest resident set in this stage, where the kernel sets it back.
    pub peak: Option<u64>,
    /// The most bytes that tensors took on the device in this stage, where it counts them itself.
    pub device_peak: Option<u64>,
    /// The steps of the denoising.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepFigures>,
}

/// A step of the denoising: its passes, guidance, the sampler, and keeping its state.
#[derive(Debug, Clone, Serialize)]
pub struct StepFigures {
    /// All of it, without loading.
    pub seconds: f64,
    /// Passes of the transformer.
    pub passes: usize,
    /// Operations of the passes, and their rate.
    #[serde(flatten)]
    pub rate: Rate,
}

/// Operations, and how fast they were done. None where they are not counted.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Rate {
    /// Floating-point operations.
    pub flop: Option<f64>,
    /// The same a second.
    pub flop_per_second: Option<f64>,
    /// The share of the roofline. A convolution may be above 1: it is counted by its definition, and there are ways with fewer
    /// operations.
    pub share: Option<f64>,
}

impl Rate {
    fn of(flop: Option<f64>, seconds: f64, roofline: f64) -> Self {
        let flop_per_second = flop.filter(|_| seconds > 0.0).map(|flop| flop / seconds);
        Self { flop, flop_per_second, share: flop_per_second.map(|rate| rate / roofline) }
    }
}

/// Makes the film of a request `repeat` times and measures it. Where it goes, and whether its run is kept, is not the request's
/// to say.
///
/// # Errors
/// As [`Session::generate`].
pub fn measure(choice: &ModelChoice, request: &Request, repeat: usize, on_event: OnEvent<'_>) -> Result<Figures> {
    let folder = tempfile::tempdir().map_err(|cause| {
        Error::failed("cannot make a folder for the film")
            .because(cause)
            .hint("set TMPDIR to a folder that takes files")
    })?;
    let name = if cfg!(feature = "ffmpeg") { "film.mp4" } else { "film" };
    let request = Request {
        output: Some(folder.path().join(name)),
        seed: request.seed.or(Some(1)),
        save_latents: None,
        keep: false,
        preview: false,
        ..request.clone()
    };
    let session = Session::open(choice, Budget::Nothing, on_event)?;
    let plan = session.plan(&request)?;
    let device = device::open(&plan.settings.device)?;
    let compute = Compute::new(device.clone(), device::dtype(&plan.settings.dtype, &device)?);
    let start = Instant::now();
    drop(Recipe::of(&plan, session.machine().home.as_deref())?);
    let hash = start.elapsed().as_secs_f64();
    let mut ceiling = roofline::measure(&compute)?;
    let watched = (0..repeat.max(1)).map(|_| watched(&session, &request, on_event)).collect::<Result<Vec<_>>>()?;
    // Before and after: a machine that is slow for a moment must not make a film look fast.
    ceiling = ceiling.max(roofline::measure(&compute)?);
    let work = Work::count(&session, &plan, &compute)?;
    let runs = watched.into_iter().map(|watch| work.measured(watch, ceiling)).collect();
    Ok(Figures { setting: setting(&plan, &work, &compute, ceiling), hash, runs })
}

/// Makes the film once. A run that fails is not kept: nobody would go on with it.
fn watched(session: &Session, request: &Request, on_event: OnEvent<'_>) -> Result<Watch> {
    let mut watch = Watch::new();
    let made = session.generate(request, &mut |event| {
        watch.event(event);
        on_event(event)
    });
    if let (Err(_), Some(name)) = (&made, &watch.run) {
        // The error is the one to tell of.
        let _ = session.machine().home().and_then(|home| Run::open(Some(name), &home)).and_then(Run::remove);
    }
    made?;
    watch.stop();
    Ok(watch)
}

fn setting(plan: &Plan, work: &Work, compute: &Compute, roofline: f64) -> Setting {
    Setting {
        talkie: env!("CARGO_PKG_VERSION").to_owned(),
        model: plan.model.clone(),
        device: plan.settings.device.clone(),
        dtype: plan.settings.dtype.clone(),
        threads: rayon::current_num_threads(),
        width: plan.shape.width,
        height: plan.shape.height,
        frames: plan.shape.frames,
        tokens: plan.shape.tokens,
        sound_tokens: plan.settings.sound.as_ref().map_or(0, |sound| sound.latents[1]),
        text_tokens: work.text_tokens.clone(),
        text_rows: work.text_rows,
        roofline,
        roofline_side: roofline::side(compute),
    }
}

/// The arithmetic of a plan.
struct Work {
    text_tokens: Vec<usize>,
    text_rows: usize,
    text: f64,
    decode: f64,
    /// Passes of each step, and their operations. Which steps a cache skips is not known beforehand.
    steps: Vec<(usize, Option<f64>)>,
}

impl Work {
    fn count(session: &Session, plan: &Plan, compute: &Compute) -> Result<Self> {
        let family = session.family();
        let prompts: Vec<&str> = std::iter::once(&plan.prompt).chain(&plan.negative).map(String::as_str).collect();
        let tokens = family.tokens(&prompts, &plan.settings, compute, &mut Progress::new(&mut quiet))?;
        let text_tokens: Vec<usize> = tokens.iter().map(Vec::len).collect();
        let of = |prompt: Prompt| text_tokens.get(usize::from(prompt == Prompt::Negative)).copied().unwrap_or(0);
        let steps = plan.steps().map(|(phase, step)| {
            let passes = guidance::passes(step, plan.negative.is_some());
            let shape = &plan.phases[phase].shape;
            let forward = |&(pass, prompt): &(Pass, Prompt)| {
                family.flops(plan, Workload::Forward { shape, pass, text_tokens: of(prompt) })
            };
            let flop: f64 = passes.iter().map(forward).sum();
            (passes.len(), plan.request.cache.is_none().then_some(flop))
        });
        let steps = steps.collect();
        Ok(Self {
            text: family.flops(plan, Workload::Text(&text_tokens)),
            text_rows: text_tokens.iter().map(|&tokens| family.text_rows(plan, tokens)).max().unwrap_or(0),
            decode: family.flops(plan, Workload::Decode(&plan.shape)),
            steps,
            text_tokens,
        })
    }

    /// The operations of a stage, where they are counted.
    fn of(&self, stage: Stage) -> Option<f64> {
        match stage {
            Stage::Text => Some(self.text),
            Stage::Denoise => self.steps.iter().map(|(_, flop)| *flop).sum(),
            Stage::Decode => Some(self.decode),
            Stage::Download | Stage::Image | Stage::Sound => None,
        }
    }

    fn measured(&self, watch: Watch, roofline: f64) -> Measured {
        let stages: Vec<StageFigures> = watch.stages.iter().map(|timed| self.stage(timed, roofline)).collect();
        let told: f64 = stages.iter().map(|stage| stage.seconds).sum();
        Measured {
            other: (watch.seconds - told - watch.finish).max(0.0),
            seconds: watch.seconds,
            finish: watch.finish,
            peak: watch.peak.process,
            device_peak: watch.peak.device,
            stages,
        }
    }

    fn stage(&self, timed: &watch::Timed, roofline: f64) -> StageFigures {
        let &watch::Timed { stage, seconds, load, write, peak, .. } = timed;
        let compute = (seconds - load - write).max(0.0);
        let steps = timed.steps.iter().zip(&self.steps).map(|(&seconds, &(passes, flop))| StepFigures {
            seconds,
            passes,
            rate: Rate::of(flop, seconds, roofline),
        });
        let rate = Rate::of(self.of(stage), compute, roofline);
        let (peak, device_peak) = (peak.process, peak.device);
        StageFigures { stage, seconds, load, write, compute, rate, peak, device_peak, steps: steps.collect() }
    }
}
