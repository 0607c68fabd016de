//! A model on disk as data: its components, their configurations and weight files.

use std::collections::BTreeSet;
use std::path::{Component as PathPart, Path, PathBuf};

use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::catalogue::{Described, Entry};
use crate::error::{Error, Result};
use crate::files::read_json;
use crate::request::Adapter;
use crate::weights::Weights;
use crate::weights::keys::Names;

pub(super) const FETCH: &str = "fetch the model again: `talkie models pull NAME`";

/// Names of a component's weight file, as diffusers and transformers write them.
const WEIGHTS: [&str; 2] = ["diffusion_pytorch_model.safetensors", "model.safetensors"];

/// A model's components and their locations.
#[derive(Debug, Clone)]
pub struct Model {
    /// The folder, or the checkpoint file.
    pub folder: PathBuf,
    /// Its pipeline class in diffusers, such as `WanPipeline`.
    pub pipeline: String,
    /// `model_index.json` unchanged, with `boundary_ratio` and `expand_timesteps`.
    pub index: Value,
    /// The components.
    pub components: Vec<Component>,
    /// Notes about files that the user added to it, in sentences.
    pub notes: Vec<String>,
}

/// One component of a model: a network, the tokenizer or the scheduler.
#[derive(Debug, Clone)]
pub struct Component {
    /// Its name in the folder, such as `transformer_2`.
    pub name: String,
    /// Its class, such as `WanTransformer3DModel`.
    pub class: String,
    /// Its folder, or the checkpoint file that contains it.
    pub folder: PathBuf,
    /// Its configuration: `config.json`, or `scheduler_config.json`; null for a tokenizer.
    pub config: Value,
    /// Its weight files: one, or all shards. Empty for a tokenizer or a scheduler.
    pub files: Vec<WeightFile>,
    /// Layout of its tensor names, if they are its authors' and not diffusers'.
    pub names: Option<Names>,
    /// LoRAs that are added to its weights.
    pub loras: Vec<Adapter>,
}

/// A weight file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightFile {
    /// Path.
    pub path: PathBuf,
    /// Size in bytes, or that of the component's part in it.
    pub bytes: u64,
}

impl Model {
    /// A released model as the catalogue describes it, before its files are here.
    ///
    /// The sizes of the weights are estimates: two bytes per parameter, and four in Wan's autoencoders, whose
    /// files hold f32.
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

    /// The model's name: that of its folder or, in the hub's cache, of its repository.
    pub fn name(&self) -> Option<String> {
        let name = |folder: &Path| Some(folder.file_name()?.to_string_lossy().into_owned());
        let snapshots = self.folder.parent().filter(|parent| name(parent).as_deref() == Some("snapshots"));
        let repository = snapshots.and_then(Path::parent).and_then(name);
        let repository = repository.as_deref().and_then(|folder| folder.strip_prefix("models--"));
        repository.map(|repository| repository.replace("--", "/")).or_else(|| name(&self.folder))
    }

    /// An optional component.
    pub fn find(&self, name: &str) -> Option<&Component> {
        self.components.iter().find(|component| component.name == name)
    }

    /// Replaces the component of the same name, or adds it.
    pub(super) fn set(&mut self, component: Component) {
        self.components.retain(|other| other.name != component.name);
        self.components.push(component);
    }

    pub(super) fn take(self, name: &str) -> Option<Component> {
        self.components.into_iter().find(|component| component.name == name)
    }
}

impl Component {
    /// The component, checked to be of a class.
    ///
    /// # Errors
    /// Another class.
    pub fn of_class(&self, class: &str) -> Result<&Self> {
        if self.class == class {
            return Ok(self);
        }
        Err(Error::failed(format!(
            "`{}` must be a `{class}`, not a `{}`, in {}",
            self.name,
            self.class,
            self.folder.display()
        ))
        .hint("talkie does not run this variant: `talkie models` lists those that it runs"))
    }

    /// Bytes of all its weight files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// The paths of its weight files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| file.path.clone()).collect()
    }

    /// Its weights with its LoRAs, under the names that diffusers gives them.
    ///
    /// # Errors
    /// As [`Weights::open_as`].
    pub fn weights(&self, device: &Device, dtype: DType) -> Result<Weights> {
        self.with_loras(self.bare_weights(device, dtype)?)
    }

    /// Its weights without LoRAs.
    ///
    /// # Errors
    /// As [`Weights::open_as`].
    pub fn bare_weights(&self, device: &Device, dtype: DType) -> Result<Weights> {
        Weights::open_as(&self.paths(), self.names, device, dtype)
    }

    /// Whether LoRAs may be added to it.
    pub fn takes_loras(&self) -> bool {
        self.name.starts_with("transformer")
    }

    /// Weights of its own with its LoRAs.
    ///
    /// # Errors
    /// A LoRA that is damaged, or is for another network.
    pub fn with_loras(&self, weights: Weights) -> Result<Weights> {
        let add = |weights: Weights, lora: &Adapter| Ok(weights.with_lora(&lora.path, lora.strength)?.0);
        self.loras.iter().try_fold(weights, add)
    }

    /// Parses its configuration.
    ///
    /// # Errors
    /// A field of the wrong type.
    pub fn config<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.config.clone()).map_err(|cause| {
            Error::failed(format!("the configuration of `{}` does not fit its class `{}`", self.name, self.class))
                .because(cause)
                .hint(format!("compare it with the one of a model that works, in {}", self.folder.display()))
        })
    }
}

/// A file that the run reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// The component that it belongs to.
    pub component: String,
    /// Path, or its name in the repository if it is not here yet.
    pub path: PathBuf,
    /// Size in bytes, if known.
    pub bytes: Option<u64>,
    /// Whether it is on this machine.
    pub present: bool,
}

pub(super) fn component(folder: &Path, name: &str, class: &str) -> Result<Component> {
    if !folder.is_dir() {
        return Err(
            Error::failed(format!("the model's `{name}` is missing: no folder {}", folder.display())).hint(FETCH)
        );
    }
    let config =
        ["config.json", "scheduler_config.json"].map(|file| folder.join(file)).into_iter().find(|p| p.is_file());
    let config = config.map(|path| read_json(&path)).transpose()?.unwrap_or(Value::Null);
    let files = weight_files(folder)?;
    let network = !(name.starts_with("tokenizer") || name.starts_with("scheduler"));
    if network && files.is_empty() {
        return Err(Error::failed(format!(
            "the model's `{name}` has no weights: no safetensors file in {}",
            folder.display()
        ))
        .hint(FETCH));
    }
    if network && config.is_null() {
        return Err(
            Error::failed(format!("the model's `{name}` has no `config.json`, in {}", folder.display())).hint(FETCH)
        );
    }
    Ok(Component {
        name: name.into(),
        class: class.into(),
        folder: folder.to_owned(),
        config,
        files,
        names: None,
        loras: Vec::new(),
    })
}

/// The weight file, or all shards of the index.
fn weight_files(folder: &Path) -> Result<Vec<WeightFile>> {
    for name in WEIGHTS {
        let index = folder.join(format!("{name}.index.json"));
        if index.is_file() {
            return shards(folder, &index);
        }
        let single = folder.join(name);
        if single.exists() {
            return Ok(vec![weight_file(&single)?]);
        }
    }
    Ok(Vec::new())
}

fn shards(folder: &Path, index: &Path) -> Result<Vec<WeightFile>> {
    let json = read_json(index)?;
    let map = json.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| Error::failed(format!("no `weight_map` in {}", index.display())).hint(FETCH))?;
    let names: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    let plain =
        |name: &str| matches!(Path::new(name).components().collect::<Vec<_>>().as_slice(), [PathPart::Normal(_)]);
    if let Some(odd) = names.iter().find(|name| !plain(name)) {
        return Err(Error::failed(format!(
            "the index names a shard `{odd}`, which is not a plain file name, in {}",
            index.display()
        ))
        .hint("shards lie beside it: this file is damaged, or is not to be trusted"));
    }
    names.into_iter().map(|name| weight_file(&folder.join(name))).collect()
}

pub(super) fn weight_file(path: &Path) -> Result<WeightFile> {
    let metadata = std::fs::metadata(path).map_err(|cause| {
        Error::failed(format!("the weights {} are missing", path.display())).because(cause).hint(FETCH)
    })?;
    if !metadata.is_file() {
        return Err(Error::failed(format!("the weights are not a file: {}", path.display()))
            .hint("name a safetensors file, or a folder like the model's own"));
    }
    Ok(WeightFile { path: path.to_owned(), bytes: metadata.len() })
}
