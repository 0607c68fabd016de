//! LoRA files that a user adds to a model.

use candle_core::{DType, Device};

use super::component::{Component, Model};
use crate::error::{Error, Result};
use crate::request::Adapter;

const FITS: &str = "take a LoRA that was made for this model: their names mostly say which";

impl Model {
    /// Adds a LoRA to the transformer. Where a model has two, a file with `high` or `low` in its name is for one of them,
    /// and any other for both.
    ///
    /// # Errors
    /// A file that is damaged, is no LoRA, or fits nothing in this model.
    pub fn adapt(&mut self, lora: &Adapter) -> Result<()> {
        let name = lora.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pair = self.find("transformer_2").is_some();
        let wanted = |part: &Component| if pair { lora.is_for(&part.name) } else { part.name == "transformer" };
        for part in self.components.iter_mut().filter(|part| wanted(part)) {
            // A plan before the model was fetched.
            if part.files.iter().any(|file| !file.path.is_file()) {
                self.notes.push(format!("LoRA {name}: whether it fits the `{}` is seen once that is here", part.name));
                part.loras.push(lora.clone());
                continue;
            }
            if !lora.path.is_file() {
                return Err(Error::failed(format!("cannot open the LoRA {}: no file is there", lora.path.display()))
                    .hint("put it back where it was, or name another with `--lora`"));
            }
            let (_, fit) = part.weights(&Device::Cpu, DType::F32)?.with_lora(&lora.path, lora.strength)?;
            if fit.used == 0 {
                let first = fit.foreign.first().map_or_else(String::new, |first| format!(", such as `{first}`"));
                return Err(Error::failed(format!(
                    "none of the {} tensors of {} belongs to the `{}` of this model{first}",
                    fit.foreign.len(),
                    lora.path.display(),
                    part.name
                ))
                .hint(FITS));
            }
            let left = match fit.foreign.as_slice() {
                [] => "all of them fit".to_owned(),
                [first, ..] => format!("{} fit nothing and are left out, `{first}` first", fit.foreign.len()),
            };
            let (strength, count) = (lora.strength, fit.used + fit.foreign.len());
            self.notes.push(format!("LoRA {name} at {strength}: {count} tensors for the `{}`, {left}", part.name));
            part.loras.push(lora.clone());
        }
        Ok(())
    }
}
