//! A folder of numbered PNG frames, with recipe and audio.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::image::encode_png;
use super::wav;
use crate::audio::Waveform;
use crate::error::{Context, Error, Result};
use crate::files::atomic::{AtomicFile, DISK, Sign, folder_of};

/// File name of the recipe.
pub(super) const RECIPE: &str = "recipe.json";
/// File name of the audio.
const SOUND: &str = "audio.wav";

/// Writes `frame-00000.png`, … into a temporary folder. When complete, it is renamed to the user's, or its
/// files move there.
#[derive(Debug)]
pub(super) struct Folder {
    part: AtomicFile,
    target: PathBuf,
    count: usize,
    sound: bool,
}

impl Folder {
    /// Begins a folder of frames at `target`, and writes recipe and audio. `target` is a new name, an empty
    /// folder, or a folder with only an earlier film.
    ///
    /// # Errors
    /// A usage error when `target` is a file, holds foreign files, or has no parent folder; a failure when it
    /// cannot be written.
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
    /// When the disk fails.
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

    /// Moves the frames to `target`. In an existing folder, the files of an earlier film are removed first
    /// and the recipe is written last, so that a folder with a recipe is complete. Returns the codecs.
    ///
    /// # Errors
    /// When a file cannot be renamed or removed, or the folder holds new foreign files.
    pub(super) fn finish(self, target: &Path, sign: Sign<'_>) -> Result<String> {
        let codec = if self.sound { "PNG, WAV" } else { "PNG" }.to_owned();
        if !target.is_dir() {
            return self.part.commit_signed(target, sign).map(|()| codec);
        }
        sign(self.part.path())?;
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
/// A usage error that names the first foreign file: not a frame, recipe or audio.
fn own_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("cannot list the folder {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).context(unreadable)? {
        let path = entry.context(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') && name.contains(".part-") {
            continue;
        }
        if !is_own(&name) || path.is_dir() {
            let what =
                format!("the output folder holds `{name}`, which is not a frame of a film: {}", folder.display());
            return Err(Error::usage(what).hint("name a new or an empty folder: `-o frames/`"));
        }
        files.push(path);
    }
    Ok(files)
}

/// Whether a file name is talkie's: the recipe, the audio, or `frame-` and at least five digits.
fn is_own(name: &str) -> bool {
    let number = name.strip_prefix("frame-").and_then(|rest| rest.strip_suffix(".png"));
    name == RECIPE
        || name == SOUND
        || number.is_some_and(|n| n.len() >= 5 && n.bytes().all(|byte| byte.is_ascii_digit()))
}
