//! `talkie generate`: what was typed → a request → a film.

use std::path::{Path, PathBuf};

use talkie::error::{Error, Result};
use talkie::generate::Pipeline;
use talkie::output;
use talkie::request::{Adapter, PromptFile, Request, Size};
use talkie::schedule::Sampler;

use super::common::Common;
use super::show::Show;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
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
    /// Where the film goes: .mp4, .mov, .webm, .gif, or a folder for PNG frames [default: film.mp4]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
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
    /// How far the schedule leans towards noise
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    flow_shift: Option<f64>,
    /// unipc, euler, dpm++ or renoise
    #[arg(long, value_name = "NAME", value_parser = super::typed::<Sampler>)]
    sampler: Option<Sampler>,
    /// Skip steps that are expected to change the transformer's prediction by less than this share, such as 0.05: faster, and
    /// another film; what it cost is measured and told [default: no step is skipped]
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
    /// A picture that the film begins with
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
    /// A LoRA for the transformer, with its strength: style.safetensors:0.8; may be given several times
    #[arg(long = "lora", value_name = "FILE[:SCALE]", value_parser = super::typed::<Adapter>)]
    loras: Vec<Adapter>,
    #[command(flatten)]
    pub common: Common,
    /// A safetensors file with the noise to begin with
    #[arg(long, value_name = "FILE")]
    noise: Option<PathBuf>,
    /// Where to keep the final latents, for `talkie decode`
    #[arg(long, value_name = "FILE")]
    save_latents: Option<PathBuf>,
    /// Write the film without its soundtrack
    #[arg(long)]
    no_sound: bool,
    /// A small picture of the latents, renewed every few steps
    #[arg(long, value_name = "FILE.png")]
    preview: Option<PathBuf>,
    /// Keep the run's folder when the film is whole
    #[arg(long)]
    keep: bool,
    /// Say what would happen, and stop
    #[arg(long)]
    plan: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let request = request(args)?;
    if args.plan {
        let plan = Pipeline::look(&request)?;
        return super::print(&if args.common.json { to_json(&plan)? } else { plan.to_string().trim_end().to_owned() });
    }
    let mut show = Show::new(args.common.json, args.preview.clone())?;
    let mut on_event = |event: &talkie::progress::Event| show.event(event);
    let film = Pipeline::open(&request, &mut on_event).and_then(|pipeline| pipeline.generate(&request, &mut on_event));
    show.finish(film)
}

fn request(args: &Args) -> Result<Request> {
    let common = &args.common;
    let output = if args.plan { args.output.clone() } else { Some(args.output.clone().unwrap_or_else(free_name)) };
    let written = match &args.prompt_file {
        Some(path) => PromptFile::read(path)?,
        None => PromptFile { prompt: args.prompt.clone().unwrap_or_default(), ..PromptFile::default() },
    };
    Ok(Request {
        prompt: written.prompt,
        dialogue: written.dialogue,
        sounds: written.sounds,
        music: written.music,
        negative: args.negative.clone().or(written.negative),
        preset: args.preset.clone(),
        no_sound: args.no_sound,
        model: args.model.as_deref().map(absolute_model),
        output: trailing(absolute(output.as_ref())?, args.output.as_ref()),
        contact_sheet: absolute(common.contact_sheet.as_ref())?,
        seed: args.seed,
        steps: args.steps,
        guidance: args.guidance,
        flow_shift: args.flow_shift,
        sampler: args.sampler,
        cache: args.cache,
        size: args.size,
        frames: args.frames,
        seconds: args.seconds,
        fps: common.fps,
        image: absolute(args.image.as_ref())?,
        noise: absolute(args.noise.as_ref())?,
        save_latents: absolute(args.save_latents.as_ref())?,
        transformer: absolute(args.transformer.as_ref())?,
        transformer_2: absolute(args.transformer_2.as_ref())?,
        text_encoder: absolute(args.text_encoder.as_ref())?,
        vae: absolute(common.vae.as_ref())?,
        loras: args.loras.iter().map(whole_path).collect::<Result<_>>()?,
        set: common.set()?,
        memory: common.memory,
        device: common.device.clone(),
        dtype: common.dtype.clone(),
        preview: args.preview.is_some(),
        keep: args.keep,
    })
}

fn absolute(path: Option<&PathBuf>) -> Result<Option<PathBuf>> {
    let absolute = path.map(std::path::absolute).transpose();
    absolute.map_err(|cause| Error::usage("a path cannot be made absolute").because(cause))
}

fn whole_path(lora: &Adapter) -> Result<Adapter> {
    let path = absolute(Some(&lora.path))?.unwrap_or_default();
    Ok(Adapter { path, strength: lora.strength })
}

/// A folder of frames is named with a slash at its end, which making the path absolute drops on some systems.
fn trailing(absolute: Option<PathBuf>, typed: Option<&PathBuf>) -> Option<PathBuf> {
    let slash = typed.is_some_and(|path| path.as_os_str().to_string_lossy().ends_with('/'));
    absolute.map(|path| if slash { path.join("") } else { path })
}

/// A folder's path must hold when the run is resumed from elsewhere; a name stays a name.
fn absolute_model(name: &str) -> String {
    let path = std::path::Path::new(name);
    match std::path::absolute(path) {
        Ok(absolute) if path.exists() => absolute.to_string_lossy().into_owned(),
        _ => name.to_owned(),
    }
}

/// The first of `film.mp4`, `film-2.mp4`, … that is not there yet: no film of yesterday is written over unasked.
fn free_name() -> PathBuf {
    output::free_name(Path::new(if cfg!(feature = "ffmpeg") { "film.mp4" } else { "film" }))
}

fn to_json(plan: &talkie::plan::Plan) -> Result<String> {
    serde_json::to_string_pretty(plan).map_err(|cause| Error::failed("packing the plan").because(cause))
}
