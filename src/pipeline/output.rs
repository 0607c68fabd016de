//! Where frames go: a film that is written while it is decoded, or memory.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::audio::{Waveform, check};
use crate::error::Result;
use crate::files::atomic;
use crate::fps::Fps;
use crate::media::{self, FilmSpec, Format, Rgb, Sheet};
use crate::plan::Plan;
use crate::progress::{Chore, Event, Progress};

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
    /// What the file was written with, such as `H.264 (libx264), AAC (aac)`.
    pub codec: Option<String>,
    /// Where its contact sheet is, if one was asked for.
    pub contact_sheet: Option<PathBuf>,
    /// The soundtrack, where the model makes one and no file was asked for. It is as long as the model made it: in a file it
    /// is as long as the film ([`Waveform::fitted`], [`Fps::samples`]).
    pub waveform: Option<Waveform>,
}

/// Where the frames of a run go.
pub struct Output<'a> {
    plan: &'a Plan,
    recipe: &'a str,
    sink: Sink,
    sheet: Option<Sheet>,
}

enum Sink {
    /// A file, or a folder of pictures.
    File(Box<media::Film>),
    Memory(Vec<Rgb>, Option<Waveform>),
}

impl<'a> Output<'a> {
    /// Tries the places of the film and of its contact sheet before anything is computed: folder, ending, encoders.
    ///
    /// # Errors
    /// A film, or a contact sheet, that could not be written.
    pub fn check(plan: &Plan) -> Result<()> {
        if let Some(path) = &plan.request.contact_sheet {
            media::check_png("--contact-sheet", path)?;
            atomic::check_place(path)?;
        }
        let heard = plan.settings.sound.and_then(|sound| sound.heard).filter(|_| !plan.request.no_sound);
        if let (Some(path), Some(heard)) = (&plan.request.output, heard) {
            media::check_sound(path, heard.rate, heard.channels)?;
        }
        Output::begin(plan, "", None).map(drop)
    }

    /// Begins the film of a plan, with its sound, and says what is wrong with that. Nothing is under the film's name before
    /// [`Output::finish`].
    ///
    /// # Errors
    /// A film that cannot be written there, samples that are no sound, a stop.
    pub fn create(
        plan: &'a Plan,
        recipe: &'a str,
        sound: Option<Waveform>,
        progress: &mut Progress<'_>,
    ) -> Result<Self> {
        for note in sound.as_ref().map(|sound| notes(plan, sound)).transpose()?.unwrap_or_default() {
            progress.note(note)?;
        }
        Self::begin(plan, recipe, sound)
    }

    fn begin(plan: &'a Plan, recipe: &'a str, sound: Option<Waveform>) -> Result<Self> {
        let sheet = plan.request.contact_sheet.as_ref().map(|_| sheet(plan, sound.as_ref())).transpose()?;
        let Some(path) = &plan.request.output else {
            return Ok(Self { plan, recipe, sink: Sink::Memory(Vec::new(), sound), sheet });
        };
        let spec = FilmSpec {
            width: plan.shape.width as u32,
            height: plan.shape.height as u32,
            fps: plan.settings.fps,
            frames: plan.shape.frames,
            recipe: recipe.to_owned(),
            encoder: None,
        };
        let film = media::Film::create(path, &spec, sound.as_ref())?;
        Ok(Self { plan, recipe, sink: Sink::File(Box::new(film)), sheet })
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// A full disk, an encoder that fails.
    pub fn push(&mut self, frame: Rgb) -> Result<()> {
        if let Some(sheet) = &mut self.sheet {
            sheet.push(&frame);
        }
        match &mut self.sink {
            Sink::File(film) => film.push(&frame.data),
            Sink::Memory(frames, _) => {
                frames.push(frame);
                Ok(())
            }
        }
    }

    /// Writes the contact sheet, and gives the film its name.
    ///
    /// # Errors
    /// Frames that are missing, a full disk.
    pub fn finish(self, progress: &mut Progress<'_>) -> Result<Film> {
        let (fps, start) = (self.plan.settings.fps, Instant::now());
        let elsewhere = self.elsewhere();
        let contact_sheet = self.plan.request.contact_sheet.clone();
        // Before the film: if there is no room for it, the run is not over, and can be resumed.
        if let (Some(sheet), Some(path)) = (&self.sheet, &contact_sheet) {
            sheet.write(path)?;
        }
        let film = match self.sink {
            Sink::File(film) => {
                // The film is whole but for its name: a wish to stop comes too late to be an error, here and below.
                let _ = elsewhere.iter().try_for_each(|path| progress.note(moved(path)));
                let written = elsewhere.into_iter().fold(*film, media::Film::renamed).finish()?;
                let (path, codec) = (Some(written.path), Some(written.codec));
                Film {
                    path,
                    frames: Vec::new(),
                    count: written.frames,
                    fps,
                    seconds: written.seconds,
                    codec,
                    contact_sheet,
                    waveform: None,
                }
            }
            Sink::Memory(frames, waveform) => {
                let (count, seconds) = (frames.len(), fps.seconds(frames.len()));
                Film { path: None, frames, count, fps, seconds, codec: None, contact_sheet, waveform }
            }
        };
        let _ = progress.spent(Chore::Write, start.elapsed());
        if let Some(path) = film.path.clone() {
            let contact_sheet = film.contact_sheet.clone();
            let _ = progress.emit(&Event::Done { path, frames: film.count, seconds: film.seconds, contact_sheet });
        }
        Ok(film)
    }

    /// Another name, where something came under this one after the film was planned: nobody asked for that to be replaced.
    /// The very same film may be there: the run was stopped after the film got its name.
    fn elsewhere(&self) -> Option<PathBuf> {
        let path = self.plan.request.output.as_deref()?;
        let same = || matches!(media::comment(path), Ok(Some(recipe)) if recipe == self.recipe);
        (!self.plan.replaces && atomic::is_taken(path) && !same()).then(|| free_name(path))
    }
}

/// The contact sheet of a plan's film, with the sound that will be heard in it.
fn sheet(plan: &Plan, sound: Option<&Waveform>) -> Result<Sheet> {
    let format = plan.request.output.as_deref().map(Format::of).transpose()?;
    let heard = sound.filter(|_| format.is_none_or(Format::has_sound));
    let heard = heard.map(|sound| sound.fitted(plan.settings.fps.samples(plan.shape.frames, sound.rate)));
    Sheet::new((plan.shape.width as u32, plan.shape.height as u32), plan.shape.frames, heard.as_ref())
}

/// The longest silence that is put at the end of a sound without a word, in seconds: models make whole blocks of sound, not
/// whole frames.
const TAIL: f64 = 0.25;

/// What a listener of the film should know beforehand.
///
/// # Errors
/// Samples that are no sound.
fn notes(plan: &Plan, sound: &Waveform) -> Result<Vec<String>> {
    sound.check()?;
    let format = plan.request.output.as_deref().map(Format::of).transpose()?;
    if format.is_some_and(|format| !format.has_sound()) {
        return Ok(vec!["a GIF has no sound: the soundtrack is left out".to_owned()]);
    }
    let mut notes = check::notes(sound);
    let (film, sounds) = (plan.settings.fps.seconds(plan.shape.frames), sound.seconds());
    if film - sounds > TAIL {
        notes.push(format!("the sound ends after {sounds:.2} of {film:.2} seconds: the rest is silent"));
    }
    Ok(notes)
}

fn moved(path: &Path) -> String {
    format!("another film has come under that name meanwhile: this one is {}", path.display())
}

/// The first of `film.mp4`, `film-2.mp4`, `film-3.mp4`, … under which there is nothing yet.
pub fn free_name(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ending = path.extension().map_or_else(String::new, |ending| format!(".{}", ending.to_string_lossy()));
    let names = (2..).map(|n| path.with_file_name(format!("{stem}-{n}{ending}")));
    std::iter::once(path.to_owned()).chain(names).find(|path| !atomic::is_taken(path)).unwrap_or_default()
}
