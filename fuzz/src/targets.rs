//! What strangers' bytes are given to: one function for every parser of foreign files. None of them may
//! panic, whatever the bytes.
//!
//! The targets of `fuzz_targets/` call them with libFuzzer's bytes, `tests/weights/fuzzed.rs` with a few
//! hundred damaged files.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use serde_json::{Value, json};
use talkie::families::latents::load_latents;
use talkie::families::text::clean::clean;
use talkie::families::text::tokenize::{Tokenizer, Vocabulary};
use talkie::hub::RemoteFile;
use talkie::media::read_image;
use talkie::model::catalogue::Entry;
use talkie::model::{Component, Model};
use talkie::pipeline::{recipe, run::Run};
use talkie::request::{self, PromptFile, Request, Size};
use talkie::sampling::schedule::{Sampler, SchedulerConfig};
use talkie::weights::{Header, Weights, bundle, gguf, pth};
use talkie::{Machine, ModelChoice, Session};
use tempfile::TempDir;

use super::quietly;

/// A text with what tokenizers stumble over.
const TEXT: &str = "a red fox, “walking” ½ 猫 \u{0}";

/// The folders of models, and the files in them that a target replaces.
const MODELS: [(&str, &[&str]); 4] = [
    ("wan21-t2v", &["model_index.json", "transformer/config.json", "vae/config.json", "text_encoder/config.json"]),
    ("wan22-a14b", &["scheduler/scheduler_config.json", "transformer/diffusion_pytorch_model.safetensors.index.json"]),
    ("ltx2", &["model_index.json", "transformer/config.json", "vae/config.json", "text_encoder/config.json"]),
    (
        "ltx23",
        &["connectors/config.json", "audio_vae/config.json", "vocoder/config.json", "latent_upsampler/config.json"],
    ),
];

/// A folder for the files of one target and thread.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder to work in"))
    }

    /// Writes a file, in folders that are made for it.
    fn file(&self, name: &str, data: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, data).expect("a file");
        path
    }
}

thread_local!(static SCRATCH: Scratch = Scratch::new());

/// Writes `data` to a file, and has it read.
fn with_file(name: &str, data: &[u8], read: impl FnOnce(&Path)) {
    SCRATCH.with(|scratch| read(&scratch.file(name, data)));
}

/// A file or folder of `tests/fixtures`, from the package of the targets or from the one that is tested.
pub fn fixture(name: &str) -> PathBuf {
    let roots = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("tests/fixtures"));
    roots.into_iter().find(|folder| folder.is_dir()).expect("the fixtures").join(name)
}

/// Reads every tensor of a file that has been let in.
fn read_tensors(path: &Path) {
    let Ok(weights) = Weights::open(&[path.to_owned()], &Device::Cpu, DType::F32) else { return };
    let all: Vec<_> = weights.shapes().collect();
    for (name, shape) in all {
        let _ = weights.f32(&name, shape.clone());
        if let [rows, columns] = shape[..] {
            let _ = weights.matrix(&name, (rows, columns));
        }
    }
}

/// A safetensors file: its header, its tensors, and what talkie keeps in such files itself.
pub fn safetensors(data: &[u8]) {
    let Ok(header) = Header::parse(data) else { return };
    assert!(header.tensors().all(|(_, stored)| stored.range.0 <= stored.range.1));
    with_file("file.safetensors", data, |path| {
        read_tensors(path);
        let _ = (bundle::load(path, &Device::Cpu), bundle::metadata(path), load_latents(path));
    });
}

/// A GGUF file: its header, its tensors in blocks, and the tokenizer of a text encoder.
pub fn gguf(data: &[u8]) {
    let Ok(table) = gguf::parse(data) else { return };
    assert!(table.tensors.values().all(|stored| stored.range.0 <= stored.range.1 && stored.range.1 <= data.len()));
    with_file("file.gguf", data, |path| {
        read_tensors(path);
        quietly(|| encode(Tokenizer::open(path, Vocabulary::T5).ok()));
    });
}

/// A `.pth` file: the ZIP archive, the pickle in it, the tensors.
pub fn pth(data: &[u8]) {
    let Ok(table) = pth::parse(data) else { return };
    assert!(table.tensors.values().all(|stored| stored.range.0 <= stored.range.1 && stored.range.1 <= data.len()));
    with_file("file.pth", data, read_tensors);
}

/// A LoRA, over the transformer of a fixture.
pub fn lora(data: &[u8]) {
    let base = fixture("wan21-t2v/transformer/diffusion_pytorch_model.safetensors");
    with_file("lora.safetensors", data, |path| {
        let base = Weights::open(&[base], &Device::Cpu, DType::F32).expect("the fixture");
        let Ok((weights, fit)) = base.with_lora(path, 0.5) else { return };
        if fit.used > 0 {
            weights.shapes().for_each(|(name, shape)| drop(weights.f32(&name, shape)));
        }
    });
}

/// A file of one part of a model, recognised by its names. The first byte says where it is given.
pub fn piece(data: &[u8]) {
    let Some((&which, data)) = data.split_first() else { return };
    let part = ["transformer", "text_encoder", "vae"][usize::from(which) % 3];
    with_file("loose/piece.safetensors", data, |path| {
        let _ = Component::of_file(path, part).map(|part| part.map(|part| part.weights(&Device::Cpu, DType::F32)));
        let _ = Model::open(path);
        let _ = path.parent().map(Model::open);
    });
}

/// The configuration in the words of a file that holds all of LTX-2, beside the folder of its text encoder.
pub fn checkpoint(data: &[u8]) {
    thread_local!(static PARTS: Checkpoint = Checkpoint::new());
    let Ok(config) = str::from_utf8(data) else { return };
    PARTS.with(|parts| parts.look(config));
}

/// A whole file of LTX-2 but for its configuration, with zeros for numbers.
struct Checkpoint {
    folder: TempDir,
    header: Value,
    bytes: u64,
}

impl Checkpoint {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder to work in");
        for part in ["text_encoder", "tokenizer"] {
            copy(&fixture("ltx2").join(part), &folder.path().join(part));
        }
        let layout = single_file();
        let (mut header, mut bytes) = (json!({}), 0);
        let mut files = std::collections::BTreeMap::new();
        for (name, place) in layout["tensors"].as_object().expect("the tensors") {
            let (part, key) = place.as_str().and_then(|place| place.split_once('/')).expect("a part and a name");
            let read = || fs::read(fixture("ltx2").join(part).join("diffusion_pytorch_model.safetensors")).expect(part);
            let file = files.entry(part).or_insert_with(|| Header::parse(&read()).expect(part));
            let (_, stored) = file.tensors().find(|(name, _)| name == key).expect(key);
            let end = bytes + (stored.range.1 - stored.range.0) as u64;
            let kind = stored.kind.to_string();
            header[name] = json!({"dtype": kind, "shape": stored.shape, "data_offsets": [bytes, end]});
            bytes = end;
        }
        Self { folder, header, bytes }
    }

    fn look(&self, config: &str) {
        let mut header = self.header.clone();
        header["__metadata__"] = json!({"config": config, "model_version": "2.0.0"});
        let header = header.to_string();
        let path = self.folder.path().join("single.safetensors");
        let mut file = fs::File::create(&path).expect("a file");
        file.write_all(&(header.len() as u64).to_le_bytes()).expect("a length");
        file.write_all(header.as_bytes()).expect("a header");
        file.set_len(8 + header.len() as u64 + self.bytes).expect("zeros");
        look(&path);
    }
}

/// Settles what a film of a model would be.
fn look(model: &Path) {
    let choice = ModelChoice { model: Some(model.display().to_string()), ..ModelChoice::default() };
    let request = Request { prompt: "a fox".into(), ..Request::default() };
    if let Ok(plan) = Session::look(&Machine::here(), &choice, &request) {
        assert!(plan.stages.iter().all(|stage| stage.peak() >= stage.weights));
        assert!(!plan.to_string().is_empty() && serde_json::to_string(&plan).is_ok());
    }
}

/// A JSON file in the folder of a model: its index, the configurations of its networks, a list of shards. The
/// first byte says which.
pub fn configuration(data: &[u8]) {
    thread_local!(static FOLDERS: TempDir = {
        let folder = tempfile::tempdir().expect("a folder to work in");
        MODELS.iter().for_each(|(model, _)| copy(&fixture(model), &folder.path().join(model)));
        folder
    });
    let Some((&which, data)) = data.split_first() else { return };
    let (model, file) = configurations().nth(usize::from(which) % configurations().count()).expect("one of them");
    FOLDERS.with(|folders| {
        let (folder, whole) = (folders.path().join(model), fixture(model).join(file));
        fs::write(folder.join(file), data).expect("a file");
        look(&folder);
        fs::copy(whole, folder.join(file)).expect("a file");
    });
}

/// Which file of which model each first byte stands for.
pub fn configurations() -> impl Iterator<Item = (&'static str, &'static str)> {
    MODELS.iter().flat_map(|(model, files)| files.iter().map(move |file| (*model, *file)))
}

/// The settings of a scheduler, and what they come to.
pub fn scheduler(data: &[u8]) {
    let Ok(config) = serde_json::from_slice::<SchedulerConfig>(data) else { return };
    let _ = (config.sampling(), config.even_sampling());
    for tokens in [1, 4096, usize::MAX] {
        let _ = config.flow_shift_at(tokens);
    }
    assert!(config.flow_shift().map_or(true, |shift| shift > 0.0 && shift <= 100.0));
}

/// A prompt, as text and as a prompt file, and the words of a command line.
pub fn prompt(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = (PromptFile::parse(&text), toml::from_str::<Entry>(&text), request::bytes(&text));
    let _ = (text.parse::<Size>(), text.parse::<Sampler>());
    let cleaned = clean(&text);
    thread_local!(static TOKENIZER: Option<Tokenizer> =
        Tokenizer::open(&fixture("wan21-t2v/tokenizer"), Vocabulary::T5).ok());
    quietly(|| TOKENIZER.with(|tokenizer| tokenizer.as_ref().map(|tokenizer| tokenizer.encode(&cleaned, 16))));
}

/// A `tokenizer.json`.
pub fn tokenizer(data: &[u8]) {
    with_file("tokenizer/tokenizer.json", data, |path| {
        let folder = path.parent().expect("a folder");
        for vocabulary in [Vocabulary::T5, Vocabulary::Gemma] {
            quietly(|| encode(Tokenizer::open(folder, vocabulary).ok()));
        }
    });
}

fn encode(tokenizer: Option<Tokenizer>) {
    let tokens = tokenizer.and_then(|tokenizer| tokenizer.encode(TEXT, 16).ok());
    assert!(tokens.is_none_or(|tokens| tokens.ids.len() <= 16));
}

/// A picture: PNG, JPEG or WebP.
pub fn picture(data: &[u8]) {
    with_file("picture", data, |path| {
        if let Ok(picture) = read_image(path) {
            assert_eq!(picture.data.len(), picture.width as usize * picture.height as usize * 3);
        }
    });
}

/// The recipe beside frames.
pub fn recipe(data: &[u8]) {
    with_file("frames/recipe.json", data, |path| drop(path.parent().map(recipe::inspect)));
}

/// The recipe in a film. The first byte says how its name ends. Without FFmpeg no film is opened.
pub fn film(data: &[u8]) {
    let Some((&which, data)) = data.split_first() else { return };
    let name = ["film.mp4", "film.webm", "film.gif", "film.mov"][usize::from(which) % 4];
    with_file(name, data, |path| drop(recipe::inspect(path)));
}

/// The `plan.json` in the folder of a run.
pub fn plan(data: &[u8]) {
    with_file("run/plan.json", data, |path| {
        let Some(folder) = path.parent() else { return };
        let Ok(run) = Run::open(folder.to_str(), folder) else { return };
        let _ = run.plan().map(|plan| plan.to_string());
        let _ = (run.state(&Device::Cpu), run.conditioning(&Device::Cpu), run.latents(), run.recipe_metadata());
    });
}

/// What a hub answers about a repository.
pub fn hub(data: &[u8]) {
    let files = RemoteFile::listed(data).unwrap_or_default();
    assert!(
        files
            .iter()
            .all(|file| Path::new(&file.name).components().all(|part| matches!(part, std::path::Component::Normal(_))))
    );
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("a copy")),
        }
    }
}

/// Which tensors and words a file that holds all of LTX-2 has.
fn single_file() -> Value {
    serde_json::from_slice(&fs::read(fixture("ltx2/single_file.json")).expect("the names")).expect("JSON")
}

/// The configuration in its words.
pub fn checkpoint_config() -> String {
    single_file()["metadata"]["config"].as_str().expect("a configuration").to_owned()
}
