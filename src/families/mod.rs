//! The families of models, and the registry: a row for each.

mod check;
pub mod conditioning;
pub mod family;
pub mod latents;
pub mod ltx;
pub mod shelf;
pub mod text;
pub mod vae;
pub mod wan;

use crate::error::{Error, Result};
use crate::model::catalogue::Entry;
use crate::model::{Model, PlannedFile, Source};
use crate::plan::check_weights;
use crate::progress::Progress;
use crate::request::ModelChoice;
use family::Family;

/// A family that talkie runs.
struct Row {
    /// Whether a model is of the family.
    knows: fn(&Model) -> bool,
    /// Opens a model of the family. The entry is the catalogue's, where the model was asked for by name.
    open: fn(Model, Option<Entry>) -> Result<Box<dyn Family>>,
}

/// Every family. A new one is a folder beside this file, and a row.
const FAMILIES: [Row; 2] = [
    Row { knows: wan::Wan::knows, open: |model, entry| Ok(Box::new(wan::Wan::open(model, entry)?)) },
    Row { knows: ltx::Ltx::knows, open: |model, entry| Ok(Box::new(ltx::Ltx::open(model, entry.as_ref())?)) },
];

/// A model that is here, and the family that runs it.
pub struct Opened {
    /// The model as it was found, without what the user puts in the place of its parts.
    base: Model,
    source: Source,
    /// The model with the user's parts and LoRAs.
    pub model: Model,
    /// What runs it.
    pub family: Box<dyn Family>,
}

impl Opened {
    /// Opens the model of a choice. Files that are missing are fetched first.
    ///
    /// # Errors
    /// A model that is unknown, incomplete, or of a family that talkie does not run.
    pub fn open(choice: &ModelChoice, home: Option<&std::path::Path>, progress: &mut Progress<'_>) -> Result<Self> {
        let source = Source::of_choice(choice.model.as_deref())?;
        Self::of(source.fetch(home, progress)?, source, choice)
    }

    /// The model of a choice as far as it is known without a download, and the files that are missing.
    ///
    /// # Errors
    /// As [`Opened::open`].
    pub fn look(choice: &ModelChoice) -> Result<(Self, Vec<PlannedFile>)> {
        let source = Source::of_choice(choice.model.as_deref())?;
        let (model, missing) = source.look()?;
        Ok((Self::of(model, source, choice)?, missing))
    }

    /// The same model with other parts and LoRAs.
    ///
    /// # Errors
    /// A file that does not fit the model.
    pub fn with(&self, choice: &ModelChoice) -> Result<Self> {
        Self::of(self.base.clone(), self.source.clone(), choice)
    }

    /// Refuses a preset that is for other weights than these. That is known before anything is fetched.
    ///
    /// # Errors
    /// A preset of the catalogue that no part or LoRA of the choice is for.
    pub fn check_preset(choice: &ModelChoice, preset: Option<&str>) -> Result<()> {
        let source = Source::of_choice(choice.model.as_deref())?;
        source.entry().map_or(Ok(()), |entry| check_weights(entry, choice, preset))
    }

    fn of(base: Model, source: Source, choice: &ModelChoice) -> Result<Self> {
        let mut model = base.clone();
        let replaced = [
            ("transformer", &choice.transformer),
            ("transformer_2", &choice.transformer_2),
            ("text_encoder", &choice.text_encoder),
            ("vae", &choice.vae),
        ];
        for (name, with) in replaced {
            if let Some(with) = with {
                model.replace(name, with)?;
            }
        }
        for lora in &choice.loras {
            model.adapt(lora)?;
        }
        // Named or as a folder, the model in the box is the same.
        let entry = source.entry().cloned().map_or_else(|| model.boxed(), |entry| Ok(Some(entry)))?;
        let Some(row) = FAMILIES.iter().find(|row| (row.knows)(&model)) else {
            let (class, folder) = (&model.pipeline, model.folder.display());
            return Err(Error::failed(format!("`{class}` is a family that talkie does not run, in {folder}"))
                .hint("`talkie models` lists the models that it does"));
        };
        let family = (row.open)(model.clone(), entry)?;
        Ok(Self { base, source, model, family })
    }
}
