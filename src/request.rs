//! What the user asked for: plain data that the command, a server and the library share.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::fps::Fps;
use crate::sampling::schedule::Sampler;

/// The longest prompt, in bytes. The models read some 512 tokens of it: about 2 kB.
pub const MAX_PROMPT: usize = 100_000;

/// Which weights a session loads, and where it computes. The model in the box, on the best device, where all is left out.
///
/// ```
/// let choice = talkie::ModelChoice { model: Some("wan2.1-t2v-1.3b".into()), ..Default::default() };
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelChoice {
    /// A catalogue name, a hub repository `org/name`, a folder or a file. The model in the box where it is left out.
    pub model: Option<String>,
    /// A file or folder that replaces the model's transformer.
    pub transformer: Option<PathBuf>,
    /// A file or folder that replaces the second transformer (low noise) of a model that has two.
    pub transformer_2: Option<PathBuf>,
    /// A file or folder that replaces the model's text encoder.
    pub text_encoder: Option<PathBuf>,
    /// A file or folder that replaces the model's video autoencoder.
    pub vae: Option<PathBuf>,
    /// LoRA files that are added to the transformers.
    pub loras: Vec<Adapter>,
    /// The device that computes: `cpu`, `cuda`, `cuda:1`, `metal`.
    pub device: Option<String>,
    /// The type that it computes in: `f32`, `bf16`, `f16`.
    pub dtype: Option<String>,
    /// Memory that may be used, in bytes: the weights that stay loaded included. Free memory where it is left out.
    pub memory: Option<u64>,
}

impl ModelChoice {
    /// The model as it was asked for, or the name of the model in the box.
    pub fn name(&self) -> &str {
        self.model.as_deref().unwrap_or(IN_THE_BOX)
    }

    /// Whether both load the same weights, whatever device, type and memory they are used with.
    pub fn has_weights_of(&self, other: &Self) -> bool {
        let parts = |choice: &Self| {
            let Self { transformer, transformer_2, text_encoder, vae, .. } = choice.clone();
            (choice.name().to_owned(), [transformer, transformer_2, text_encoder, vae], choice.loras.clone())
        };
        parts(self) == parts(other)
    }
}

impl std::fmt::Display for ModelChoice {
    /// The weights in a line: `wan2.1-t2v-1.3b, with transformer a.gguf, with LoRA style.safetensors:0.8`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())?;
        let parts = [
            ("transformer", &self.transformer),
            ("transformer_2", &self.transformer_2),
            ("text encoder", &self.text_encoder),
            ("vae", &self.vae),
        ];
        for (part, path) in parts {
            path.iter().try_for_each(|path| write!(f, ", with {part} {}", path.display()))?;
        }
        self.loras.iter().try_for_each(|lora| write!(f, ", with LoRA {}:{}", lora.path.display(), lora.strength))
    }
}

/// The model that is run where none is named: it comes with talkie.
pub const IN_THE_BOX: &str = "toybox";

/// A request for a film. What is left out is decided by the model.
///
/// ```
/// let request = talkie::Request { prompt: "a cat on a roof".into(), steps: Some(20), ..Default::default() };
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// What should be seen, in at most [`MAX_PROMPT`] bytes.
    pub prompt: String,
    /// What is said, in order. Each family puts it into the words that its models were trained with.
    pub dialogue: Vec<Line>,
    /// What is heard besides: `rain on a tin roof`, `a dog barks twice`.
    pub sounds: Vec<String>,
    /// The music, where there is some: `slow solo piano`.
    pub music: Option<String>,
    /// What should not be seen. The model's own negative prompt where it is left out; empty for none.
    pub negative: Option<String>,
    /// Where the film goes. Its ending chooses the format. Without it, the library hands out the frames.
    pub output: Option<PathBuf>,
    /// Where a PNG goes that shows frames of the film side by side, with its sound beneath them.
    pub contact_sheet: Option<PathBuf>,
    /// The seed of the noise. A new one where it is left out.
    pub seed: Option<u64>,
    /// A way of sampling that the model knows by name, such as `distilled` or `lightx2v`. The model's own where it is left
    /// out.
    pub preset: Option<String>,
    /// Denoising steps, 1 to 1000.
    pub steps: Option<usize>,
    /// Scale of classifier-free guidance. 1 and less switch it off.
    pub guidance: Option<f64>,
    /// How far the schedule is shifted towards noise, above 0 and at most 100.
    pub flow_shift: Option<f64>,
    /// The sampler.
    pub sampler: Option<Sampler>,
    /// The change of the transformer's prediction, as a share of it, up to which a step is skipped and the last prediction
    /// serves again. Every step is computed where it is left out.
    pub cache: Option<f64>,
    /// Width and height of the film, in pixels.
    pub size: Option<Size>,
    /// Frames of the film. Excludes `seconds`.
    pub frames: Option<usize>,
    /// Length of the film. Excludes `frames`.
    pub seconds: Option<f64>,
    /// Frames per second.
    pub fps: Option<Fps>,
    /// What the film is conditioned on besides its prompts. The model's family says which kinds it takes.
    pub conditions: Vec<Condition>,
    /// A safetensors file with the noise to begin with, as `video` (1, C, T, H, W) and `audio` (1, T, C), instead of a seed's.
    pub noise: Option<PathBuf>,
    /// Where the final latents are kept, besides the film.
    pub save_latents: Option<PathBuf>,
    /// Sampling parameters without a field of their own, by name. A plan lists them all.
    pub set: BTreeMap<String, String>,
    /// Whether the film is written without its soundtrack.
    pub no_sound: bool,
    /// Whether events carry a small picture of the latents every few steps.
    pub preview: bool,
    /// Whether the folder of the run stays when the film is whole.
    pub keep: bool,
}

impl Request {
    /// The image that the film begins with.
    pub fn first_image(&self) -> Option<&Path> {
        self.conditions.iter().map(|Condition::Image { file }| file.as_path()).next()
    }
}

/// What a film is conditioned on besides its prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// The film begins with this image.
    Image {
        /// A PNG, JPEG or WebP file.
        file: PathBuf,
    },
}

impl Condition {
    /// The file that it is read from.
    pub fn file(&self) -> &Path {
        match self {
            Self::Image { file } => file,
        }
    }
}

/// A LoRA file, how strongly it acts, and on which of two transformers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adapter {
    /// The file.
    pub path: PathBuf,
    /// What its changes are multiplied with: 1 as it was trained, 0 for none.
    pub strength: f64,
    /// The transformer that it is for, of a model that has two. Its name says so where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expert: Option<Expert>,
}

/// One of the two transformers of a model that has a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expert {
    /// The first, `transformer`: for high noise.
    High,
    /// The second, `transformer_2`: for low noise.
    Low,
}

impl Expert {
    /// The expert that a file or folder is for, by the words of its name: `high`, `low`, `hn` or `ln` between separators, or
    /// `highnoise`, `lownoise`. None where it has no such word, or words for both.
    pub fn named(path: &Path) -> Option<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let has = |words: [&str; 3]| name.split(|c: char| !c.is_alphanumeric()).any(|part| words.contains(&part));
        match (has(["high", "hn", "highnoise"]), has(["low", "ln", "lownoise"])) {
            (true, false) => Some(Self::High),
            (false, true) => Some(Self::Low),
            _ => None,
        }
    }

    /// The name of its part in a model's folder.
    pub fn part(self) -> &'static str {
        match self {
            Self::High => "transformer",
            Self::Low => "transformer_2",
        }
    }
}

impl Adapter {
    /// Whether it is for a transformer of a model that has two, by the part's name: the one that it was given for, or the one
    /// that its file's name says, or both.
    pub fn is_for(&self, part: &str) -> bool {
        let expert = self.expert.or_else(|| Expert::named(&self.path));
        expert.map_or_else(
            || [Expert::High, Expert::Low].map(Expert::part).contains(&part),
            |expert| expert.part() == part,
        )
    }
}

impl std::str::FromStr for Adapter {
    type Err = Error;

    /// `style.safetensors`, `style.safetensors:0.8` with a strength, `style.safetensors@high` or `style.safetensors:0.8@low`
    /// for one of two transformers. A file that has the whole name is meant as it is.
    fn from_str(text: &str) -> Result<Self> {
        let plain = |text: &str| Self { path: text.into(), strength: 1.0, expert: None };
        if Path::new(text).is_file() {
            return Ok(plain(text));
        }
        let experts = [("@high", Expert::High), ("@low", Expert::Low)];
        let (rest, expert) = experts
            .into_iter()
            .find_map(|(end, expert)| Some((text.strip_suffix(end)?, Some(expert))))
            .unwrap_or((text, None));
        let split = rest.rsplit_once(':').and_then(|(path, strength)| Some((path, strength.parse::<f64>().ok()?)));
        let (path, strength) = split.unwrap_or((rest, 1.0));
        if !strength.is_finite() || path.is_empty() {
            return Err(Error::usage(format!("`{text}` is not FILE, FILE:STRENGTH or FILE:STRENGTH@high"))
                .hint("write it as `--lora style.safetensors:0.8`"));
        }
        Ok(Self { strength, expert, ..plain(path) })
    }
}

/// A line of dialogue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Who speaks: `the old man`.
    pub speaker: String,
    /// The words.
    pub text: String,
    /// How they are spoken: `in a low, tired voice`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
}

/// A prompt with structure, as a prompt file in TOML holds it.
///
/// ```
/// let file = talkie::request::PromptFile::parse(r#"
/// prompt = "An old man stands on a pier at dawn"
/// sounds = ["waves", "a gull cries once"]
/// music = "slow solo cello"
///
/// [[dialogue]]
/// speaker = "the old man"
/// text = "She always came back with the tide."
/// voice = "in a low, tired voice"
/// "#).unwrap();
/// assert_eq!(file.dialogue.len(), 1);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptFile {
    /// What is seen.
    pub prompt: String,
    /// What should not be seen.
    pub negative: Option<String>,
    /// What is said.
    pub dialogue: Vec<Line>,
    /// What is heard besides.
    pub sounds: Vec<String>,
    /// The music.
    pub music: Option<String>,
}

impl PromptFile {
    /// The largest prompt file, in bytes.
    const MOST: u64 = 1 << 20;

    /// Reads a prompt file.
    ///
    /// # Errors
    /// A file that cannot be read, is larger than a prompt can be, or is not a prompt file.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = || format!("cannot read the prompt file {}", path.display());
        let mut text = String::new();
        let file = std::fs::File::open(path).context(failed)?;
        file.take(Self::MOST + 1).read_to_string(&mut text).context(failed)?;
        if text.len() as u64 > Self::MOST {
            return Err(Error::usage(format!("the prompt file is larger than a megabyte: {}", path.display()))
                .hint("keep what is seen, said and heard in it, and nothing else"));
        }
        Self::parse(&text).map_err(|cause| Error::usage(failed()).because(cause).hint(Self::HINT))
    }

    const HINT: &str =
        "it is TOML with `prompt`, `negative`, `sounds`, `music` and `[[dialogue]]` of `speaker`, `text`, `voice`";

    /// Reads the text of a prompt file.
    ///
    /// # Errors
    /// Text that is not TOML, or a field that prompt files do not have.
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text)
            .map_err(|cause| Error::usage("the prompt file does not parse").because(cause).hint(Self::HINT))
    }
}

/// Width and height in pixels, written `832x480`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let side = |side: &str| side.trim().parse::<usize>().ok().filter(|side| (1..=16384).contains(side));
        let size = text.split_once(['x', 'X', '×']).and_then(|(w, h)| Some(Self { width: side(w)?, height: side(h)? }));
        size.ok_or_else(|| {
            Error::usage(format!("`{text}` is not a size")).hint("write width and height in pixels, such as `832x480`")
        })
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl TryFrom<String> for Size {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

/// Bytes as people write them: `8GB`, `512 MB`, `6.5GiB`, `100000000`.
///
/// # Errors
/// Anything else.
pub fn bytes(text: &str) -> Result<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1.0),
        "k" | "kb" => Some(1e3),
        "m" | "mb" => Some(1e6),
        "g" | "gb" => Some(1e9),
        "t" | "tb" => Some(1e12),
        "kib" => Some(1024.0),
        "mib" => Some(1024f64.powi(2)),
        "gib" => Some(1024f64.powi(3)),
        "tib" => Some(1024f64.powi(4)),
        _ => None,
    };
    let value = number.parse::<f64>().ok().zip(scale).map(|(number, scale)| number * scale);
    match value {
        Some(value) if (1.0..1e18).contains(&value) => Ok(value as u64),
        _ => Err(Error::usage(format!("`{text}` is not an amount of memory")).hint("write it as `8GB` or `512MB`")),
    }
}
