//! What is being written, under a name of its own until it is whole; and the locks that tell a living writer from a dead one.
//!
//! A part of `film.mp4` is `.film.mp4.part-PID-N` in the same folder. Its writer holds a lock on it that ends with the
//! process, however that ends: a part that nobody holds is what a killed process left, and goes when the next one begins.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};

/// What to do about a disk that takes no more.
pub const DISK: &str = "check that the disk has free space, or name a file on another one";

/// A file or folder that is removed when dropped, unless it was [`AtomicFile::commit`]ted.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    /// Held as long as the part is written.
    _lock: File,
}

impl AtomicFile {
    /// An empty file in the folder of `target`.
    ///
    /// # Errors
    /// A usage error when that folder is not there, a failure when nothing can be written in it.
    pub fn file(target: &Path) -> Result<Self> {
        Self::create(folder_of(target)?, target, &|path| OpenOptions::new().write(true).create_new(true).open(path))
    }

    /// An empty folder, for what will be `target`, in `folder`.
    ///
    /// # Errors
    /// A failure when nothing can be written in `folder`.
    pub fn folder(folder: &Path, target: &Path) -> Result<Self> {
        Self::create(folder, target, &|path| fs::create_dir(path).and_then(|()| File::open(path)))
    }

    fn create(folder: &Path, target: &Path, make: &dyn Fn(&Path) -> io::Result<File>) -> Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        sweep(folder, &name);
        let locked = |path: &Path| {
            let file = make(path)?;
            match try_lock(&file) {
                Err(cause) if cause.kind() != io::ErrorKind::Unsupported => Err(cause),
                // Another process may have taken it for a dead one's, between the making and the lock.
                Ok(false) => Err(io::ErrorKind::AlreadyExists.into()),
                Ok(true) if !path.exists() => Err(io::ErrorKind::AlreadyExists.into()),
                _ => Ok(file),
            }
        };
        let mut result = Err(io::Error::from(io::ErrorKind::AlreadyExists));
        // Process numbers come round again, and another thread may write a film of that name.
        for attempt in 0..100 {
            let path = folder.join(format!("{}{}-{attempt}", prefix(&name), std::process::id()));
            result = locked(&path).map(|lock| Self { path, _lock: lock });
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
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until its bytes, or those of the files in it, are on the disk.
    ///
    /// # Errors
    /// When the disk refuses them.
    pub fn flush(&self) -> io::Result<()> {
        files_in(&self.path).iter().try_for_each(|file| sync(file))?;
        sync(&self.path)
    }

    /// Gives it its own name, with every byte on the disk. A file that had this name before is replaced, in one step.
    ///
    /// # Errors
    /// When the disk refuses the last bytes or the name: then nothing is kept.
    pub fn commit(self, target: &Path) -> Result<()> {
        self.flush()
            .and_then(|()| fs::rename(&self.path, target))
            .context(|| format!("cannot finish writing {}", target.display()))
            .map_err(|error| error.hint(DISK))?;
        // The name is lost with the power until the folder is on the disk, too. Not every file system can do that.
        let _ = folder_of(target).map(sync);
        Ok(())
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        // After `commit` it is not there, and an error has been reported already: nothing is left to say.
        let _ = discard(&self.path);
    }
}

/// Writes a file under a temporary name in the same folder, and renames it when its bytes are on the disk.
///
/// # Errors
/// A folder that is not there or cannot be written, a full disk. Nothing is left behind then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let part = AtomicFile::file(path).context(failed)?;
    std::fs::write(part.path(), bytes).context(failed).map_err(|error| {
        error.hint("check that the folder exists, that you may write there, and that the disk is not full")
    })?;
    part.commit(path)
}

/// Tries whether a file could be written at `path`, and leaves what is there as it is.
///
/// # Errors
/// A folder that is not there or cannot be written, or a folder in the file's place.
pub fn check_place(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::usage(format!("a file is to be written where a folder is: {}", path.display()))
            .hint("name a file in that folder"));
    }
    AtomicFile::file(path).map(drop).context(|| format!("cannot write {}", path.display()))
}

/// How the names of the parts of `name` begin.
fn prefix(name: &str) -> String {
    format!(".{name}.part-")
}

/// Whether `file` is the name of a part of `name`.
pub fn is_part_of(file: &str, name: &str) -> bool {
    let numbers = file.strip_prefix(&prefix(name)).and_then(|numbers| numbers.split_once('-'));
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(pid, attempt)| number(pid) && number(attempt))
}

/// Whether something is under a name: a file, or a folder in which there is more than parts.
pub fn is_taken(path: &Path) -> bool {
    if !path.is_dir() {
        return path.symlink_metadata().is_ok();
    }
    let part =
        |file: &PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix("frames")));
    files_in(path).iter().any(|file| !part(file))
}

/// Removes the parts of `name` that no living process writes. What cannot be told, or removed, stays.
fn sweep(folder: &Path, name: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // A link's file may be anybody's.
        let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if link || !entry.file_name().to_str().is_some_and(|file| is_part_of(file, name)) {
            continue;
        }
        let path = entry.path();
        let Ok(file) = File::open(&path) else { continue };
        if matches!(try_lock(&file), Ok(true)) {
            let _ = discard(&path);
        }
    }
}

/// Removes a part: a file, or a folder with the files in it. A folder in which there are folders is not one of ours.
fn discard(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    for file in files_in(path) {
        fs::remove_file(file)?;
    }
    fs::remove_dir(path)
}

/// The entries of a folder; none of a file.
fn files_in(path: &Path) -> Vec<PathBuf> {
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Waits until a file, or the names in a folder, are on the disk.
fn sync(path: &Path) -> io::Result<()> {
    if path.is_dir() && cfg!(not(unix)) { Ok(()) } else { File::open(path)?.sync_all() }
}

/// The folder that `target` is to lie in.
///
/// # Errors
/// A usage error when it is not there or is no folder.
pub fn folder_of(target: &Path) -> Result<&Path> {
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

/// Locks a file or folder for this process, or answers that somebody has it. The lock goes with the last copy of the
/// handle, so also when the process is killed.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] where there are no such locks: other systems than Unix, some network file systems.
#[cfg(unix)]
pub fn try_lock(file: &File) -> io::Result<bool> {
    use rustix::fs::{FlockOperation, flock};
    use rustix::io::Errno;
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(Errno::NOSYS | Errno::NOTSUP | Errno::NOLCK | Errno::BADF) => Err(io::ErrorKind::Unsupported.into()),
        Err(error) => Err(error.into()),
    }
}

/// As above, where the system has no such locks.
#[cfg(not(unix))]
pub fn try_lock(_file: &File) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}
