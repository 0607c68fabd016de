//! The cache of one repository on disk: `refs/REVISION` names a commit, `snapshots/COMMIT` holds a link per
//! file, and `blobs` the contents by hash.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo};
use serde::Deserialize;

use super::FileState;
use super::listing::RemoteFile;
use super::names::{RepoName, is_commit, is_safe, matches};
use crate::error::{Context, Error, Result};

/// The folder of one repository at one revision.
pub(super) struct RepoCache {
    layout: CacheRepo,
    root: PathBuf,
    revision: String,
}

impl RepoCache {
    pub(super) fn new(cache: &Path, repo: &RepoName) -> Self {
        let root = cache.join(repo.hf().folder_name());
        let layout = Cache::new(cache.to_path_buf()).repo(repo.hf());
        Self { layout, root, revision: repo.revision.clone() }
    }

    /// The folder of the commit of the revision at the last fetch, if it exists.
    pub(super) fn snapshot(&self) -> Option<PathBuf> {
        let folder = self.folder(&self.commit()?);
        folder.is_dir().then_some(folder)
    }

    fn commit(&self) -> Option<String> {
        if is_commit(&self.revision) {
            return Some(self.revision.clone());
        }
        let text = read_at_most(&self.root.join("refs").join(&self.revision), 100).ok()?;
        Some(String::from_utf8(text).ok()?.trim().to_string()).filter(|text| is_commit(text))
    }

    /// The folder of a commit.
    pub(super) fn folder(&self, commit: &str) -> PathBuf {
        self.layout.pointer_path(commit)
    }

    /// The path of a complete blob.
    pub(super) fn blob(&self, name: &str) -> PathBuf {
        self.layout.blob_path(name)
    }

    /// The path of a partial blob. It is hf-hub's, so that its users resume our downloads, and we theirs.
    pub(super) fn part(&self, name: &str) -> PathBuf {
        self.blob(name).with_extension("part")
    }

    /// Points the revision to `commit`.
    pub(super) fn point(&self, commit: &str) -> Result<()> {
        if self.commit().as_deref() == Some(commit) {
            return Ok(());
        }
        self.layout.create_ref(commit).context(|| format!("cannot write {}", self.root.join("refs").display()))
    }

    /// How much of a file is cached.
    pub(super) fn state(&self, commit: &str, file: &RemoteFile) -> FileState {
        let length = |path: PathBuf| fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|meta| meta.len());
        let here = length(self.folder(commit).join(&file.name));
        let whole = here.is_some_and(|here| file.size.is_none_or(|size| here == size));
        let blob = || file.blob.as_deref().and_then(|blob| length(self.blob(blob)).or_else(|| length(self.part(blob))));
        let present = if whole { here } else { blob().filter(|here| file.size.is_none_or(|size| *here <= size)) };
        FileState { name: file.name.clone(), size: file.size, present: present.unwrap_or(0), whole }
    }

    /// Links `blob` as the file `name` of `commit`. The caller holds the lock of the blob.
    pub(super) fn link(&self, blob: &Path, commit: &str, name: &str) -> Result<()> {
        let link = self.folder(commit).join(name);
        // Made aside and renamed, so that readers never find nothing or half.
        let aside = blob.with_extension("link");
        let made = || {
            fs::create_dir_all(link.parent().unwrap_or(&link))?;
            match fs::remove_file(&aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            match symlink(blob, &aside, name).or_else(|_| fs::hard_link(blob, &aside)) {
                Ok(()) => fs::rename(&aside, &link),
                // A file system without links: the snapshot gets the blob itself.
                Err(_) => fs::rename(blob, &link),
            }
        };
        made().context(|| format!("cannot write {}", link.display()))
    }

    /// Refuses a download that does not fit the disk.
    pub(super) fn ensure_room(&self, bytes: u64) -> Result<()> {
        fs::create_dir_all(&self.root).context(|| format!("cannot make {}", self.root.display()))?;
        match free_bytes(&self.root) {
            Some(free) if free < bytes => Err(Error::failed(format!(
                "{} are to be fetched and {} are free on the disk of {}",
                in_words(bytes),
                in_words(free),
                self.root.display()
            ))
            .hint("free some space, or set HF_HOME to a folder on another disk")),
            _ => Ok(()),
        }
    }

    /// The complete files of the cached snapshot.
    pub(super) fn listed(&self) -> Option<Vec<RemoteFile>> {
        let folder = self.snapshot()?;
        let file = |name: String| {
            let size = fs::metadata(folder.join(&name)).ok()?.len();
            Some(RemoteFile { name, size: Some(size), sha256: None, blob: None })
        };
        Some(names_in(&folder).into_iter().filter_map(file).collect())
    }

    /// The folder, if no file that matches `wanted` is missing, as far as the cache shows.
    ///
    /// # Errors
    /// The missing names or patterns.
    pub(super) fn whole(&self, wanted: &[&str]) -> Result<PathBuf, Vec<String>> {
        let states = self.survey_offline(wanted);
        let missing: Vec<String> = states.into_iter().filter(|state| !state.whole).map(|state| state.name).collect();
        match self.snapshot() {
            Some(folder) if missing.is_empty() => Ok(folder),
            _ => Err(missing),
        }
    }

    /// The state known without the hub: links, whole or dangling; shards of an index; patterns without a
    /// match.
    pub(super) fn survey_offline(&self, wanted: &[&str]) -> Vec<FileState> {
        let Some(folder) = self.snapshot() else {
            return wanted.iter().map(|pattern| unknown(pattern)).collect();
        };
        let mut names = names_in(&folder);
        for index in names.clone().iter().filter(|name| name.ends_with(".index.json")) {
            names.extend(shards(&folder, index));
        }
        let mut states: Vec<FileState> = wanted
            .iter()
            .filter(|pattern| !names.iter().any(|name| matches(pattern, name)))
            .map(|p| unknown(p))
            .collect();
        for name in names.into_iter().filter(|name| wanted.iter().any(|pattern| matches(pattern, name))) {
            states.push(match fs::metadata(folder.join(&name)) {
                Ok(meta) => FileState { size: Some(meta.len()), present: meta.len(), whole: true, name },
                Err(_) => unknown(&name),
            });
        }
        states
    }
}

fn unknown(name: &str) -> FileState {
    FileState { name: name.to_string(), size: None, present: 0, whole: false }
}

/// The names of all links and files under a snapshot, dangling links too.
fn names_in(folder: &Path) -> BTreeSet<String> {
    // Deeper than any repository, in case a foreign link makes a cycle.
    const DEEPEST: usize = 16;
    let mut names = BTreeSet::new();
    let mut folders = vec![(folder.to_path_buf(), String::new(), 0)];
    while let Some((path, prefix, depth)) = folders.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let name = format!("{prefix}{name}");
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < DEEPEST => {
                    folders.push((entry.path(), format!("{name}/"), depth + 1));
                }
                Ok(kind) if !kind.is_dir() => drop(names.insert(name)),
                _ => {}
            }
        }
    }
    names
}

/// The files in a `*.safetensors.index.json`, beside it. None of an unreadable index: loading will report it.
fn shards(folder: &Path, index: &str) -> BTreeSet<String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    const LONGEST: u64 = 64 << 20;
    let beside = index.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let text = read_at_most(&folder.join(index), LONGEST).unwrap_or_default();
    let files = serde_json::from_slice::<Index>(&text).map(|index| index.weight_map).unwrap_or_default();
    files.into_values().map(|file| format!("{beside}{file}")).filter(|name| is_safe(name)).collect()
}

fn read_at_most(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(longest).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A relative link: it survives a move of the whole cache.
#[cfg(unix)]
fn symlink(blob: &Path, link: &Path, name: &str) -> io::Result<()> {
    let blob = blob.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // Up from the folders of the name, COMMIT and snapshots.
    let mut target = PathBuf::from("../".repeat(name.matches('/').count() + 2));
    target.push("blobs");
    target.push(blob);
    std::os::unix::fs::symlink(target, link)
}

/// A hard link: symbolic links need a privilege on Windows that most users lack.
#[cfg(not(unix))]
fn symlink(_blob: &Path, _link: &Path, _name: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_folder: &Path) -> Option<u64> {
    None
}

/// A number of bytes in units, with one decimal.
pub(super) fn in_words(bytes: u64) -> String {
    // Lossy beyond the decimals shown.
    let bytes = bytes as f64;
    match bytes {
        1e9.. => format!("{:.1} GB", bytes / 1e9),
        1e6.. => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.1} kB", bytes / 1e3),
    }
}
