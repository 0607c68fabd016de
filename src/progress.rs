//! Events: the only way out of a long loop. Bars, JSON lines, previews and cancellation all hang on one callback.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result};

/// The stages of a run, in the order in which they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Fetching files that are not on this machine yet. Counted in bytes.
    Download,
    /// Reading the prompt: the text encoder.
    Text,
    /// Encoding the first frame: the encoder of the video autoencoder.
    Image,
    /// Denoising: the transformer. Counted in steps.
    Denoise,
    /// Latents to sound: the audio autoencoder and the vocoder.
    Sound,
    /// Latents to frames and frames to the file. Counted in frames.
    Decode,
}

impl Stage {
    /// The stage in one word, as the bars and the plan show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Text => "text",
            Self::Image => "image",
            Self::Denoise => "denoise",
            Self::Sound => "sound",
            Self::Decode => "decode",
        }
    }
}

/// What takes time in a run and is not a network's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Chore {
    /// Loading weights.
    Load,
    /// Writing frames and sound: all that is done with them after they were made.
    Write,
}

/// Something that happened in a run.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A run begins, or goes on.
    Run {
        /// What [`crate::pipeline::run::Run::open`] and `talkie resume` take for it.
        name: String,
    },
    /// A sentence that the user should read: what was rounded, cut, resized, left out.
    Note {
        /// The sentence.
        message: String,
    },
    /// A stage begins, with so many units of work.
    Begin {
        /// The stage.
        stage: Stage,
        /// Units of work: bytes, blocks, steps or frames; 0 where the first `Advance` says it.
        total: u64,
    },
    /// A stage got as far as `done` of `total`.
    Advance {
        /// The stage.
        stage: Stage,
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
    },
    /// A stage ended.
    End {
        /// The stage.
        stage: Stage,
        /// Wall-clock seconds that it took.
        seconds: f64,
    },
    /// So much of the time of the stage at hand, or of none, went into something else than its network's work.
    Spent {
        /// What it was.
        on: Chore,
        /// Wall-clock seconds that it took.
        seconds: f64,
    },
    /// One file of a download, or one network that is being loaded, got as far as `done` of `total` bytes.
    File {
        /// The file's name in its repository, or the network's in its model.
        name: String,
        /// Bytes that are here.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A small picture of the latents as they are now.
    Preview {
        /// Steps done.
        step: usize,
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Interleaved 8-bit RGB, `width · height · 3` bytes.
        #[serde(skip)]
        rgb: Vec<u8>,
    },
    /// The film is whole.
    Done {
        /// Where it is.
        path: PathBuf,
        /// Frames in it.
        frames: usize,
        /// Seconds that it lasts.
        seconds: f64,
        /// Where its contact sheet is, if one was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        contact_sheet: Option<PathBuf>,
    },
}

/// A callback for those who want to see nothing: `&mut talkie::progress::quiet`.
pub fn quiet(_: &Event) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// How many bytes of weights have been read.
#[derive(Debug, Default)]
pub struct Tally {
    done: AtomicU64,
    stopped: AtomicBool,
}

impl Tally {
    /// Bytes that were read so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Counts bytes that were read.
    ///
    /// # Errors
    /// The reading is to stop.
    pub fn add(&self, bytes: u64) -> Result<()> {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        if self.stopped.load(Ordering::Relaxed) { Err(stopped()) } else { Ok(()) }
    }
}

fn stopped() -> Error {
    Error::stopped("stopped on request")
}

/// How often a reading is reported.
const OFTEN: Duration = Duration::from_millis(100);

/// Where events go. The callback answers [`ControlFlow::Break`] to stop the run after the current step.
pub struct Progress<'a> {
    sink: &'a mut dyn FnMut(&Event) -> ControlFlow<()>,
}

impl<'a> Progress<'a> {
    /// Reports to `sink`.
    pub fn new(sink: &'a mut dyn FnMut(&Event) -> ControlFlow<()>) -> Self {
        Self { sink }
    }

    /// Reports one event.
    ///
    /// # Errors
    /// [`crate::error::Kind::Stopped`] when the callback asks to stop.
    pub fn emit(&mut self, event: &Event) -> Result<()> {
        match (self.sink)(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(stopped()),
        }
    }

    /// Reports a sentence for the user.
    ///
    /// # Errors
    /// As [`Progress::emit`].
    pub fn note(&mut self, message: impl Into<String>) -> Result<()> {
        self.emit(&Event::Note { message: message.into() })
    }

    /// Runs `work` as a stage of `total` units: begin, work, end with the time that it took.
    ///
    /// # Errors
    /// What `work` answers, or a stop.
    pub fn stage<T>(&mut self, stage: Stage, total: u64, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let start = std::time::Instant::now();
        self.emit(&Event::Begin { stage, total })?;
        let out = work(self)?;
        self.emit(&Event::End { stage, seconds: start.elapsed().as_secs_f64() })?;
        Ok(out)
    }

    /// Runs `work`, which reads `total` bytes and counts them in `tally`, and reports how far it got.
    ///
    /// # Errors
    /// What `work` answers, or a stop.
    pub fn reading<T: Send>(
        &mut self,
        (name, total): (&str, u64),
        tally: &Tally,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        let (ended, end) = channel();
        std::thread::scope(|scope| {
            scope.spawn(move || ended.send(work()));
            let mut told = false;
            loop {
                let event = |done| Event::File { name: name.to_owned(), done, total };
                match end.recv_timeout(OFTEN) {
                    Err(RecvTimeoutError::Timeout) => {
                        let done = tally.done.load(Ordering::Relaxed).min(total.saturating_sub(1));
                        told = true;
                        if self.emit(&event(done)).is_err() {
                            tally.stopped.store(true, Ordering::Relaxed);
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(Error::failed(format!("reading `{name}` stopped unexpectedly")));
                    }
                    Ok(read) => {
                        if told {
                            self.emit(&event(total))?;
                        }
                        return read;
                    }
                }
            }
        })
    }

    /// Reports time that went into a chore.
    ///
    /// # Errors
    /// As [`Progress::emit`].
    pub fn spent(&mut self, on: Chore, time: Duration) -> Result<()> {
        self.emit(&Event::Spent { on, seconds: time.as_secs_f64() })
    }

    /// Reports how far a stage got.
    ///
    /// # Errors
    /// As [`Progress::emit`].
    pub fn advance(&mut self, stage: Stage, done: u64, total: u64) -> Result<()> {
        self.emit(&Event::Advance { stage, done, total })
    }
}
