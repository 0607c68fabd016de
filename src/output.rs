//! Where frames go: a film that is written while it is decoded, or memory.

use std::path::PathBuf;

use crate::error::Result;
use crate::fps::Fps;
use crate::media::{self, FilmSpec, Rgb};
use crate::plan::Plan;
use crate::progress::{Event, Progress};

/// A film that is whole.
#[derive(Debug, Clone)]
pub struct Film {
    /// Where it is; none where the frames are in memory.
    pub path: Option<PathBuf>,
    /// The frames, where no file was asked for.
    pub frames: Vec<Rgb>,
    /// Number of frames.
    pub count: usize,
    /// Frames per second.
    pub fps: Fps,
    /// Seconds that it lasts.
    pub seconds: f64,
    /// What the file was written with, such as `H.264 (libx264)`.
    pub codec: Option<String>,
    /// The soundtrack, where the model makes one: samples in [-1, 1], a channel after the other.
    pub waveform: Option<Waveform>,
}

/// A soundtrack.
#[derive(Debug, Clone)]
pub struct Waveform {
    /// Samples in [-1, 1] of each channel.
    pub channels: Vec<Vec<f32>>,
    /// Samples per second.
    pub rate: u32,
}

/// Where the frames of a run go.
pub enum Output {
    /// A file, or a folder of pictures.
    File(Box<media::Film>, Fps),
    /// Memory.
    Memory(Vec<Rgb>, Fps),
}

impl Output {
    /// Tries the place of the film before anything is computed: its folder, its ending, its encoder.
    ///
    /// # Errors
    /// A film that could not be written.
    pub fn check(plan: &Plan) -> Result<()> {
        Self::create(plan, "").map(drop)
    }

    /// Begins the film of a plan. Nothing is under its name before [`Output::finish`].
    ///
    /// # Errors
    /// A film that cannot be written there.
    pub fn create(plan: &Plan, recipe: &str) -> Result<Self> {
        let Some(path) = &plan.request.output else { return Ok(Self::Memory(Vec::new(), plan.fps)) };
        let spec = FilmSpec {
            width: plan.shape.width as u32,
            height: plan.shape.height as u32,
            fps: plan.fps,
            frames: plan.shape.frames,
            recipe: recipe.to_owned(),
            encoder: None,
        };
        Ok(Self::File(Box::new(media::Film::create(path, &spec)?), plan.fps))
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// A full disk, an encoder that fails.
    pub fn push(&mut self, frame: Rgb) -> Result<()> {
        match self {
            Self::File(film, _) => film.push(&frame.data),
            Self::Memory(frames, _) => {
                frames.push(frame);
                Ok(())
            }
        }
    }

    /// Gives the film its name.
    ///
    /// # Errors
    /// Frames that are missing, a full disk.
    pub fn finish(self, progress: &mut Progress<'_>) -> Result<Film> {
        let film = match self {
            Self::File(film, fps) => {
                let written = film.finish()?;
                let (path, codec) = (Some(written.path), Some(written.codec));
                Film {
                    path,
                    frames: Vec::new(),
                    count: written.frames,
                    fps,
                    seconds: written.seconds,
                    codec,
                    waveform: None,
                }
            }
            Self::Memory(frames, fps) => {
                let (count, seconds) = (frames.len(), fps.seconds(frames.len()));
                Film { path: None, frames, count, fps, seconds, codec: None, waveform: None }
            }
        };
        if let Some(path) = film.path.clone() {
            // The film is whole and has its name: a wish to stop comes too late to be an error.
            let _ = progress.emit(&Event::Done { path, frames: film.count, seconds: film.seconds });
        }
        Ok(film)
    }
}
