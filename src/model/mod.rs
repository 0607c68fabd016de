//! A model on disk: what the folder that diffusers writes, or a file of its authors, holds, before any weight is read.

pub mod boxed;
mod folder;
mod licence;
mod lora;
mod pieces;
mod single;
mod source;
mod statistics;
mod tokenizer;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use serde_json::Value;

use crate::catalogue::{self, Described, Entry};
use crate::error::{Error, Result};
use crate::request::Adapter;
use crate::weights::Weights;
use crate::weights::keys::Names;
pub use folder::read_json;
pub use source::{Repository, Source};

/// A model's parts and where they are.
#[derive(Debug, Clone)]
pub struct Model {
    /// The folder, or the file that holds the networks.
    pub folder: PathBuf,
    /// The class that diffusers would run it with, such as `WanPipeline`.
    pub pipeline: String,
    /// `model_index.json` as it is: it carries `boundary_ratio` and `expand_timesteps`.
    pub index: Value,
    /// The parts.
    pub components: Vec<Component>,
    /// What was found out about files that the user added to it, in sentences.
    pub notes: Vec<String>,
}

/// One part of a model: a network, the tokenizer or the scheduler.
#[derive(Debug, Clone)]
pub struct Component {
    /// Its name in the folder, such as `transformer_2`.
    pub name: String,
    /// Its class, such as `WanTransformer3DModel`.
    pub class: String,
    /// Its own folder, or the file that it is in with others.
    pub folder: PathBuf,
    /// Its configuration: `config.json`, or `scheduler_config.json`; null for a tokenizer.
    pub config: Value,
    /// Its weights, complete: one file, or all shards. Empty for a tokenizer or a scheduler.
    pub files: Vec<WeightFile>,
    /// How its tensors are found in the files, where those are its authors' and not diffusers'.
    pub names: Option<Names>,
    /// What is added to its weights.
    pub loras: Vec<Adapter>,
}

/// A file with weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size, or that of the part in it.
    pub bytes: u64,
}

impl Model {
    /// Reads a folder in diffusers' layout, or a file with all networks but the text encoder, as LTX-2 is published.
    ///
    /// # Errors
    /// A folder that is not one, a part or a shard that is missing, JSON that is not what it should be; a file of a layout
    /// that talkie does not know, or without its configuration.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_file() { single::open(path) } else { folder::open(path) }
    }

    /// A released model as the catalogue describes it, before its files are here.
    ///
    /// The sizes of the weights are guesses from the numbers of parameters: two bytes each, but four in the autoencoders of
    /// Wan, whose files hold f32.
    pub fn from_entry(entry: &Entry) -> Self {
        let home = entry.repo().unwrap_or(&entry.name);
        let component = |(name, described): (&String, &Described)| {
            let width = if entry.family == "wan" && name == "vae" { 4 } else { 2 };
            let bytes = width * entry.parameters.of(name);
            let folder = PathBuf::from(format!("{}/{name}", described.repo.as_deref().unwrap_or(home)));
            let file = WeightFile { path: folder.clone(), bytes };
            Component {
                name: name.clone(),
                class: described.class.clone(),
                folder,
                config: Value::Object(described.config.clone()),
                files: if bytes > 0 { vec![file] } else { Vec::new() },
                names: None,
                loras: Vec::new(),
            }
        };
        Self {
            folder: home.into(),
            pipeline: entry.pipeline.clone(),
            index: Value::Object(entry.index.clone()),
            components: entry.components.iter().map(component).collect(),
            notes: Vec::new(),
        }
    }

    /// The catalogue's entry of the model that comes with talkie, where this is that model, wherever its folder lies and
    /// whatever that is called: its `model_index.json` says so, in a field that diffusers passes over.
    ///
    /// # Errors
    /// A catalogue that does not parse, which no released talkie holds.
    pub fn boxed(&self) -> Result<Option<Entry>> {
        let name = self.index.get(boxed::MARK).and_then(Value::as_str);
        let Some(name) = name else { return Ok(None) };
        Ok(catalogue::entries()?.into_iter().find(|entry| entry.is_boxed() && entry.name == name))
    }

    /// What the model is called: the name of its folder or, in the hub's cache, of its repository.
    pub fn name(&self) -> Option<String> {
        let name = |folder: &Path| Some(folder.file_name()?.to_string_lossy().into_owned());
        let snapshots = self.folder.parent().filter(|parent| name(parent).as_deref() == Some("snapshots"));
        let repository = snapshots.and_then(Path::parent).and_then(name);
        let repository = repository.as_deref().and_then(|folder| folder.strip_prefix("models--"));
        repository.map(|repository| repository.replace("--", "/")).or_else(|| name(&self.folder))
    }

    /// A part that the model cannot do without.
    ///
    /// # Errors
    /// It is not there.
    pub fn component(&self, name: &str) -> Result<&Component> {
        self.find(name).ok_or_else(|| {
            if name == "tokenizer" && self.folder.is_dir() && !self.folder.join(folder::INDEX).is_file() {
                return tokenizer::missing(self);
            }
            let hint = if self.folder.is_file() {
                single::WITHOUT_TEXT
            } else {
                "fetch the model again; its `model_index.json` should name this part"
            };
            Error::failed(format!("the model has no `{name}`, in {}", self.folder.display())).hint(hint)
        })
    }

    /// A part that the model may do without.
    pub fn find(&self, name: &str) -> Option<&Component> {
        self.components.iter().find(|component| component.name == name)
    }

    /// Puts a part in the place of the one of its name, or adds it.
    fn set(&mut self, component: Component) {
        self.components.retain(|other| other.name != component.name);
        self.components.push(component);
    }

    /// Reads the header of every file and the statistics of the latents, so that what cannot be used is said before any work.
    ///
    /// # Errors
    /// A file that is missing or damaged, or in a format that talkie does not compute with; statistics that are none.
    pub fn check_files(&self) -> Result<()> {
        let files: BTreeSet<PathBuf> = self.components.iter().flat_map(Component::paths).collect();
        files.into_iter().try_for_each(|path| Weights::open(&[path], &Device::Cpu, DType::F32).map(drop))?;
        self.find("vae").map_or(Ok(()), statistics::check)
    }

    fn take(self, name: &str) -> Option<Component> {
        self.components.into_iter().find(|component| component.name == name)
    }

    /// Puts other weights in the place of a part's: a file in any format and with any names that talkie reads, or a folder
    /// like the part's own.
    ///
    /// # Errors
    /// A part that the model has not, a file that is not there, a folder that is not one, an autoencoder whose latents have
    /// other means and deviations than those that the transformer makes. A file that came without a text
    /// encoder takes a folder of one, with its tokenizer in it or beside it. Where the model has no `tokenizer.json`, that of a
    /// GGUF file takes its place.
    pub fn replace(&mut self, name: &str, with: &Path) -> Result<()> {
        if self.folder.is_file() && name == "text_encoder" && (with.is_dir() || self.find(name).is_none()) {
            for part in single::text_parts(with, self.find("tokenizer"))? {
                self.set(part);
            }
            return Ok(());
        }
        let at = self.components.iter().position(|component| component.name == name);
        let Some(component) = at.map(|at| &mut self.components[at]) else {
            return Err(Error::usage(format!("the model has no `{name}` to replace with {}", with.display()))
                .hint("leave the option out"));
        };
        let own = component.clone();
        if with.is_dir() {
            *component = folder::component(with, name, &component.class)?;
        } else {
            component.files = vec![folder::weight_file(with)?];
            component.names = pieces::names(with, name)?;
        }
        if name == "vae" {
            statistics::compare(&own, component, with)?;
        }
        // The model's own tokenizer file comes first: that of the encoder has no sentinels, and no special tokens but its own.
        let bare = self.find("tokenizer").is_none_or(|tokenizer| !tokenizer::is_in(&tokenizer.folder));
        if name == "text_encoder" && bare && with.is_file() {
            tokenizer::of_file(with)?.into_iter().for_each(|tokenizer| self.set(tokenizer));
        }
        Ok(())
    }
}

impl Component {
    /// Itself, where it is of that class.
    ///
    /// # Errors
    /// Another class.
    pub fn of_class(&self, class: &str) -> Result<&Self> {
        if self.class == class {
            return Ok(self);
        }
        Err(Error::failed(format!(
            "`{}` is a `{}`, where a `{class}` belongs, in {}",
            self.name,
            self.class,
            self.folder.display()
        ))
        .hint("the folder is of a variant that talkie does not run: `talkie models` lists those that it does"))
    }

    /// Bytes of all its weights.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// The paths of its weights.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| file.path.clone()).collect()
    }

    /// Its weights, under the names that diffusers gives them.
    ///
    /// # Errors
    /// As [`Weights::open_as`].
    pub fn weights(&self, device: &Device, dtype: DType) -> Result<Weights> {
        let weights = Weights::open_as(&self.paths(), self.names, device, dtype)?;
        let add = |weights: Weights, lora: &Adapter| Ok(weights.with_lora(&lora.path, lora.strength)?.0);
        self.loras.iter().try_fold(weights, add)
    }

    /// Its configuration as a type of ours.
    ///
    /// # Errors
    /// A field of another type than it should have.
    pub fn config<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.config.clone()).map_err(|cause| {
            Error::failed(format!("the configuration of `{}` does not fit its class `{}`", self.name, self.class))
                .because(cause)
                .hint(format!("compare it with the one of a model that works, in {}", self.folder.display()))
        })
    }
}
