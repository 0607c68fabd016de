//! Where a model is: a folder or file, or a repository of the hub, by name or not.

use std::path::{Path, PathBuf};

use super::component::{Component, Model, component};
use super::{bundled, checkpoint, licence};
use crate::error::{Error, Kind, Result};
use crate::hub::{FileState, Hub};
use crate::model::PlannedFile;
use crate::model::catalogue::{self, Described, Entry, IN_THE_BOX, Place};
use crate::progress::Progress;

/// The files of a diffusers folder that talkie reads, for a repository that the catalogue does not know.
const DIFFUSERS: [&str; 4] = ["model_index.json", "*/*.json", "*.safetensors", "tokenizer/*"];

/// The revision of a part that is in a repository of its own.
const REVISION: &str = "main";

/// Where a model is.
#[derive(Debug, Clone)]
pub enum Source {
    /// A folder or a file on this machine, with what the catalogue knows of it where it came with talkie.
    Folder(PathBuf, Option<Entry>),
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
    /// What a user means by a model: a folder, a file, a catalogue name, or a hub repository.
    ///
    /// # Errors
    /// None of them, with the names that look like it; a model that should have come with talkie and is not there.
    pub fn find(name: &str) -> Result<Self> {
        let folder = PathBuf::from(name);
        if folder.exists() || name.starts_with(['.', '/', '~']) || name.ends_with(checkpoint::ENDING) {
            return Ok(Self::Folder(folder, None));
        }
        match catalogue::find(name) {
            Ok(entry) => Self::of(entry),
            Err(_) if name.matches('/').count() == 1 && !name.ends_with('/') => Ok(Self::Hub(Repository {
                repo: name.to_owned(),
                revision: "main".into(),
                files: DIFFUSERS.map(str::to_owned).to_vec(),
                entry: None,
            })),
            Err(error) => Err(error),
        }
    }

    /// The model of a choice: the one that comes with talkie, where none is named.
    ///
    /// # Errors
    /// As [`Source::find`]; the folder of the model that comes with talkie is in none of the places where it should be.
    pub fn of_choice(model: Option<&str>) -> Result<Self> {
        model.map_or_else(|| Self::of(catalogue::find(IN_THE_BOX)?), Self::find)
    }

    fn of(entry: Entry) -> Result<Self> {
        match entry.place.clone() {
            Place::Hub { repo, revision } => {
                Ok(Self::Hub(Repository { repo, revision, files: entry.files.clone(), entry: Some(entry) }))
            }
            Place::Box { folder } => Ok(Self::Folder(bundled::find(&folder)?, Some(entry))),
        }
    }

    /// What the catalogue knows of it.
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Folder(_, entry) => entry.as_ref(),
            Self::Hub(repository) => repository.entry.as_ref(),
        }
    }

    /// The model, with files that are missing fetched first. Before the first time, a note says its licence; `home` remembers that.
    ///
    /// # Errors
    /// A folder that is not a model, a download that fails.
    pub fn fetch(&self, home: Option<&Path>, progress: &mut Progress<'_>) -> Result<Model> {
        match self {
            Self::Folder(folder, _) => Model::open(folder),
            Self::Hub(repository) => repository.fetch(home, progress),
        }
    }

    /// The model as far as it is known without a download, and its files where some are missing.
    ///
    /// # Errors
    /// A folder that is not a model; a repository that neither the cache nor the catalogue knows.
    pub fn look(&self) -> Result<(Model, Vec<PlannedFile>)> {
        match self {
            Self::Folder(folder, _) => Ok((Model::open(folder)?, Vec::new())),
            Self::Hub(repository) => repository.look(),
        }
    }
}

impl Repository {
    fn fetch(&self, home: Option<&Path>, progress: &mut Progress<'_>) -> Result<Model> {
        if let Some(entry) = &self.entry {
            licence::say_once(entry, home, progress)?;
        }
        let hub = Hub::from_env()?;
        let mut model = Model::open(&hub.fetch(&self.repo, &self.revision, &self.patterns(), progress)?)?;
        for part in self.apart() {
            match part.fetch(&hub, progress) {
                Ok(component) => model.set(component),
                Err(error) if error.kind() == Kind::Stopped => return Err(error),
                Err(error) => progress.note(format!("the model does without its `{}`: {error}", part.name))?,
            }
        }
        Ok(model)
    }

    fn look(&self) -> Result<(Model, Vec<PlannedFile>)> {
        let hub = Hub::from_env()?;
        let states = hub.survey(&self.repo, &self.revision, &self.patterns()).unwrap_or_default();
        let index = hub.cached(&self.repo, &self.revision, "model_index.json").filter(|_| whole(&states));
        let mut model = match (&index, &self.entry) {
            (Some(index), _) => Model::open(index.parent().unwrap_or(index))?,
            (None, Some(entry)) => Model::from_entry(entry),
            (None, None) => {
                return Err(Error::failed(format!("nothing is known of {} before it is fetched", self.repo))
                    .hint(format!("fetch it first: `talkie models pull {}`", self.repo)));
            }
        };
        let mut files = planned(&states, &self.patterns());
        for part in self.apart() {
            let states = hub.survey(part.repo, REVISION, &[&part.pattern()]).unwrap_or_default();
            files.extend(planned(&states, &[&part.pattern()]));
            let config = hub.cached(part.repo, REVISION, &format!("{}/config.json", part.name));
            if let Some(folder) = config.as_ref().filter(|_| whole(&states)).and_then(|config| config.parent()) {
                model.set(component(folder, part.name, &part.described.class)?);
            } else if let Some(guess) = self.entry.as_ref().and_then(|entry| Model::from_entry(entry).take(part.name)) {
                model.set(guess);
            }
        }
        let here = files.iter().all(|file| file.present);
        Ok((model, if here { Vec::new() } else { files }))
    }

    fn patterns(&self) -> Vec<&str> {
        self.files.iter().map(String::as_str).collect()
    }

    /// The parts that are in other repositories.
    fn apart(&self) -> impl Iterator<Item = Apart<'_>> {
        let components = self.entry.iter().flat_map(|entry| &entry.components);
        components.filter_map(|(name, described)| Some(Apart { name, described, repo: described.repo.as_deref()? }))
    }
}

/// A part in a repository that is not the model's.
struct Apart<'a> {
    name: &'a str,
    described: &'a Described,
    repo: &'a str,
}

impl Apart<'_> {
    fn pattern(&self) -> String {
        format!("{}/*", self.name)
    }

    fn fetch(&self, hub: &Hub, progress: &mut Progress<'_>) -> Result<Component> {
        let folder = hub.fetch(self.repo, REVISION, &[&self.pattern()], progress)?;
        component(&folder.join(self.name), self.name, &self.described.class)
    }
}

fn whole(states: &[FileState]) -> bool {
    !states.is_empty() && states.iter().all(|state| state.whole)
}

/// Out of reach of the hub the plan goes on with what the catalogue knows: it says which files, not how large.
fn planned(states: &[FileState], patterns: &[&str]) -> Vec<PlannedFile> {
    let file = |name: &str, bytes: Option<u64>, present: bool| PlannedFile {
        component: name.split_once('/').map_or("", |(folder, _)| folder).to_owned(),
        path: name.into(),
        bytes,
        present,
    };
    if states.is_empty() {
        return patterns.iter().map(|name| file(name, None, false)).collect();
    }
    states.iter().map(|state| file(&state.name, state.size, state.whole)).collect()
}
