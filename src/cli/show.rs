//! What a person sees of a run: a bar per stage with the time left, or JSON lines for programs. And Ctrl-C.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use talkie::error::{Error, Kind, Result};
use talkie::media::{self, Rgb};
use talkie::pipeline::output::Film;
use talkie::progress::{Event, Stage};

/// Shows the events of a run.
pub(super) struct Show {
    json: bool,
    preview: Option<PathBuf>,
    bars: MultiProgress,
    stages: HashMap<Stage, Bar>,
    files: HashMap<String, ProgressBar>,
    /// The run that is being made, from where on it can be resumed.
    run: Option<String>,
    stop: Arc<AtomicBool>,
}

struct Bar {
    bar: ProgressBar,
    /// Where the measured part began: a resumed run has steps behind it that were not measured.
    start: Instant,
    first: Option<u64>,
}

impl Show {
    /// Bars on stderr, or JSON lines on stdout. From here on Ctrl-C stops the run after the current step.
    pub(super) fn new(json: bool, preview: Option<PathBuf>) -> Result<Self> {
        preview.as_deref().map_or(Ok(()), |path| media::check_png("--preview", path))?;
        let target =
            if json || !super::watched() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let handler = move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            super::say("stopping after the current step; Ctrl-C again ends at once");
        };
        ctrlc::set_handler(handler).map_err(|cause| Error::failed("cannot listen for Ctrl-C").because(cause))?;
        let bars = MultiProgress::with_draw_target(target);
        Ok(Self { json, preview, bars, stages: HashMap::new(), files: HashMap::new(), run: None, stop })
    }

    /// Shows one event, and answers whether the run may go on.
    pub(super) fn event(&mut self, event: &Event) -> ControlFlow<()> {
        if self.json
            && let Ok(line) = serde_json::to_string(event)
        {
            // The reader may be gone; the film is made all the same.
            let _ = super::print(&line);
        }
        match event {
            Event::Run { name } => self.run = Some(name.clone()),
            Event::Note { message } => self.say(&format!("note: {message}")),
            Event::Begin { stage, total } => self.begin(*stage, *total),
            Event::Advance { stage, done, total } => self.advance(*stage, *done, *total),
            Event::End { stage, seconds } => self.end(*stage, *seconds),
            Event::File { name, done, total } => self.file(name, *done, *total),
            Event::Preview { width, height, rgb, .. } => self.picture(*width, *height, rgb),
            _ => {}
        }
        if self.stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// A line of words, above the bars.
    pub(super) fn say(&self, line: &str) {
        if !self.json {
            self.bars.suspend(|| super::say(line));
        }
    }

    /// Takes the bars off the screen.
    pub(super) fn clear(&self) {
        // A terminal that is gone has no bars on it either.
        let _ = self.bars.clear();
    }

    /// The last words: where the film is, or how to go on with the run.
    pub(super) fn finish(&self, film: Result<Film>) -> Result<()> {
        self.clear();
        match film {
            Ok(film) => {
                let Some(path) = &film.path else { return Ok(()) };
                if self.json {
                    return Ok(());
                }
                let codec = film.codec.as_deref().unwrap_or_default();
                super::say(&format!("{} frames, {:.2} s, {codec}", film.count, film.seconds));
                if let Some(sheet) = &film.contact_sheet {
                    super::say(&format!("contact sheet: {}", sheet.display()));
                }
                super::print(&path.display().to_string())
            }
            Err(error) => Err(match (&self.run, error.kind()) {
                (Some(_), Kind::Stopped) => error.hint("`talkie resume` goes on from here"),
                (None, Kind::Stopped) => error.hint("the same command goes on with what has been fetched"),
                (Some(name), _) => {
                    self.say(&format!(
                        "the run is kept: when that is put right, `talkie resume {name}` goes on with it"
                    ));
                    error
                }
                (None, _) => error,
            }),
        }
    }

    fn begin(&mut self, stage: Stage, total: u64) {
        // A stage may not know yet how much there is to do.
        let bar = self.bars.add(ProgressBar::new(total.max(1)));
        bar.set_style(style(stage));
        bar.set_prefix(doing(stage).0);
        bar.enable_steady_tick(Duration::from_millis(250));
        self.stages.insert(stage, Bar { bar, start: Instant::now(), first: None });
    }

    fn advance(&mut self, stage: Stage, done: u64, total: u64) {
        let Some(Bar { bar, start, first }) = self.stages.get_mut(&stage) else { return };
        bar.set_length(total);
        bar.set_position(done);
        let Some(first) = *first else {
            (*first, *start) = (Some(done), Instant::now());
            return;
        };
        // The time left, from the steps of this stage that were measured so far.
        let measured = done.saturating_sub(first);
        if measured > 0 && done < total {
            let each = start.elapsed().as_secs_f64() / measured as f64;
            bar.set_message(left(each * (total - done) as f64));
        }
    }

    fn end(&mut self, stage: Stage, seconds: f64) {
        let Some(Bar { bar, .. }) = self.stages.remove(&stage) else { return };
        bar.finish_and_clear();
        for (_, file) in self.files.drain() {
            file.finish_and_clear();
        }
        self.say(&format!("{:<19} {}", doing(stage).0, clock(seconds)));
    }

    fn file(&mut self, name: &str, done: u64, total: u64) {
        let bar = self.files.entry(name.to_owned()).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new(total));
            bar.set_style(template(FILE));
            bar.set_prefix(name.to_owned());
            bar
        });
        bar.set_length(total);
        bar.set_position(done);
        if done >= total {
            bar.finish_and_clear();
        }
    }

    fn picture(&mut self, width: u32, height: u32, rgb: &[u8]) {
        let Some(path) = self.preview.as_deref() else { return };
        let picture = Rgb { width, height, data: rgb.to_vec() };
        if let Err(error) = media::write_png(Path::new(path), &picture) {
            self.say(&format!("note: no preview: {error}"));
            self.preview = None;
        }
    }
}

/// What happens in a stage, and what of it is counted.
fn doing(stage: Stage) -> (&'static str, &'static str) {
    match stage {
        Stage::Download => ("fetching files", ""),
        Stage::Text => ("reading the prompt", "layers"),
        Stage::Image => ("reading the picture", ""),
        Stage::Denoise => ("denoising", "steps"),
        Stage::Sound => ("making the sound", ""),
        Stage::Decode => ("decoding", "frames"),
    }
}

fn style(stage: Stage) -> ProgressStyle {
    match stage {
        Stage::Download => template("{prefix:<19} {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {msg}"),
        _ => template(&format!("{{prefix:<19}} {{bar:30}} {{pos}}/{{len}} {}  {{elapsed}}  {{msg}}", doing(stage).1)),
    }
}

/// A file being fetched: of a long name the end, where the numbers of shards are.
const FILE: &str = "{prefix:>40!} {bar:15} {bytes}/{total_bytes}";

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// How long it will take, as exact as it can be known.
fn left(seconds: f64) -> String {
    if seconds < 60.0 {
        format!("about {:.0} s left", seconds.max(1.0))
    } else {
        format!("about {} left", clock(seconds))
    }
}

/// Seconds as a person reads them: `4.2 s`, `3 min 20 s`, `2 h 05 min`.
fn clock(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}
