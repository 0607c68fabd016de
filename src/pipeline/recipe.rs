//! The recipe that a film carries: everything that it was made from, so that it can be made again.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Context, Error, Result};
use crate::files::{atomic, read_json};
use crate::fps::Fps;
use crate::media;
use crate::model::PlannedFile;
use crate::model::catalogue::IN_THE_BOX;
use crate::pipeline::denoise::Cached;
use crate::plan::Plan;
use crate::request::{Adapter, Expert};

/// The recipe. It is JSON in the film's `comment` tag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// talkie's version.
    pub talkie: String,
    /// The model in a few words.
    pub model: String,
    /// Its name or repository, as it was asked for; of a folder its own name, without those around it; that of the model in
    /// the box where none was named.
    pub source: String,
    /// Its weights.
    pub files: Vec<HashedFile>,
    /// The prompt.
    pub prompt: String,
    /// The negative prompt, where there was guidance.
    pub negative: Option<String>,
    /// The picture that the film begins with.
    pub image: Option<HashedFile>,
    /// The file that the noise came from, where it was not the seed's.
    pub noise: Option<HashedFile>,
    /// What was added to the transformer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<UsedLora>,
    /// The seed of the noise.
    pub seed: u64,
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Frames.
    pub frames: usize,
    /// Frames per second.
    pub fps: Fps,
    /// Denoising steps.
    pub steps: usize,
    /// The name of the way of sampling, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// The sampler.
    pub sampler: String,
    /// What step caching saved and cost, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<Cached>,
    /// Every other sampling value, by the name that `--set` or a flag has for it.
    pub parameters: BTreeMap<String, Value>,
    /// The device that computed.
    pub device: String,
    /// The type that it computed in.
    pub dtype: String,
}

/// A LoRA file, with its strength.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsedLora {
    /// The file.
    #[serde(flatten)]
    pub file: HashedFile,
    /// What its changes were multiplied with.
    pub strength: f64,
    /// The one of two transformers that it was given for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expert: Option<Expert>,
}

/// A file by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashedFile {
    /// The part of the model that it belongs to, or what it was used for.
    pub role: String,
    /// Its name, without folders: those are the user's own business.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Recipe {
    /// The recipe of a plan, as far as it is known before the film is made. Reads every file once, but those that the hub's cache
    /// names by their hash, and those whose hash is kept in `home`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of(plan: &Plan, home: Option<&Path>) -> Result<Self> {
        let mut known = Known::load(home);
        let mut hash = |role: &str, path: &Path| known.hash(role, path);
        let files = plan.files.iter().map(|PlannedFile { component, path, .. }| hash(component, path));
        let files = files.collect::<Result<Vec<_>>>()?;
        let image = plan.request.first_image().map(|path| hash("image", path)).transpose()?;
        let noise = plan.request.noise.as_deref().map(|path| hash("noise", path)).transpose()?;
        let lora = |lora: &Adapter| {
            Ok(UsedLora { file: hash("lora", &lora.path)?, strength: lora.strength, expert: lora.expert })
        };
        let loras = plan.choice.loras.iter().map(lora).collect::<Result<_>>()?;
        known.store();
        Ok(Self {
            talkie: env!("CARGO_PKG_VERSION").into(),
            model: plan.model.clone(),
            source: plan.choice.model.as_deref().map_or_else(|| IN_THE_BOX.to_owned(), source),
            files,
            prompt: plan.prompt.clone(),
            negative: plan.negative.clone(),
            image,
            noise,
            loras,
            seed: plan.seed,
            width: plan.shape.width,
            height: plan.shape.height,
            frames: plan.shape.frames,
            fps: plan.settings.fps,
            steps: plan.step_count(),
            preset: plan.preset.clone(),
            sampler: plan.sampling.sampler.to_string(),
            cached: None,
            parameters: plan.parameters.clone(),
            device: plan.settings.device.clone(),
            dtype: plan.settings.dtype.clone(),
        })
    }

    /// The recipe as the film carries it.
    ///
    /// # Errors
    /// None in practice: every field is plain data.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).context(|| "packing the recipe")
    }
}

/// A model as a film may name it to strangers: where folders lie is the user's own business.
fn source(model: &str) -> String {
    let folder = Path::new(model);
    let name = folder.file_name().filter(|_| folder.is_dir());
    name.map_or_else(|| model.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The recipe in a film, as JSON: of any version of talkie, and unknown fields with it.
///
/// # Errors
/// A file that is not a film, or has no recipe.
pub fn inspect(path: &Path) -> Result<Value> {
    let none = || {
        Error::failed(format!("no recipe in {}", path.display()))
            .hint("talkie writes one into every film; editors and upload sites may drop it")
    };
    let text = media::comment(path)?.ok_or_else(none)?;
    let recipe: Value = serde_json::from_str(&text).map_err(|_| none())?;
    if recipe.get("talkie").is_some() { Ok(recipe) } else { Err(none()) }
}

/// Hashes that were computed before, by path, size and time: an 11 GB encoder takes ten seconds to read.
#[derive(Default)]
struct Known {
    file: Option<PathBuf>,
    hashes: BTreeMap<String, String>,
    changed: bool,
}

impl Known {
    fn load(home: Option<&Path>) -> Self {
        let file = home.map(|home| home.join("hashes.json"));
        let read = |path: &PathBuf| serde_json::from_value(read_json(path).ok()?).ok();
        Self { hashes: file.as_ref().and_then(read).unwrap_or_default(), file, changed: false }
    }

    /// A cache: when it cannot be written, the files are read again the next time.
    fn store(&self) {
        let Some(file) = self.file.as_ref().filter(|_| self.changed) else { return };
        if let Ok(json) = serde_json::to_vec(&self.hashes) {
            let _ = atomic::write_whole(file, &json);
        }
    }

    fn hash(&mut self, role: &str, path: &Path) -> Result<HashedFile> {
        let failed = |cause| {
            Error::failed(format!("cannot read {}", path.display()))
                .because(cause)
                .hint("put the file back where it was: the film says what it was made from")
        };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        let real = path.canonicalize().map_err(failed)?;
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let key = format!("{}|{}|{}", real.display(), metadata.len(), modified.unwrap_or_default().as_nanos());
        let sha256 = match blob_hash(&real).or_else(|| self.hashes.get(&key).cloned()) {
            Some(hash) => hash,
            None => {
                let hash = sha256(&real).map_err(failed)?;
                self.hashes.insert(key, hash.clone());
                self.changed = true;
                hash
            }
        };
        Ok(HashedFile { role: role.into(), name, bytes: metadata.len(), sha256 })
    }
}

/// The hub's cache keeps large files under their SHA-256, checked when they were fetched.
fn blob_hash(real: &Path) -> Option<String> {
    let name = real.file_name()?.to_str()?;
    let in_blobs = real.parent()?.file_name()? == "blobs";
    (in_blobs && name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| name.to_owned())
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
