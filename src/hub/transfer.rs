//! Download of one file: resume, hash, retry.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::cache::{RepoCache, in_words};
use super::client::{Client, Failure};
use super::config::Patience;
use super::listing::RemoteFile;
use super::names::RepoName;
use crate::error::{Context, Error, Result};
use crate::files::atomic;
use crate::progress::{Event, Progress, Stage};

/// Interval of events, and of checks for a stop while waiting.
const TICK: Duration = Duration::from_millis(100);

/// Bytes per read.
const CHUNK: usize = 1 << 18;

/// A file to fetch.
pub(super) struct Job<'a> {
    client: &'a Client,
    repo: &'a RepoName,
    cache: &'a RepoCache,
    commit: &'a str,
    name: &'a str,
    blob: String,
    sha256: Option<String>,
    /// Its size in bytes.
    pub size: u64,
}

impl<'a> Job<'a> {
    /// A job; asks the hub for what the listing lacks.
    pub(super) fn new(
        client: &'a Client,
        repo: &'a RepoName,
        cache: &'a RepoCache,
        commit: &'a str,
        file: &'a RemoteFile,
    ) -> Result<Self> {
        let (blob, sha256, size) = match (&file.blob, file.size) {
            (Some(blob), Some(size)) => (blob.clone(), file.sha256.clone(), size),
            _ => {
                let head = client.head(repo, commit, &file.name)?;
                (head.blob, head.sha256, head.size)
            }
        };
        Ok(Self { client, repo, cache, commit, name: &file.name, blob, sha256, size })
    }

    /// Bytes already fetched.
    pub(super) fn present(&self) -> u64 {
        let length = |path: PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
        if self.is_whole() { self.size } else { length(self.cache.part(&self.blob)).min(self.size) }
    }

    fn is_whole(&self) -> bool {
        fs::metadata(self.cache.blob(&self.blob)).is_ok_and(|meta| meta.is_file() && meta.len() == self.size)
    }

    fn fetch(&self, patience: &Patience, meter: &mut Meter<'_, '_>) -> Result<()> {
        let blob = self.cache.blob(&self.blob);
        meter.at(self.present(), true)?;
        if let Some(folder) = blob.parent() {
            fs::create_dir_all(folder).context(|| format!("cannot make {}", folder.display()))?;
        }
        let _lock = Lock::wait(&blob.with_extension("lock"), meter)?;
        // Checked under the lock: its last holder may have fetched it.
        if !self.is_whole() {
            self.download(&blob, patience, meter)?;
        }
        self.cache.link(&blob, self.commit, self.name)?;
        meter.at(self.size, true)
    }

    fn download(&self, blob: &Path, patience: &Patience, meter: &mut Meter<'_, '_>) -> Result<()> {
        let mut part = PartialFile::open(self.cache.part(&self.blob), self.size, meter)?;
        let mut tries = Tries::new(patience);
        loop {
            let before = part.length;
            match self.attempt(&mut part, meter) {
                Ok(()) => break,
                Err(failure) => tries.again(failure, part.length > before, &mut |message| meter.wait(message))?,
            }
        }
        let actual = format!("{:x}", part.hash.finalize_reset());
        if let Some(expected) = self.sha256.as_ref().filter(|expected| **expected != actual) {
            fs::remove_file(&part.path).context(|| format!("cannot remove {}", part.path.display()))?;
            return Err(Error::failed(format!(
                "{} is damaged: its SHA-256 is {actual}, the hub's {expected}",
                self.name
            ))
            .hint(
                "it was removed; the same command fetches it again. If that fails too, look for a proxy in between",
            ));
        }
        // Synced before the rename: a named blob is complete even after a power cut.
        let kept = part.file.sync_data().and_then(|()| fs::rename(&part.path, blob));
        kept.context(|| format!("cannot write {}", blob.display()))
    }

    /// Fetches as much as one connection delivers.
    fn attempt(&self, part: &mut PartialFile, meter: &mut Meter<'_, '_>) -> Result<(), Failure> {
        if part.length == self.size {
            return Ok(());
        }
        let mut content = self.client.open(self.repo, self.commit, self.name, part.length, self.size)?;
        if content.start != part.length {
            part.restart()?;
        }
        let broken = |cause: Option<io::Error>| {
            let error = Error::failed(format!("the connection broke off in the middle of {}", self.name))
                .hint("the same command resumes it");
            Failure::Transient(match cause {
                Some(cause) => error.because(cause),
                None => error,
            })
        };
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = content.reader.read(&mut buffer).map_err(|error| broken(Some(error)))?;
            let room = self.size - part.length;
            match count as u64 {
                0 if room == 0 => return Ok(()),
                0 => return Err(broken(None)),
                count if count > room => {
                    part.restart()?;
                    let what = format!("{} is longer than the {} bytes that the hub lists", self.name, self.size);
                    return Err(Error::failed(what).into());
                }
                _ => part.append(&buffer[..count])?,
            }
            meter.at(part.length, false)?;
        }
    }
}

/// Fetches the files in order.
pub(super) fn run(jobs: &[Job<'_>], patience: &Patience, progress: &mut Progress<'_>) -> Result<()> {
    let total = jobs.iter().map(|job| job.size).fold(0, u64::saturating_add);
    let mut before = 0;
    for job in jobs {
        job.fetch(
            patience,
            &mut Meter { progress, name: job.name, size: job.size, before, total, done: 0, last: None },
        )?;
        before = before.saturating_add(job.size);
    }
    Ok(())
}

/// Retries while failures are transient; `note` receives the reasons.
pub(super) fn patiently<T>(
    patience: &Patience,
    note: &mut dyn FnMut(&str) -> Result<()>,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut tries = Tries::new(patience);
    loop {
        match attempt() {
            Ok(answer) => return Ok(answer),
            Err(failure) => tries.again(failure, false, &mut |message| message.map_or(Ok(()), &mut *note))?,
        }
    }
}

/// Counts consecutive attempts without progress.
struct Tries<'a> {
    patience: &'a Patience,
    failures: u32,
}

impl<'a> Tries<'a> {
    fn new(patience: &'a Patience) -> Self {
        Self { patience, failures: 0 }
    }

    /// Waits before the next attempt, or returns the failure if there is none. `wait` receives the reason
    /// once, and then `None` every [`TICK`].
    fn again(
        &mut self,
        failure: Failure,
        gained: bool,
        wait: &mut dyn FnMut(Option<&str>) -> Result<()>,
    ) -> Result<(), Failure> {
        self.failures = if gained { 1 } else { self.failures + 1 };
        let error = match failure {
            Failure::Transient(error) if self.failures < self.patience.tries => error,
            failure => return Err(failure),
        };
        wait(Some(&format!("{error}; trying again")))?;
        let end = Instant::now() + self.patience.pause.saturating_mul(1 << (self.failures - 1).min(6));
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            std::thread::sleep(left.min(TICK));
            wait(None)?;
        }
        Ok(())
    }
}

/// A partial file on disk, and its hash so far.
struct PartialFile {
    path: PathBuf,
    file: File,
    length: u64,
    hash: Sha256,
}

impl PartialFile {
    /// Opens the part at `path` to resume it; one longer than `size` bytes is restarted.
    fn open(path: PathBuf, size: u64, meter: &mut Meter<'_, '_>) -> Result<Self> {
        let opened = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = opened.context(|| format!("cannot write {}", path.display()))?;
        let mut part = Self { path, file, length: 0, hash: Sha256::new() };
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = part.file.read(&mut buffer).context(|| format!("cannot read {}", part.path.display()))?;
            if count == 0 {
                return Ok(part);
            }
            part.length += count as u64;
            if part.length > size {
                part.restart()?;
                return Ok(part);
            }
            part.hash.update(&buffer[..count]);
            meter.at(part.length, false)?;
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|cause| {
            let full = cause.kind() == io::ErrorKind::StorageFull;
            let error = Error::failed(format!("cannot write {}", self.path.display())).because(cause);
            if full { error.hint("free some space; the same command resumes it") } else { error }
        })?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).context(|| format!("cannot write {}", self.path.display()))?;
        self.length = 0;
        self.hash.reset();
        Ok(())
    }
}

/// A lock on a part against other programs. Released when dropped, or when the program ends.
struct Lock {
    _file: File,
}

impl Lock {
    fn wait(path: &Path, meter: &mut Meter<'_, '_>) -> Result<Self> {
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = opened.context(|| format!("cannot write {}", path.display()))?;
        let mut reported = false;
        while !try_lock(&file).context(|| format!("cannot lock {}", path.display()))? {
            let message = format!("another program is fetching {}; waiting for it", meter.name);
            meter.wait((!reported).then_some(message.as_str()))?;
            reported = true;
            std::thread::sleep(TICK);
        }
        Ok(Self { _file: file })
    }
}

/// Some systems have no locks. There the hash detects that two programs wrote the same file.
fn try_lock(file: &File) -> io::Result<bool> {
    atomic::try_lock(file)
        .or_else(|cause| if cause.kind() == io::ErrorKind::Unsupported { Ok(true) } else { Err(cause) })
}

/// Reports the bytes of one file as events of it and of all files.
struct Meter<'m, 'p> {
    progress: &'m mut Progress<'p>,
    name: &'m str,
    size: u64,
    /// Bytes of the files before.
    before: u64,
    total: u64,
    done: u64,
    last: Option<Instant>,
}

impl Meter<'_, '_> {
    /// Reports `done` bytes, at most once per [`TICK`] unless `now`.
    fn at(&mut self, done: u64, now: bool) -> Result<()> {
        self.done = done;
        if !now && self.last.is_some_and(|last| last.elapsed() < TICK) {
            return Ok(());
        }
        self.last = Some(Instant::now());
        self.progress.emit(&Event::File { name: self.name.to_string(), done, total: self.size })?;
        self.progress.advance(Stage::Download, self.before.saturating_add(done), self.total)
    }

    /// Reports why nothing arrives, if a message is given, and checks for a stop.
    fn wait(&mut self, message: Option<&str>) -> Result<()> {
        match message {
            Some(message) => self.progress.note(format!("{message} ({} are here)", in_words(self.done))),
            None => self.at(self.done, true),
        }
    }
}
