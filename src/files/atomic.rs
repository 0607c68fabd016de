//! Atomic files: written under a temporary name, renamed when complete. Locks distinguish a running writer
//! from one that was killed.
//!
//! The part of `film.mp4` is `.film.mp4.part-PID-N` in the same folder. Its writer holds a lock on it, which
//! ends with the process: an unlocked part was left by a killed process, and the next writer removes it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};

/// The hint for a failed write.
pub const DISK: &str = "check that the disk has free space, or name a file on another one";

/// A file or folder under a temporary name, removed when dropped unless [`AtomicFile::commit`]ted.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    /// Held while the part is written.
    _lock: File,
}

impl AtomicFile {
    /// Creates an empty file in the folder of `target`.
    ///
    /// # Errors
    /// A usage error if that folder does not exist, a failure if it cannot be written.
    pub fn file(target: &Path) -> Result<Self> {
        Self::create(folder_of(target)?, target, &|path| OpenOptions::new().write(true).create_new(true).open(path))
    }

    /// Creates an empty folder for `target` in `folder`.
    ///
    /// # Errors
    /// A failure if `folder` cannot be written.
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
                // Between creation and lock, another process may have locked it to sweep it.
                Ok(false) => Err(io::ErrorKind::AlreadyExists.into()),
                Ok(true) if !path.exists() => Err(io::ErrorKind::AlreadyExists.into()),
                _ => Ok(file),
            }
        };
        let mut result = Err(io::Error::from(io::ErrorKind::AlreadyExists));
        // Process ids repeat, and another thread may write a film of that name.
        for attempt in 0..100 {
            let path = folder.join(format!("{}{}-{attempt}", prefix(&name), std::process::id()));
            result = locked(&path).map(|lock| Self { path, _lock: lock });
            if !matches!(&result, Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists) {
                break;
            }
        }
        result.map_err(|cause| {
            let hint = "choose a writable folder, on a disk that is not full";
            Error::failed(format!("cannot write in the folder {}", folder.display())).because(cause).hint(hint)
        })
    }

    /// The temporary path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs it, or the files in it, to the disk.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn flush(&self) -> io::Result<()> {
        files_in(&self.path).iter().try_for_each(|file| sync(file))?;
        sync(&self.path)
    }

    /// Syncs it and renames it to `target`. A file of that name is replaced in one step.
    ///
    /// # Errors
    /// When the disk fails: then nothing is kept.
    pub fn commit(self, target: &Path) -> Result<()> {
        self.commit_signed(target, &unsigned)
    }

    /// Signs the closed file, syncs it and renames it to `target`, in that order.
    ///
    /// # Errors
    /// What `sign` answers, or a failure of the disk: then nothing is kept.
    pub fn commit_signed(self, target: &Path, sign: Sign<'_>) -> Result<()> {
        sign(&self.path)?;
        self.flush()
            .and_then(|()| fs::rename(&self.path, target))
            .context(|| format!("cannot finish writing {}", target.display()))
            .map_err(|error| error.hint(DISK))?;
        // A power cut could lose the name until the folder is synced too, which not every file system
        // supports.
        let _ = folder_of(target).map(sync);
        Ok(())
    }
}

/// Signs a closed file at its temporary place.
pub type Sign<'a> = &'a dyn Fn(&Path) -> Result<()>;

/// Leaves a file unsigned.
///
/// # Errors
/// None: a [`Sign`] may fail.
pub fn unsigned(_: &Path) -> Result<()> {
    Ok(())
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        // After `commit` it does not exist, and an error was reported already.
        let _ = discard(&self.path);
    }
}

/// Writes a file atomically.
///
/// # Errors
/// A folder that does not exist or cannot be written, a full disk. Nothing is left behind then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let part = AtomicFile::file(path).context(failed)?;
    std::fs::write(part.path(), bytes)
        .context(failed)
        .map_err(|error| error.hint("check that the folder exists and is writable, and that the disk is not full"))?;
    part.commit(path)
}

/// Checks that a file can be written at `path`, without changing it.
///
/// # Errors
/// A folder that does not exist or cannot be written, or a folder in the file's place.
pub fn check_place(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::usage(format!("cannot write a file where a folder is: {}", path.display()))
            .hint("name a file in that folder"));
    }
    AtomicFile::file(path).map(drop).context(|| format!("cannot write {}", path.display()))
}

/// Prefix of the parts of `name`.
fn prefix(name: &str) -> String {
    format!(".{name}.part-")
}

/// Whether `file` is the name of a part of `name`.
pub fn is_part_of(file: &str, name: &str) -> bool {
    let numbers = file.strip_prefix(&prefix(name)).and_then(|numbers| numbers.split_once('-'));
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(pid, attempt)| number(pid) && number(attempt))
}

/// Whether a path is taken: by a file, or a folder with more than parts in it.
pub fn is_taken(path: &Path) -> bool {
    if !path.is_dir() {
        return path.symlink_metadata().is_ok();
    }
    let part =
        |file: &PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix("frames")));
    files_in(path).iter().any(|file| !part(file))
}

/// Removes the parts of `name` that no running process holds. If that is unknown, or fails, they stay.
fn sweep(folder: &Path, name: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // A link may lead to a foreign file.
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

/// Removes a part: a file, or a folder with the files in it. A part never has folders in it.
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

/// Syncs a file, or the names in a folder, to the disk.
fn sync(path: &Path) -> io::Result<()> {
    if path.is_dir() && cfg!(not(unix)) { Ok(()) } else { File::open(path)?.sync_all() }
}

/// The folder of `target`.
///
/// # Errors
/// A usage error if it does not exist or is not a folder.
pub fn folder_of(target: &Path) -> Result<&Path> {
    let folder = match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if folder.is_dir() {
        return Ok(folder);
    }
    let what = format!("the folder of the output does not exist: {}", folder.display());
    Err(Error::usage(what).hint(format!("mkdir -p {}", folder.display())))
}

/// Locks a file or folder for this process; `false` if another holds it. The lock ends with the last copy of
/// the handle, even if the process is killed.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] without such locks: other systems than Unix, some network file systems.
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

/// As above, on systems without such locks.
#[cfg(not(unix))]
pub fn try_lock(_file: &File) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}
