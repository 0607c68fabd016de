//! What a film is to be: the flags that `generate` and `bench` share, and the request that they make.

use std::path::PathBuf;

use talkie::error::{Error, Result};
use talkie::request::{Adapter, Condition, ModelChoice, PromptFile, Request, Size};
use talkie::sampling::schedule::Sampler;

use super::common::Common;

#[derive(Debug, clap::Args)]
pub(super) struct Film {
    /// What should be seen, and heard
    #[arg(required_unless_present = "prompt_file")]
    prompt: Option<String>,
    /// A TOML file with `prompt`, `dialogue`, `sounds` and `music`, instead of a prompt
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompt_file: Option<PathBuf>,
    /// A name from `talkie models`, a hub repository `org/name`, a folder, or a file of LTX-2 [default: toybox, the model
    /// in the box]
    #[arg(short, long)]
    model: Option<String>,
    /// What should not be seen [default: the model's own]
    #[arg(long, value_name = "TEXT")]
    negative: Option<String>,
    /// The seed of the noise: the same seed makes the same film
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    seed: Option<u64>,
    /// A way of sampling that the model knows by name, such as `distilled` or `lightx2v`: `talkie models show` lists those of
    /// few steps [default: the model's own]
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Denoising steps
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    steps: Option<usize>,
    /// How closely the film follows the prompt; 1 switches guidance off and is twice as fast
    #[arg(long, value_name = "G", allow_hyphen_values = true)]
    guidance: Option<f64>,
    /// Flow shift: above 1 spends more steps at high noise
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    flow_shift: Option<f64>,
    /// unipc, euler, dpm++ or renoise
    #[arg(long, value_name = "NAME", value_parser = super::typed::<Sampler>)]
    sampler: Option<Sampler>,
    /// Skip steps that are expected to change the transformer's prediction by less than this share, such as 0.05: faster, and
    /// another film; what it cost is measured and reported [default: no step is skipped]
    #[arg(long, value_name = "SHARE", allow_hyphen_values = true)]
    cache: Option<f64>,
    /// Width and height in pixels, such as 832x480
    #[arg(long, value_name = "WxH", allow_hyphen_values = true, value_parser = super::typed::<Size>)]
    size: Option<Size>,
    /// Number of frames
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    frames: Option<usize>,
    /// Length of the film, instead of a number of frames
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    seconds: Option<f64>,
    /// An image that the film begins with
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Other weights for the transformer: a safetensors, GGUF or .pth file, or a folder like the model's own
    #[arg(long, value_name = "FILE")]
    transformer: Option<PathBuf>,
    /// The same for the second of two transformers, the one for little noise
    #[arg(long, value_name = "FILE")]
    transformer_2: Option<PathBuf>,
    /// Other weights for the text encoder; for a model in one file, the folder of Gemma 3 with its tokenizer
    #[arg(long, value_name = "FILE")]
    text_encoder: Option<PathBuf>,
    /// A LoRA for the transformer, with its strength: style.safetensors:0.8; @high or @low after it names one of two
    /// transformers; may be given several times
    #[arg(long = "lora", value_name = "FILE[:SCALE][@EXPERT]", value_parser = super::typed::<Adapter>)]
    loras: Vec<Adapter>,
    #[command(flatten)]
    common: Common,
    /// A safetensors file with the noise to begin with
    #[arg(long, value_name = "FILE")]
    noise: Option<PathBuf>,
    /// Write the film without its soundtrack
    #[arg(long)]
    no_sound: bool,
}

impl Film {
    /// The weights that it is made with.
    pub(super) fn choice(&self) -> Result<ModelChoice> {
        let common = &self.common;
        Ok(ModelChoice {
            model: self.model.as_deref().map(absolute_model),
            transformer: absolute(self.transformer.as_ref())?,
            transformer_2: absolute(self.transformer_2.as_ref())?,
            text_encoder: absolute(self.text_encoder.as_ref())?,
            vae: absolute(common.vae.as_ref())?,
            loras: self.loras.iter().map(whole_path).collect::<Result<_>>()?,
            device: common.device.clone(),
            dtype: common.dtype.clone(),
            memory: common.memory,
        })
    }

    /// The request, but for where the film goes and what is shown of it.
    pub(super) fn request(&self) -> Result<Request> {
        let written = match &self.prompt_file {
            Some(path) => PromptFile::read(path)?,
            None => PromptFile { prompt: self.prompt.clone().unwrap_or_default(), ..PromptFile::default() },
        };
        let image = absolute(self.image.as_ref())?;
        Ok(Request {
            prompt: written.prompt,
            dialogue: written.dialogue,
            sounds: written.sounds,
            music: written.music,
            negative: self.negative.clone().or(written.negative),
            preset: self.preset.clone(),
            no_sound: self.no_sound,
            seed: self.seed,
            steps: self.steps,
            guidance: self.guidance,
            flow_shift: self.flow_shift,
            sampler: self.sampler,
            cache: self.cache,
            size: self.size,
            frames: self.frames,
            seconds: self.seconds,
            fps: self.common.fps,
            conditions: image.into_iter().map(|file| Condition::Image { file }).collect(),
            noise: absolute(self.noise.as_ref())?,
            set: self.common.set()?,
            ..Request::default()
        })
    }
}

pub(super) fn absolute(path: Option<&PathBuf>) -> Result<Option<PathBuf>> {
    let absolute = path.map(std::path::absolute).transpose();
    absolute.map_err(|cause| Error::usage("a path cannot be made absolute").because(cause))
}

fn whole_path(lora: &Adapter) -> Result<Adapter> {
    let path = absolute(Some(&lora.path))?.unwrap_or_default();
    Ok(Adapter { path, ..lora.clone() })
}

/// A folder's path must hold when the run is resumed from elsewhere; a name stays a name.
fn absolute_model(name: &str) -> String {
    let path = std::path::Path::new(name);
    match std::path::absolute(path) {
        Ok(absolute) if path.exists() => absolute.to_string_lossy().into_owned(),
        _ => name.to_owned(),
    }
}
