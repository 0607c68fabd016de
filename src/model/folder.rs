//! Reads a model folder as diffusers' `save_pretrained` writes it.

use std::path::{Component as PathPart, Path};

use serde_json::Value;

use super::component::{FETCH, Model, component};
use crate::error::{Error, Result};
use crate::files::read_json;

/// The file that names the components of a model folder.
pub(super) const INDEX: &str = "model_index.json";

/// Components in an index that making a film does not need.
const UNUSED: [&str; 3] = ["processor", "prompt_enhancer", "duration_head"];

/// Optional components: a model without them makes silent films.
const OPTIONAL: [&str; 2] = ["audio_vae", "vocoder"];

/// The component that upsamples latents between two phases.
const UPSAMPLER: &str = "latent_upsampler";

pub(super) fn open(folder: &Path) -> Result<Model> {
    if !folder.is_dir() {
        let what = if folder.to_string_lossy().ends_with(super::checkpoint::ENDING) { "file" } else { "folder" };
        return Err(Error::usage(format!("no model {what} at {}", folder.display()))
            .hint("`talkie models` lists the models that can be fetched by name"));
    }
    let path = folder.join(INDEX);
    if !path.is_file() {
        if let Some(model) = super::loose::open(folder)? {
            return Ok(model);
        }
        return Err(Error::failed(format!("no `model_index.json` in {}", folder.display())).hint(
            "talkie reads folders in diffusers' layout, as those of Wan and LTX-2 whose names end in `-Diffusers`, and folders with \
             separate files for Wan's transformer, text encoder and autoencoder; `talkie models` lists repositories",
        ));
    }
    let index = read_json(&path)?;
    let entries = index
        .as_object()
        .ok_or_else(|| Error::failed(format!("{} is not a JSON object", path.display())).hint(FETCH))?;
    let pipeline = entries.get("_class_name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut components = entries
        .iter()
        .filter_map(|(name, entry)| Some((name.as_str(), entry.as_array()?.get(1)?.as_str()?)))
        .filter(|(name, _)| !UNUSED.contains(name) && (!OPTIONAL.contains(name) || folder.join(name).is_dir()))
        .map(|(name, class)| component(&subfolder(folder, name)?, name, class))
        .collect::<Result<Vec<_>>>()?;
    // No pipeline of diffusers lists it in its index.
    if folder.join(UPSAMPLER).is_dir() && components.iter().all(|part| part.name != UPSAMPLER) {
        components.push(component(&folder.join(UPSAMPLER), UPSAMPLER, "LTX2LatentUpsamplerModel")?);
    }
    Ok(Model { folder: folder.to_owned(), pipeline, index, components, notes: Vec::new() })
}

/// A component's folder. Its name comes from a file, and must not lead out of the model folder.
fn subfolder(folder: &Path, name: &str) -> Result<std::path::PathBuf> {
    let parts: Vec<_> = Path::new(name).components().collect();
    match parts.as_slice() {
        [PathPart::Normal(_)] => Ok(folder.join(name)),
        _ => Err(Error::failed(format!("`model_index.json` names a component `{name}`, in {}", folder.display()))
            .hint("a component is a folder beside it: this file is damaged, or is not to be trusted")),
    }
}
