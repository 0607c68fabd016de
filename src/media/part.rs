//! What is being written, under a name of its own until it is whole.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};

/// What to do about a disk that takes no more.
pub(super) const DISK: &str = "check that the disk has free space, or name a file on another one";

/// A file or folder that is removed when dropped, unless it was [`Part::keep`]-ed under its own name.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
}

impl Part {
    /// An empty file in the folder of `target`.
    ///
    /// # Errors
    /// A usage error when that folder is not there, a failure when nothing can be written in it.
    pub(super) fn file(target: &Path) -> Result<Self> {
        Self::create(folder_of(target)?, target, |path| {
            OpenOptions::new().write(true).create_new(true).open(path).map(drop)
        })
    }

    /// An empty folder, for what will be `target`, in `folder`.
    ///
    /// # Errors
    /// A failure when nothing can be written in `folder`.
    pub(super) fn folder(folder: &Path, target: &Path) -> Result<Self> {
        Self::create(folder, target, |path| fs::create_dir(path))
    }

    fn create(folder: &Path, target: &Path, make: impl Fn(&Path) -> io::Result<()>) -> Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let mut result = Err(io::Error::from(io::ErrorKind::AlreadyExists));
        // A killed run leaves its part behind, and process numbers come round again.
        for attempt in 0..100 {
            let path = folder.join(format!(".{name}.part-{}-{attempt}", std::process::id()));
            result = make(&path).map(|()| Self { path });
            if !matches!(&result, Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists) {
                break;
            }
        }
        result.map_err(|cause| {
            let hint = "choose a folder that you may write in, on a disk that is not full";
            Error::failed(format!("cannot write in the folder {}", folder.display())).because(cause).hint(hint)
        })
    }

    /// Where it is being written.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its own name. A file that had this name before is replaced, in one step.
    ///
    /// # Errors
    /// When the disk refuses the last bytes or the name: then nothing is kept.
    pub(super) fn keep(self, target: &Path) -> Result<()> {
        let flushed = if self.path.is_dir() { Ok(()) } else { File::open(&self.path).and_then(|file| file.sync_all()) };
        flushed
            .and_then(|()| fs::rename(&self.path, target))
            .context(|| format!("cannot finish writing {}", target.display()))
            .map_err(|error| error.hint(DISK))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After `keep` neither is there, and an error has been reported already: nothing is left to say.
        let _ = fs::remove_file(&self.path).or_else(|_| fs::remove_dir_all(&self.path));
    }
}

/// The folder that `target` is to lie in.
///
/// # Errors
/// A usage error when it is not there or is no folder.
pub(super) fn folder_of(target: &Path) -> Result<&Path> {
    let folder = match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if folder.is_dir() {
        return Ok(folder);
    }
    let what = format!("the folder of the output is not there: {}", folder.display());
    Err(Error::usage(what).hint(format!("mkdir -p {}", folder.display())))
}
