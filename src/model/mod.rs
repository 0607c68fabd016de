//! A model on disk: what the folder that diffusers writes, or a file of its authors, holds, before any weight is read.

pub mod bundled;
pub mod catalogue;
mod checkpoint;
mod component;
mod folder;
mod licence;
mod loose;
mod lora;
mod source;
pub(crate) mod statistics;
mod tokenizer;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::weights::Weights;
use catalogue::Entry;
pub use component::{Component, Model, PlannedFile, WeightFile};
pub use source::{Repository, Source};

impl Model {
    /// Reads a folder in diffusers' layout, or a file with all networks but the text encoder, as LTX-2 is published.
    ///
    /// # Errors
    /// A folder that is not one, a part or a shard that is missing, JSON that is not what it should be; a file of a layout
    /// that talkie does not know, or without its configuration.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_file() { checkpoint::open(path) } else { folder::open(path) }
    }

    /// The catalogue's entry of the model that comes with talkie, where this is that model, wherever its folder lies and
    /// whatever that is called: its `model_index.json` says so, in a field that diffusers passes over.
    ///
    /// # Errors
    /// A catalogue that does not parse, which no released talkie holds.
    pub fn boxed(&self) -> Result<Option<Entry>> {
        let name = self.index.get(bundled::MARK).and_then(Value::as_str);
        let Some(name) = name else { return Ok(None) };
        Ok(catalogue::entries()?.into_iter().find(|entry| entry.is_boxed() && entry.name == name))
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
                checkpoint::WITHOUT_TEXT
            } else {
                "fetch the model again; its `model_index.json` should name this part"
            };
            Error::failed(format!("the model has no `{name}`, in {}", self.folder.display())).hint(hint)
        })
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
            for part in checkpoint::text_parts(with, self.find("tokenizer"))? {
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
            *component = component::component(with, name, &component.class)?;
        } else {
            component.files = vec![component::weight_file(with)?];
            component.names = loose::names(with, name)?;
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
