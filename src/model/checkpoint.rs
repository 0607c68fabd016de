//! Reads a single-file checkpoint: all networks of a model except the text encoder, under its authors' tensor
//! names.

mod ltx;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use serde_json::Value;

use super::component::{Component, Model, WeightFile, component, weight_file};
use crate::error::{Error, Result};
use crate::model::catalogue::Described;
use crate::weights::Weights;
use crate::weights::keys::{self, Layout, Names, Place};
use ltx::{Tensors, UPSAMPLER};

/// File extension of checkpoints.
pub(super) const ENDING: &str = ".safetensors";

/// Advice about the text encoder, which no checkpoint has.
pub(super) const WITHOUT_TEXT: &str = "such a file has no text encoder: name a folder of Gemma 3 12B that has its tokenizer, \
    `--text-encoder FOLDER`, or put the folders `text_encoder` and `tokenizer` beside the file";

const RELEASED: &str = "take the file as its authors released it, such as ltx-2.3-22b-dev.safetensors";

/// The classes of the text encoder and of its tokenizer.
const GEMMA: [&str; 2] = ["Gemma3ForConditionalGeneration", "GemmaTokenizerFast"];

pub(super) fn open(path: &Path) -> Result<Model> {
    let (tensors, metadata) = survey(path)?;
    let layout = &keys::LTX;
    if !layout.fits(&|name| tensors.contains_key(name)) {
        return Err(unknown(path, &tensors));
    }
    let sizes = sizes(path, layout, &tensors)?;
    let text = metadata.get("config").ok_or_else(|| {
        let what =
            format!("there is no `config` in the file's metadata, so its shape is not known: {}", path.display());
        Error::failed(what).hint(format!("programs that repack weights drop the metadata: {RELEASED}"))
    })?;
    let damaged = |cause: Error| {
        let what =
            format!("the `config` in the file's metadata describes no {} model: {}", layout.title, path.display());
        Error::failed(what).because(cause).hint(RELEASED)
    };
    let config: Value =
        serde_json::from_str(text).map_err(|cause| damaged(Error::failed("it is not valid JSON").because(cause)))?;
    let (release, parts) = ltx::describe(&config, &tensors).map_err(damaged)?;
    let mut components = Vec::new();
    for (name, Described { class, config, .. }) in parts {
        let bytes = sizes.get(name.as_str()).copied();
        let part = layout.parts.iter().find(|part| part.name == name).zip(bytes);
        let (files, names) = match part {
            Some((part, bytes)) => {
                let file = WeightFile { path: path.to_owned(), bytes };
                (vec![file], Some(Names { layout, part: part.name }))
            }
            None if name == "scheduler" => (Vec::new(), None),
            None => continue,
        };
        components.push(Component {
            name,
            class,
            folder: path.to_owned(),
            config: config.into(),
            files,
            names,
            loras: Vec::new(),
        });
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    components.extend(beside(folder, release)?);
    Ok(Model {
        folder: path.to_owned(),
        pipeline: "LTX2Pipeline".into(),
        index: Value::Null,
        components,
        notes: Vec::new(),
    })
}

/// The tensors of a file, and its metadata.
fn survey(path: &Path) -> Result<(Tensors, std::collections::HashMap<String, String>)> {
    if !path.to_string_lossy().ends_with(ENDING) {
        return Err(Error::usage(format!("no model folder, and no safetensors file, at {}", path.display()))
            .hint("`-m` takes a name from `talkie models`, a folder with `model_index.json`, or a safetensors file"));
    }
    let file = Weights::open(&[path.to_owned()], &Device::Cpu, DType::F32)?;
    let tensors = file.tensors().map(|(name, stored)| (name.clone(), stored.clone())).collect();
    Ok((tensors, file.metadata()))
}

/// Bytes of each part of a file. Every tensor must belong to one.
fn sizes(path: &Path, layout: &'static Layout, tensors: &Tensors) -> Result<BTreeMap<&'static str, u64>> {
    let mut sizes = BTreeMap::new();
    let mut foreign = Vec::new();
    for (name, stored) in tensors {
        match layout.place(name) {
            Place::Of(part, _) => *sizes.entry(part).or_insert(0) += (stored.range.1 - stored.range.0) as u64,
            Place::Unused => {}
            Place::Foreign => foreign.push(name),
        }
    }
    if let Some(first) = foreign.first() {
        let (count, title) = (foreign.len(), layout.title);
        return Err(Error::failed(format!(
            "{count} of the file's tensors belong to no part of {title}, `{first}` first: {}",
            path.display()
        ))
        .hint(RELEASED));
    }
    let missing: Vec<&str> =
        ["transformer", "connectors", "vae"].into_iter().filter(|part| !sizes.contains_key(part)).collect();
    if missing.is_empty() {
        return Ok(sizes);
    }
    Err(Error::failed(format!("the file has no {}: {}", missing.join(" and no "), path.display()))
        .hint(format!("it holds only a part of a model: {RELEASED}")))
}

/// The error for a file of an unknown layout.
fn unknown(path: &Path, tensors: &Tensors) -> Error {
    let path = path.display();
    if tensors.keys().any(|name| name.ends_with("blocks.0.self_attn.q.weight")) {
        return Error::failed(format!("this is a transformer of Wan without its other parts: {path}")).hint(
            "name the folder that has its text encoder and its autoencoder too, or put it over a model: `-m wan2.1-t2v-1.3b \
             --transformer FILE`",
        );
    }
    let first = tensors.keys().next().map_or_else(|| "no tensor".to_owned(), |name| format!("`{name}`"));
    Error::failed(format!("no model that talkie knows is in this file, which begins with {first}: {path}"))
        .hint("name the folder that has `model_index.json`, or a file of LTX-2 as its authors released it")
}

/// The other parts, from beside a checkpoint: the folders of Lightricks' repositories, and the upsampler of
/// the release.
fn beside(folder: &Path, release: &str) -> Result<Vec<Component>> {
    let mut found = Vec::new();
    let named = [("text_encoder", GEMMA[0]), ("tokenizer", GEMMA[1]), (UPSAMPLER, ltx::UPSAMPLER_CLASS)];
    for (name, class) in named {
        let own = folder.join(name);
        if own.is_dir() {
            found.push(component(&own, name, class)?);
        }
    }
    if found.iter().all(|part| part.name != UPSAMPLER) {
        found.extend(upsampler(folder, release)?);
    }
    Ok(found)
}

/// The latest upsampler of a release in a folder, by its released name, such as
/// `ltx-2.3-spatial-upscaler-x2-1.1.safetensors`.
fn upsampler(folder: &Path, release: &str) -> Result<Option<Component>> {
    let start = format!("{release}-spatial-upscaler-x2");
    let is_one = |path: &PathBuf| {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        name.starts_with(&start) && name.ends_with(ENDING)
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let Some(path) = entries.filter(is_one).max() else { return Ok(None) };
    let (_, metadata) = survey(&path)?;
    let config = metadata.get("config").map(|text| serde_json::from_str(text)).transpose().map_err(|cause| {
        Error::failed(format!("the `config` in the file's metadata is not valid JSON: {}", path.display()))
            .because(cause)
            .hint("take the file as its authors released it, or remove it: the film is made in one stage then")
    })?;
    let Described { class, config, .. } = ltx::upsampler(release, &config.unwrap_or(Value::Null))?;
    let files = vec![weight_file(&path)?];
    Ok(Some(Component {
        name: UPSAMPLER.into(),
        class,
        folder: path,
        config: config.into(),
        files,
        names: None,
        loras: Vec::new(),
    }))
}

/// A text encoder from a folder, and its tokenizer: from that folder, `tokenizer` in it or beside it, or the
/// previous one.
pub(super) fn text_parts(with: &Path, tokenizer: Option<&Component>) -> Result<[Component; 2]> {
    if !with.is_dir() {
        return Err(Error::usage(format!("no folder of a text encoder at {}", with.display())).hint(WITHOUT_TEXT));
    }
    let inner = with.join("text_encoder");
    let own = if inner.is_dir() { &inner } else { with };
    let encoder = component(own, "text_encoder", GEMMA[0])?;
    let mut places = vec![own.to_owned(), own.join("tokenizer")];
    places.extend(own.parent().map(|parent| parent.join("tokenizer")));
    let tokenizer = match places.into_iter().find(|place| place.join("tokenizer.json").is_file()) {
        Some(place) => component(&place, "tokenizer", GEMMA[1])?,
        None => tokenizer.cloned().ok_or_else(|| {
            let what =
                "the text encoder came without its tokenizer: no `tokenizer.json` there, nor in a folder `tokenizer`";
            Error::failed(format!("{what} in it or beside it: {}", own.display()))
                .hint("copy the `tokenizer.json` of the same Gemma 3 into that folder")
        })?,
    };
    Ok([encoder, tokenizer])
}
