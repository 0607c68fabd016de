//! `talkie decode`: saved latents → a film.

use std::path::PathBuf;

use talkie::error::Result;
use talkie::pipeline::Pipeline;
use talkie::request::Request;

use super::common::{Common, Shown};
use super::show::Show;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file of `--save-latents`, or `latents.safetensors` in a run's folder
    latents: PathBuf,
    /// The model that made them: a name, a hub repository, a folder, or a file of LTX-2 [default: toybox, the model in
    /// the box]
    #[arg(short, long)]
    model: Option<String>,
    /// Where the film goes: .mp4, .mov, .webm, .gif, or a folder for PNG frames
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    pub shown: Shown,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    let request = Request {
        model: args.model.clone(),
        output: Some(args.output.clone()),
        contact_sheet: args.shown.contact_sheet.clone(),
        fps: common.fps,
        vae: common.vae.clone(),
        set: common.set()?,
        memory: common.memory,
        device: common.device.clone(),
        dtype: common.dtype.clone(),
        ..Request::default()
    };
    let mut show = Show::new(args.shown.json, None)?;
    let mut on_event = |event: &talkie::progress::Event| show.event(event);
    let film = Pipeline::open(&request, &mut on_event)
        .and_then(|pipeline| pipeline.decode(&args.latents, &request, &mut on_event));
    show.finish(film)
}
