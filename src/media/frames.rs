//! A folder of numbered PNG frames, with the recipe and the sound beside them.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::image::encode_png;
use super::wav;
use crate::audio::Waveform;
use crate::error::{Context, Error, Result};
use crate::files::atomic::{AtomicFile, DISK, folder_of};

/// The name of the recipe in a folder of frames.
pub(super) const RECIPE: &str = "recipe.json";
/// The name of the sound there.
const SOUND: &str = "audio.wav";

/// Writes `frame-00000.png`, … into a folder of its own, which becomes, or moves into, the user's when it is whole.
#[derive(Debug)]
pub(super) struct Folder {
    part: AtomicFile,
    target: PathBuf,
    count: usize,
    sound: bool,
}

impl Folder {
    /// Begins a folder of frames at `target`, and writes the recipe and the sound: a new name, an empty folder, or one that
    /// holds only an earlier film.
    ///
    /// # Errors
    /// A usage error when `target` is a file, holds anything that talkie did not write, or has no folder above it; a
    /// failure when it cannot be written.
    pub(super) fn create(target: &Path, recipe: &str, sound: Option<&Waveform>) -> Result<Self> {
        let part = if target.is_dir() {
            own_files(target)?;
            AtomicFile::folder(target, Path::new("frames"))?
        } else if target.exists() {
            let what = format!("the output is to be a folder of frames, but a file is there: {}", target.display());
            return Err(Error::usage(what).hint("choose another name, or one that ends in .mp4"));
        } else {
            AtomicFile::folder(folder_of(target)?, target)?
        };
        let path = part.path().join(RECIPE);
        fs::write(&path, recipe)
            .context(|| format!("cannot write the recipe of {}", target.display()))
            .map_err(|error| error.hint(DISK))?;
        if let Some(sound) = sound {
            File::create(part.path().join(SOUND))
                .context(|| format!("cannot create {SOUND}"))
                .and_then(|file| wav::write(BufWriter::new(file), sound))
                .context(|| format!("cannot write the sound of {}", target.display()))
                .map_err(|error| error.hint(DISK))?;
        }
        Ok(Self { part, target: target.to_owned(), count: 0, sound: sound.is_some() })
    }

    /// Writes the next frame: interleaved 8-bit RGB.
    ///
    /// # Errors
    /// When the disk takes it not.
    pub(super) fn push(&mut self, rgb: &[u8], width: u32, height: u32) -> Result<()> {
        let name = frame_name(self.count);
        File::create(self.part.path().join(&name))
            .context(|| format!("cannot create {name}"))
            .and_then(|file| encode_png(BufWriter::new(file), rgb, (width, height)))
            .context(|| format!("cannot write frame {} into {}", self.count, self.target.display()))
            .map_err(|error| error.hint(DISK))?;
        self.count += 1;
        Ok(())
    }

    /// Gives the frames their own names at `target`, in the folder where they were begun or beside it. In a folder that is
    /// there, those of an earlier film go first; there the recipe comes last, so that a folder with one is whole. Returns
    /// what the film is made of.
    ///
    /// # Errors
    /// When a file cannot be renamed or removed, or something else has come into the folder meanwhile.
    pub(super) fn finish(self, target: &Path) -> Result<String> {
        let codec = if self.sound { "PNG, WAV" } else { "PNG" }.to_owned();
        if !target.is_dir() {
            return self.part.commit(target).map(|()| codec);
        }
        let refused = || format!("cannot move the frames into {}", target.display());
        let recipe = target.join(RECIPE);
        let earlier = own_files(target)?;
        for file in earlier.iter().filter(|file| **file == recipe).chain(earlier.iter().filter(|file| **file != recipe))
        {
            fs::remove_file(file).context(refused)?;
        }
        self.part.flush().context(refused)?;
        let sound = self.sound.then(|| SOUND.to_owned());
        let names = (0..self.count).map(frame_name).chain(sound).chain([RECIPE.to_owned()]);
        for name in names {
            fs::rename(self.part.path().join(&name), target.join(&name)).context(refused)?;
        }
        Ok(codec)
    }
}

fn frame_name(index: usize) -> String {
    format!("frame-{index:05}.png")
}

/// The files of an earlier film in `folder`.
///
/// # Errors
/// A usage error that names the first thing there that is no frame, recipe or sound.
fn own_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("cannot look into the folder {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).context(unreadable)? {
        let path = entry.context(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') && name.contains(".part-") {
            continue;
        }
        if !is_own(&name) || path.is_dir() {
            let what = format!("the output folder holds `{name}`, which is no frame of a film: {}", folder.display());
            return Err(Error::usage(what).hint("name a new or an empty folder: `-o frames/`"));
        }
        files.push(path);
    }
    Ok(files)
}

/// Whether talkie gives files this name: the recipe, the sound, or `frame-` and at least five digits.
fn is_own(name: &str) -> bool {
    let number = name.strip_prefix("frame-").and_then(|rest| rest.strip_suffix(".png"));
    name == RECIPE
        || name == SOUND
        || number.is_some_and(|n| n.len() >= 5 && n.bytes().all(|byte| byte.is_ascii_digit()))
}
