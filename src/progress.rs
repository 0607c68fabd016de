//! Events of a run, through one callback: progress bars, JSON lines, previews, cancellation.

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
    /// Encoding the prompt: the text encoder.
    Text,
    /// Encoding the image: the encoder of the video autoencoder.
    Image,
    /// Denoising: the transformer. Counted in steps.
    Denoise,
    /// Decoding audio: the audio autoencoder and the vocoder.
    Sound,
    /// Decoding video, and writing the file. Counted in frames.
    Decode,
}

impl Stage {
    /// The stage's name, for bars and the plan.
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

    /// The stage with its networks, for errors.
    fn place(self) -> &'static str {
        match self {
            Self::Download => "the stage `download`",
            Self::Text => "the stage `text` (`text_encoder`, `connectors`)",
            Self::Image => "the stage `image` (encoder of the `vae`)",
            Self::Denoise => "the stage `denoise` (`transformer`)",
            Self::Sound => "the stage `sound` (`audio_vae`, `vocoder`)",
            Self::Decode => "the stage `decode` (decoder of the `vae`)",
        }
    }
}

/// Work in a stage that is not computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Chore {
    /// Loading weights.
    Load,
    /// Writing decoded frames and sound.
    Write,
}

/// An event of a run.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A run begins or is resumed.
    Run {
        /// The run's name, for [`crate::pipeline::run::Run::open`] and `talkie resume`.
        name: String,
    },
    /// A sentence for the user: something was rounded, cut, resized or left out.
    Note {
        /// The sentence.
        message: String,
    },
    /// A stage begins.
    Begin {
        /// The stage.
        stage: Stage,
        /// Units of work: bytes, blocks, steps or frames; 0 if the first `Advance` has it.
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
    /// Time of the current stage, if any, spent loading or writing, not computing.
    Spent {
        /// Loading or writing.
        on: Chore,
        /// Wall-clock seconds that it took.
        seconds: f64,
    },
    /// A file's download, or a network's loading, got as far as `done` of `total` bytes.
    File {
        /// The file's name in its repository, or the network's in its model.
        name: String,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A preview: a small image of the current latents.
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
    /// The film is finished.
    Done {
        /// Its path.
        path: PathBuf,
        /// Its number of frames.
        frames: usize,
        /// Its duration.
        seconds: f64,
        /// The path of its contact sheet, if requested.
        #[serde(skip_serializing_if = "Option::is_none")]
        contact_sheet: Option<PathBuf>,
    },
}

/// A callback that ignores events: `&mut talkie::progress::quiet`.
pub fn quiet(_: &Event) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Counter of bytes of weights read so far.
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
    /// A stop was requested.
    pub fn add(&self, bytes: u64) -> Result<()> {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        if self.stopped.load(Ordering::Relaxed) { Err(stopped()) } else { Ok(()) }
    }
}

fn stopped() -> Error {
    Error::stopped("stopped on request")
}

/// Interval of reports while reading.
const OFTEN: Duration = Duration::from_millis(100);

/// The sink of events. Its callback returns [`ControlFlow::Break`] to stop the run after the current step.
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

    /// Runs `work` as a stage of `total` units, with [`Event::Begin`] and [`Event::End`] around it. An error of candle names the
    /// stage and its networks.
    ///
    /// # Errors
    /// The error of `work`, or a stop.
    pub fn stage<T>(&mut self, stage: Stage, total: u64, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let start = std::time::Instant::now();
        self.emit(&Event::Begin { stage, total })?;
        let out = work(self).map_err(|error| error.within(stage.place()))?;
        self.emit(&Event::End { stage, seconds: start.elapsed().as_secs_f64() })?;
        Ok(out)
    }

    /// Runs `work`, which reads `total` bytes and counts them in `tally`, and reports its progress as that of
    /// `name`.
    ///
    /// # Errors
    /// The error of `work`, or a stop.
    pub fn reading<T: Send>(
        &mut self,
        name: &str,
        total: u64,
        tally: &Tally,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        let (ended, end) = channel();
        std::thread::scope(|scope| {
            scope.spawn(move || ended.send(work()));
            let mut reported = false;
            loop {
                let event = |done| Event::File { name: name.to_owned(), done, total };
                match end.recv_timeout(OFTEN) {
                    Err(RecvTimeoutError::Timeout) => {
                        let done = tally.done.load(Ordering::Relaxed).min(total.saturating_sub(1));
                        reported = true;
                        if self.emit(&event(done)).is_err() {
                            tally.stopped.store(true, Ordering::Relaxed);
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(Error::failed(format!("reading `{name}` stopped unexpectedly")));
                    }
                    Ok(read) => {
                        if reported {
                            self.emit(&event(total))?;
                        }
                        return read;
                    }
                }
            }
        })
    }

    /// Reports time spent on a chore.
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
