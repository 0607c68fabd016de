//! Where a model is: a folder, or a repository of the hub, by name or not.

use std::path::PathBuf;

use super::Model;
use crate::catalogue::{self, Entry};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::plan::PlannedFile;
use crate::progress::Progress;

/// The files of a diffusers folder that talkie reads, for a repository that the catalogue does not know.
const DIFFUSERS: [&str; 4] = ["model_index.json", "*/*.json", "*.safetensors", "tokenizer/*"];

/// Where a model is.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one, once")]
pub enum Source {
    /// A folder on this machine.
    Folder(PathBuf),
    /// A repository of the hub.
    Hub(Repository),
}

/// A repository of the hub.
#[derive(Debug, Clone)]
pub struct Repository {
    /// `org/name`.
    pub repo: String,
    /// The revision.
    pub revision: String,
    /// The files that are needed, as patterns.
    pub files: Vec<String>,
    /// What the catalogue knows of it.
    pub entry: Option<Entry>,
}

impl Source {
    /// What a user means by a model: a folder, a catalogue name, or a hub repository.
    ///
    /// # Errors
    /// None of them, with the names that look like it.
    pub fn find(name: &str) -> Result<Self> {
        let folder = PathBuf::from(name);
        if folder.exists() || name.starts_with(['.', '/', '~']) {
            return Ok(Self::Folder(folder));
        }
        match catalogue::find(name) {
            Ok(entry) => Ok(Self::Hub(Repository {
                repo: entry.repo.clone(),
                revision: entry.revision.clone(),
                files: entry.files.clone(),
                entry: Some(entry),
            })),
            Err(_) if name.matches('/').count() == 1 && !name.ends_with('/') => Ok(Self::Hub(Repository {
                repo: name.to_owned(),
                revision: "main".into(),
                files: DIFFUSERS.map(str::to_owned).to_vec(),
                entry: None,
            })),
            Err(error) => Err(error),
        }
    }

    /// What the catalogue knows of it.
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Folder(_) => None,
            Self::Hub(repository) => repository.entry.as_ref(),
        }
    }

    /// The model, with files that are missing fetched first.
    ///
    /// # Errors
    /// A folder that is not a model, a download that fails.
    pub fn fetch(&self, progress: &mut Progress<'_>) -> Result<Model> {
        match self {
            Self::Folder(folder) => Model::open(folder),
            Self::Hub(repository) => {
                let files: Vec<&str> = repository.files.iter().map(String::as_str).collect();
                let folder = Hub::from_env()?.fetch(&repository.repo, &repository.revision, &files, progress)?;
                Model::open(&folder)
            }
        }
    }

    /// The model as far as it is known without a download, and the files that are missing.
    ///
    /// # Errors
    /// A folder that is not a model; a repository that neither the cache nor the catalogue knows.
    pub fn look(&self) -> Result<(Model, Vec<PlannedFile>)> {
        let repository = match self {
            Self::Folder(folder) => return Ok((Model::open(folder)?, Vec::new())),
            Self::Hub(repository) => repository,
        };
        let Repository { repo, revision, files, entry } = repository;
        let hub = Hub::from_env()?;
        let patterns: Vec<&str> = files.iter().map(String::as_str).collect();
        let states = hub.survey(repo, revision, &patterns);
        if let Ok(states) = &states {
            let whole = !states.is_empty() && states.iter().all(|state| state.whole);
            if let Some(index) = hub.cached(repo, revision, "model_index.json").filter(|_| whole) {
                return Ok((Model::open(index.parent().unwrap_or(&index))?, Vec::new()));
            }
        }
        let Some(entry) = entry else {
            return Err(Error::failed(format!("nothing is known of {repo} before it is fetched"))
                .hint(format!("fetch it first: `talkie models pull {repo}`")));
        };
        let planned = |name: &str, bytes: Option<u64>, present: bool| PlannedFile {
            component: name.split_once('/').map_or("", |(folder, _)| folder).to_owned(),
            path: name.into(),
            bytes,
            present,
        };
        // Out of reach of the hub the plan goes on with what the catalogue knows: it says which files, not how large.
        let files = match states {
            Ok(states) if !states.is_empty() => states.iter().map(|s| planned(&s.name, s.size, s.whole)).collect(),
            _ => files.iter().map(|name| planned(name, None, false)).collect(),
        };
        Ok((Model::from_entry(entry), files))
    }
}
