//! A folder of pieces: Wan's networks in files of their own, as its authors, ComfyUI and others pass them on. Each file is
//! recognised by what is in it.

mod config;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use serde_json::{Map, Value, json};

use super::component::{Component, Model, WeightFile, weight_file};
use super::tokenizer;
use crate::error::{Error, Result};
use crate::model::catalogue::{self, Entry};
use crate::request::Expert;
use crate::weights::Weights;
use crate::weights::keys::{self, Names, Place};

/// How the names of files of weights end.
pub(super) const ENDINGS: [&str; 4] = [".safetensors", ".gguf", ".pth", ".pt"];

/// What a folder may hold before it is taken for something else.
const MOST: usize = 4096;

const NAME_THEM: &str = "name each piece: `-m BASE --transformer FILE --text-encoder FILE --vae FILE`";

/// The files of one network, and what they are.
struct Piece {
    paths: Vec<PathBuf>,
    names: Names,
    shapes: BTreeMap<String, Vec<usize>>,
}

/// The model of a folder that holds a transformer, a text encoder and an autoencoder. None of any other folder.
///
/// # Errors
/// A file that is damaged, a piece that is missing or there twice, pieces of different models.
pub(super) fn open(folder: &Path) -> Result<Option<Model>> {
    let mut parts: BTreeMap<&str, Vec<Piece>> = BTreeMap::new();
    for paths in networks(folder)? {
        if let Some(piece) = Piece::read(paths)? {
            parts.entry(piece.names.part).or_default().push(piece);
        }
    }
    let Some(transformers) = parts.remove("transformer") else { return Ok(None) };
    let experts = experts(transformers)?;
    let mut one = |part: &str| {
        let found = parts.remove(part).unwrap_or_default();
        <[Piece; 1]>::try_from(found).map(|[piece]| piece).map_err(|found| amount(folder, part, &found))
    };
    let (vae, text) = (one("vae")?, one("text_encoder")?);
    let shapes = experts.iter().map(|piece| config::transformer(piece, folder)).collect::<Result<Vec<_>>>()?;
    let entry = catalogue::find(likeness(&shapes[0], shapes.len()))?;
    let mut components = vec![
        scheduler(folder, &entry),
        text.component("text_encoder", "UMT5EncoderModel", config::text(&text)?)?,
        vae.component("vae", "AutoencoderKLWan", config::vae(&vae)?)?,
    ];
    for (name, (piece, shape)) in ["transformer", "transformer_2"].into_iter().zip(experts.iter().zip(shapes)) {
        components.push(piece.component(name, "WanTransformer3DModel", shape)?);
    }
    components.extend(tokenizer::find(folder, &text.paths)?);
    let pipeline = entry.pipeline.clone();
    Ok(Some(Model {
        folder: folder.to_owned(),
        pipeline,
        index: Value::Object(entry.index),
        components,
        notes: Vec::new(),
    }))
}

/// How the tensors of a file are named that holds one part of a model; none where the layout is not known: then they are taken
/// for diffusers' own.
///
/// # Errors
/// A file of another part, or with tensors that belong to no part.
pub(super) fn names(path: &Path, part: &str) -> Result<Option<Names>> {
    let file = Weights::open(&[path.to_owned()], &Device::Cpu, DType::F32)?;
    let Some(layout) = keys::recognise(&|name| file.contains(name)) else { return Ok(None) };
    match layout.parts.iter().find(|other| part.starts_with(other.name)) {
        Some(found) => check(Names { layout, part: found.name }, &file, path).map(Some),
        None => Err(Error::failed(format!(
            "this file holds the `{}` of a model ({}), not its `{part}`: {}",
            layout.parts[0].name,
            layout.title,
            path.display()
        ))
        .hint("give each file to the option of its own part")),
    }
}

impl Component {
    /// The part of that name in a file of its own. None where it is not recognised, or holds more than one.
    ///
    /// # Errors
    /// A file that is damaged, or of another part.
    pub fn of_file(path: &Path, part: &str) -> Result<Option<Self>> {
        let Some(names) = names(path, part)? else { return Ok(None) };
        let class = match names.layout.parts {
            [one] if one.name == "transformer" => "WanTransformer3DModel",
            [one] if one.name == "text_encoder" && names.layout.title.contains("UMT5") => "UMT5EncoderModel",
            [one] if one.name == "vae" => "AutoencoderKLWan",
            _ if *names.layout == keys::LTX_ALONE && part == "transformer" => "LTX2VideoTransformer3DModel",
            _ => return Ok(None),
        };
        let piece = Piece { paths: vec![path.to_owned()], names, shapes: BTreeMap::new() };
        piece.component(part, class, Map::new()).map(Some)
    }
}

/// Refuses a file in which something has no place in its layout.
fn check(names: Names, file: &Weights, path: &Path) -> Result<Names> {
    match file.tensors().find(|(name, _)| names.layout.place(name) == Place::Foreign) {
        None => Ok(names),
        Some((name, _)) => {
            Err(Error::failed(format!("`{name}` belongs to no part of {}, in {}", names.layout.title, path.display()))
                .hint("the file is of a variant that talkie does not run: `talkie models` lists those that it does"))
        }
    }
}

impl Piece {
    fn read(paths: Vec<PathBuf>) -> Result<Option<Self>> {
        let files = Weights::open(&paths, &Device::Cpu, DType::F32)?;
        let Some(layout) = keys::recognise(&|name| files.contains(name)) else { return Ok(None) };
        let [part] = layout.parts else { return Ok(None) };
        let names = check(Names { layout, part: part.name }, &files, &paths[0])?;
        let shapes = files.shapes().filter_map(|(name, shape)| Some((names.of(&name)?, shape))).collect();
        Ok(Some(Self { paths, names, shapes }))
    }

    fn component(&self, name: &str, class: &str, config: Map<String, Value>) -> Result<Component> {
        let files = self.paths.iter().map(|path| weight_file(path)).collect::<Result<Vec<WeightFile>>>()?;
        Ok(Component {
            name: name.into(),
            class: class.into(),
            folder: self.paths[0].clone(),
            config: Value::Object(config),
            files,
            names: Some(self.names),
            loras: Vec::new(),
        })
    }

    /// One side of a tensor.
    fn side(&self, name: &str, side: usize) -> Result<usize> {
        self.shapes.get(name).and_then(|shape| shape.get(side)).copied().ok_or_else(|| {
            Error::failed(format!("`{name}` is missing from {}", self.paths[0].display()))
                .hint("the file is incomplete: fetch it again")
        })
    }

    /// How many different numbers follow `before` in the names of tensors.
    fn count(&self, before: &str) -> usize {
        let number = |name: &String| name.strip_prefix(before)?.split('.').next()?.parse::<usize>().ok();
        self.shapes.keys().filter_map(number).collect::<std::collections::BTreeSet<_>>().len()
    }
}

/// The files of weights in a folder and in the folders in it, those of one network together.
fn networks(folder: &Path) -> Result<Vec<Vec<PathBuf>>> {
    let mut files = Vec::new();
    walk(folder, 2, &mut files);
    if files.len() > MOST {
        return Err(Error::usage(format!("over {MOST} files are in {}", folder.display())).hint(NAME_THEM));
    }
    let mut networks: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            networks.entry(file.with_file_name(whole_name(&name))).or_default().push(file);
        }
    }
    networks.values_mut().for_each(|files| files.sort());
    Ok(networks.into_values().collect())
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true if depth > 0 && files.len() <= MOST => walk(&path, depth - 1, files),
            true => {}
            false => files.push(path),
        }
    }
}

/// The name of a file without the number of the shard: `model-00001-of-00002.safetensors` is one of `model.safetensors`.
fn whole_name(name: &str) -> String {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let shard = name.split_once("-of-").and_then(|(before, after)| {
        let (stem, of) = (before.rsplit_once('-')?, after.split_once('.')?);
        (number(stem.1) && number(of.0)).then(|| format!("{}.{}", stem.0, of.1))
    });
    shard.unwrap_or_else(|| name.to_owned())
}

/// One transformer, or the two experts of Wan 2.2, that for high noise first. Only the name of a file, or of its folder, says
/// which is which.
fn experts(mut found: Vec<Piece>) -> Result<Vec<Piece>> {
    let named = |piece: &Piece| {
        let file = &piece.paths[0];
        Expert::named(file).or_else(|| file.parent().and_then(Expert::named))
    };
    found.sort_by_key(|piece| named(piece) == Some(Expert::Low));
    match found.as_slice() {
        [_] => Ok(found),
        [high, low] if (named(high), named(low)) == (Some(Expert::High), Some(Expert::Low)) => Ok(found),
        [first, second, ..] => {
            let (first, second) = (first.paths[0].display(), second.paths[0].display());
            Err(Error::usage(format!("{first} and {second} are both transformers")).hint(format!(
                "talkie takes a pair for the two experts of Wan 2.2 where the word `high` is in the name of one and `low` in that of \
                 the other; else {NAME_THEM}"
            )))
        }
        [] => Err(Error::failed("there is no transformer")),
    }
}

fn amount(folder: &Path, part: &str, found: &[Piece]) -> Error {
    match found {
        [first, second, ..] => {
            let (first, second) = (first.paths[0].display(), second.paths[0].display());
            Error::usage(format!("{first} and {second} are both a {part}")).hint(NAME_THEM)
        }
        _ => Error::failed(format!("no file in {} is a {part} of Wan", folder.display()))
            .hint(format!("put one there, or {NAME_THEM}")),
    }
}

/// The released model whose pipeline, schedule and sampling such transformers have.
fn likeness(transformer: &Map<String, Value>, experts: usize) -> &'static str {
    let of = |name: &str| transformer.get(name).and_then(Value::as_u64).unwrap_or_default();
    match (of("in_channels") != of("out_channels"), experts, of("in_channels")) {
        (true, ..) => "wan2.2-i2v-a14b",
        (false, 2, _) => "wan2.2-t2v-a14b",
        (false, _, 48) => "wan2.2-ti2v-5b",
        _ if of("num_layers") >= 40 => "wan2.1-t2v-14b",
        _ => "wan2.1-t2v-1.3b",
    }
}

fn scheduler(folder: &Path, entry: &Entry) -> Component {
    let described = entry.components.get("scheduler");
    let mut config = described.map(|described| described.config.clone()).unwrap_or_default();
    config.insert("flow_shift".into(), json!(entry.sampling.flow_shift));
    Component {
        name: "scheduler".into(),
        class: described.map(|described| described.class.clone()).unwrap_or_default(),
        folder: folder.to_owned(),
        config: Value::Object(config),
        files: Vec::new(),
        names: None,
        loras: Vec::new(),
    }
}
