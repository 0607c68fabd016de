//! The events of a run, turned into times.

use std::time::Instant;

use super::memory::{self, Peak};
use crate::progress::{Chore, Event, Stage};

/// A stage that ended.
#[derive(Debug)]
pub(super) struct Timed {
    pub stage: Stage,
    pub seconds: f64,
    pub load: f64,
    pub write: f64,
    pub peak: Peak,
    pub steps: Vec<f64>,
}

/// Where the time of a run went so far.
#[derive(Debug)]
pub(super) struct Watch {
    start: Instant,
    pub seconds: f64,
    pub stages: Vec<Timed>,
    pub finish: f64,
    pub peak: Peak,
    pub run: Option<String>,
    at_hand: Option<AtHand>,
}

/// The stage that has begun.
#[derive(Debug)]
struct AtHand {
    stage: Stage,
    load: f64,
    write: f64,
    steps: Vec<f64>,
    /// The step that ended last, when, and what was loaded since.
    last: Option<(u64, Instant, f64)>,
    counted: bool,
}

impl Watch {
    /// Begins to measure.
    pub(super) fn new() -> Self {
        memory::reset_peak();
        let start = Instant::now();
        Self { start, seconds: 0.0, stages: Vec::new(), finish: 0.0, peak: Peak::default(), run: None, at_hand: None }
    }

    /// Ends to measure.
    pub(super) fn stop(&mut self) {
        self.seconds = self.start.elapsed().as_secs_f64();
        self.look();
    }

    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Run { name } => self.run = Some(name.clone()),
            Event::Begin { stage, .. } => self.begin(*stage),
            Event::Advance { stage: Stage::Denoise, done, .. } => self.step(*done),
            Event::Spent { on, seconds } => self.spent(*on, *seconds),
            Event::End { seconds, .. } => self.end(*seconds),
            _ => {}
        }
    }

    /// Takes the counts of memory into the peak of the run.
    fn look(&mut self) -> Peak {
        let now = Peak::now();
        self.peak = self.peak.max(now);
        now
    }

    fn begin(&mut self, stage: Stage) {
        self.look();
        let counted = memory::reset_peak();
        self.at_hand = Some(AtHand { stage, load: 0.0, write: 0.0, steps: Vec::new(), last: None, counted });
    }

    fn step(&mut self, done: u64) {
        let Some(stage) = &mut self.at_hand else { return };
        if let Some((_, at, load)) = stage.last.filter(|(before, ..)| before + 1 == done) {
            stage.steps.push((at.elapsed().as_secs_f64() - load).max(0.0));
        }
        stage.last = Some((done, Instant::now(), 0.0));
    }

    fn spent(&mut self, on: Chore, seconds: f64) {
        match (on, &mut self.at_hand) {
            (Chore::Load, Some(stage)) => {
                stage.load += seconds;
                if let Some((_, _, load)) = &mut stage.last {
                    *load += seconds;
                }
            }
            (Chore::Write, Some(stage)) => stage.write += seconds,
            (Chore::Write, None) => self.finish += seconds,
            // Nothing is loaded between stages.
            (Chore::Load, None) => {}
        }
    }

    fn end(&mut self, seconds: f64) {
        let Some(AtHand { stage, load, write, steps, counted, .. }) = self.at_hand.take() else { return };
        let peak = self.look();
        let peak = Peak { process: peak.process.filter(|_| counted), ..peak };
        self.stages.push(Timed { stage, seconds, load, write, peak, steps });
    }
}
