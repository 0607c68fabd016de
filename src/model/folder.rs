//! Reading the folder that diffusers' `save_pretrained` writes.

use std::collections::BTreeSet;
use std::path::{Component as PathPart, Path};

use serde_json::Value;

use super::{Component, Model, WeightFile};
use crate::error::{Context, Error, Result};

/// The most that a configuration may weigh. Real ones weigh a few kilobytes, an index of shards under one megabyte.
const JSON_LIMIT: u64 = 16 << 20;

const FETCH: &str = "fetch the model again: `talkie models pull NAME`";

/// What names the parts of a model in such a folder.
pub(super) const INDEX: &str = "model_index.json";

/// Names of the weights of a part, the way diffusers and transformers write them.
const WEIGHTS: [&str; 2] = ["diffusion_pytorch_model.safetensors", "model.safetensors"];

/// Parts that are named in an index and have no use in making a film.
const UNUSED: [&str; 3] = ["processor", "prompt_enhancer", "duration_head"];

/// Parts that may be missing: a model without them makes silent films.
const OPTIONAL: [&str; 2] = ["audio_vae", "vocoder"];

/// The part that enlarges latents between two stages.
const UPSAMPLER: &str = "latent_upsampler";

pub(super) fn open(folder: &Path) -> Result<Model> {
    if !folder.is_dir() {
        let what = if folder.to_string_lossy().ends_with(super::single::ENDING) { "file" } else { "folder" };
        return Err(Error::usage(format!("no model {what} at {}", folder.display()))
            .hint("`talkie models` lists the models that can be fetched by name"));
    }
    let path = folder.join(INDEX);
    if !path.is_file() {
        if let Some(model) = super::pieces::open(folder)? {
            return Ok(model);
        }
        return Err(Error::failed(format!("no `model_index.json` in {}", folder.display())).hint(
            "talkie reads folders in diffusers' layout, as those of Wan and LTX-2 whose names end in `-Diffusers`, and folders with \
             Wan's transformer, text encoder and autoencoder in files of their own; `talkie models` lists repositories",
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
    // No pipeline of diffusers names it: it is loaded by itself.
    if folder.join(UPSAMPLER).is_dir() && components.iter().all(|part| part.name != UPSAMPLER) {
        components.push(component(&folder.join(UPSAMPLER), UPSAMPLER, "LTX2LatentUpsamplerModel")?);
    }
    Ok(Model { folder: folder.to_owned(), pipeline, index, components, notes: Vec::new() })
}

/// A part's own folder. Its name comes from a file, and must not lead out of the model.
fn subfolder(folder: &Path, name: &str) -> Result<std::path::PathBuf> {
    let parts: Vec<_> = Path::new(name).components().collect();
    match parts.as_slice() {
        [PathPart::Normal(_)] => Ok(folder.join(name)),
        _ => Err(Error::failed(format!("`model_index.json` names a part `{name}`, in {}", folder.display()))
            .hint("a part is a folder beside it: this file is damaged, or is not to be trusted")),
    }
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

/// The one file, or all the shards that the index names.
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

/// Reads a JSON file of bounded size.
///
/// # Errors
/// A file that is missing, too large to be a configuration, or not JSON.
pub fn read_json(path: &Path) -> Result<Value> {
    let size = std::fs::metadata(path).context(|| format!("cannot open {}", path.display()))?.len();
    if size > JSON_LIMIT {
        return Err(Error::failed(format!("{size} bytes are too many for a configuration: {}", path.display()))
            .hint("fetch the file again"));
    }
    let text = std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()));
    let text = text.map_err(|error| error.hint("fetch the file again"))?;
    // Python writes infinity in a way that is not JSON: in the settings of DPM-Solver, where it means none.
    serde_json::from_str(&text.replace("-Infinity", "null")).map_err(|cause| {
        Error::failed(format!("{} is not valid JSON", path.display())).because(cause).hint("fetch the file again")
    })
}
