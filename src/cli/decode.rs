//! `talkie decode`: saved latents → a film.

use std::path::PathBuf;

use talkie::error::{Error, Result};
use talkie::fps::Fps;
use talkie::generate::Pipeline;
use talkie::request::Request;

use super::show::Show;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file of `--save-latents`, or `latents.safetensors` in a run's folder
    latents: PathBuf,
    /// The model that made them: a name, a hub repository, or a folder
    #[arg(short, long)]
    model: String,
    /// Where the film goes: .mp4, .mov, .webm, .gif, or a folder for PNG frames
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Frames per second [default: those of the latents' recipe, or the model's]
    #[arg(long, value_name = "F", allow_hyphen_values = true, value_parser = super::typed::<Fps>)]
    fps: Option<Fps>,
    /// Other weights for the autoencoder
    #[arg(long, value_name = "FILE")]
    vae: Option<PathBuf>,
    /// Side of the tiles in pixels, and the distance from one to the next: tile=256, tile_stride=192
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Memory that may be used, such as 8GB [default: what is free]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = super::bytes)]
    memory: Option<u64>,
    /// cpu, cuda, cuda:N or metal [default: the best there is]
    #[arg(long)]
    device: Option<String>,
    /// f32, bf16 or f16 [default: f32 on a CPU, bf16 elsewhere]
    #[arg(long)]
    dtype: Option<String>,
    /// Events on stdout, one JSON object a line
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    };
    let set = args.set.iter().map(pair).collect::<Option<_>>();
    let request = Request {
        model: Some(args.model.clone()),
        output: Some(args.output.clone()),
        fps: args.fps,
        vae: args.vae.clone(),
        set: set.ok_or_else(|| Error::usage("`--set` takes KEY=VALUE").hint("write it as `--set tile=256`"))?,
        memory: args.memory,
        device: args.device.clone(),
        dtype: args.dtype.clone(),
        ..Request::default()
    };
    let mut show = Show::new(args.json, None)?;
    let mut on_event = |event: &talkie::progress::Event| show.event(event);
    let film = Pipeline::open(&request, &mut on_event)
        .and_then(|pipeline| pipeline.decode(&args.latents, &request, &mut on_event));
    show.finish(film)
}
