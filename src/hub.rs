//! Files of hub repositories on this machine: cache, resume, SHA-256, offline.
//!
//! The cache and its variables are those of Python's `huggingface_hub`, so both share their files; its layout
//! comes from the crate hf-hub. The transfer is ours: hf-hub cannot be stopped between two bytes, has no
//! timeout on a silent server, and does not check hashes.
//!
//! | file | content |
//! |---|---|
//! | `config` | the environment: cache, hub, token |
//! | `names` | validation of names, and patterns over them |
//! | `listing` | the hub's JSON of a repository |
//! | `client` | requests; which failures are transient |
//! | `cache` | folders, links, disk space; what is missing |
//! | `transfer` | one file: resume, hash, retries |

mod cache;
mod client;
mod config;
mod listing;
mod names;
mod transfer;

use std::path::PathBuf;

pub use config::{HubConfig, Patience};
pub use listing::RemoteFile;

use crate::error::{Error, Result};
use crate::progress::{Progress, Stage};
use cache::RepoCache;
use client::{Client, Failure};
use listing::Listing;
use names::RepoName;

/// A hub and its cache on this machine.
pub struct Hub {
    config: HubConfig,
    client: Client,
}

/// How much of one file is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState {
    /// Its name in the repository.
    pub name: String,
    /// Its size in bytes, if known.
    pub size: Option<u64>,
    /// Bytes on this machine: its size if it is whole, less after an interrupted download.
    pub present: u64,
    /// Whether it is complete.
    pub whole: bool,
}

impl Hub {
    /// The hub that the environment describes: see [`HubConfig::from_env`].
    ///
    /// # Errors
    /// No home folder, or an invalid token or endpoint.
    pub fn from_env() -> Result<Self> {
        Self::new(HubConfig::from_env()?)
    }

    /// The hub that `config` describes.
    ///
    /// # Errors
    /// An invalid token or endpoint.
    pub fn new(config: HubConfig) -> Result<Self> {
        config.check()?;
        Ok(Self { client: Client::new(&config), config })
    }

    /// The files of a repository: from the hub, or when offline those of the cached snapshot.
    ///
    /// # Errors
    /// An invalid name, a repository or revision that does not exist or is closed, no network, or a response
    /// that is not the hub's; offline, a repository that is not cached.
    pub fn list(&self, repo: &str, revision: &str) -> Result<Vec<RemoteFile>> {
        let (name, cache) = self.repo(repo, revision)?;
        if self.config.offline {
            return cache.listed().ok_or_else(|| name.missing(&["every file".to_string()]));
        }
        Ok(self.listing(&name)?.files)
    }

    /// The path of a cached file. Does not use the network.
    pub fn cached(&self, repo: &str, revision: &str, name: &str) -> Option<PathBuf> {
        let (_, cache) = self.repo(repo, revision).ok()?;
        names::is_safe(name)
            .then(|| cache.snapshot())
            .flatten()
            .map(|folder| folder.join(name))
            .filter(|path| path.is_file())
    }

    /// The state of the files that match `wanted`, without fetching any.
    ///
    /// Offline, only names in the cache are known, and no sizes of missing files.
    ///
    /// # Errors
    /// As [`Hub::list`]; a pattern that no file of the repository matches.
    pub fn survey(&self, repo: &str, revision: &str, wanted: &[&str]) -> Result<Vec<FileState>> {
        let (name, cache) = self.repo(repo, revision)?;
        if self.config.offline {
            return Ok(cache.survey_offline(wanted));
        }
        let mut listing = self.listing(&name)?;
        listing.keep(wanted, &name)?;
        Ok(listing.files.iter().map(|file| cache.state(&listing.commit, file)).collect())
    }

    /// Fetches the missing files of those that match `wanted`, and returns their folder.
    ///
    /// `wanted` holds names of files, or patterns in which `*` is any run of characters, `/` too; each must
    /// match a file. Reports [`Stage::Download`] in bytes, and each file; a stop from the callback leaves a
    /// part that the next call resumes. If all files are here, an unreachable hub or offline mode is fine.
    ///
    /// # Errors
    /// As [`Hub::list`]; a pattern without a match, a full disk, a file whose length or SHA-256 is not the
    /// hub's, a connection that breaks again and again, a stop; offline, files that are not here.
    pub fn fetch(&self, repo: &str, revision: &str, wanted: &[&str], progress: &mut Progress<'_>) -> Result<PathBuf> {
        let (name, cache) = self.repo(repo, revision)?;
        if self.config.offline {
            return cache.whole(wanted).map_err(|missing| name.missing(&missing));
        }
        let here = cache.whole(wanted).ok();
        // With all files here, do not wait for an unreachable hub.
        let tries = if here.is_some() { 1 } else { self.config.patience.tries };
        let patience = Patience { tries, ..self.config.patience };
        let ask = || Listing::ask(&self.client, &name);
        let listing = match (transfer::patiently(&patience, &mut |error| progress.note(error), ask), here) {
            (Ok(listing), _) => listing,
            (Err(Failure::Transient(error)), Some(folder)) => {
                progress.note(format!("{error}; using the files that are here"))?;
                return Ok(folder);
            }
            (Err(failure), _) => return Err(failure.into()),
        };
        self.fetch_listed(&name, &cache, listing, wanted, progress)
    }

    fn fetch_listed(
        &self,
        name: &RepoName,
        cache: &RepoCache,
        mut listing: Listing,
        wanted: &[&str],
        progress: &mut Progress<'_>,
    ) -> Result<PathBuf> {
        listing.keep(wanted, name)?;
        let commit = listing.commit.clone();
        // A reference moves only when its files are complete: an interrupted update must not hide the
        // snapshot that works offline. The first one is written at once, so that an interrupted first
        // download is found.
        if cache.snapshot().is_none() {
            cache.point(&commit)?;
        }
        let mut jobs = Vec::new();
        for file in &listing.files {
            if !cache.state(&commit, file).whole {
                jobs.push(transfer::Job::new(&self.client, name, cache, &commit, file)?);
            }
        }
        if !jobs.is_empty() {
            let total = jobs.iter().map(|job| job.size).fold(0, u64::saturating_add);
            cache.ensure_room(
                jobs.iter().map(|job| job.size.saturating_sub(job.present())).fold(0, u64::saturating_add),
            )?;
            progress.stage(Stage::Download, total, |progress| transfer::run(&jobs, &self.config.patience, progress))?;
        }
        cache.point(&commit)?;
        Ok(cache.folder(&commit))
    }

    fn repo(&self, repo: &str, revision: &str) -> Result<(RepoName, RepoCache)> {
        let name = RepoName::parse(repo, revision)?;
        let cache = RepoCache::new(&self.config.cache, &name);
        Ok((name, cache))
    }

    fn listing(&self, name: &RepoName) -> Result<Listing, Failure> {
        transfer::patiently(&self.config.patience, &mut |_| Ok(()), || Listing::ask(&self.client, name))
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Transient(error) | Failure::Final(error) => error,
        }
    }
}
