//! `talkie decode`: saved latents → a film.

use std::path::PathBuf;

use talkie::error::Result;
use talkie::{Budget, ModelChoice, Request, Session};

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
    let choice = ModelChoice {
        model: args.model.clone(),
        vae: common.vae.clone(),
        device: common.device.clone(),
        dtype: common.dtype.clone(),
        memory: common.memory,
        ..ModelChoice::default()
    };
    let request = Request {
        output: Some(args.output.clone()),
        contact_sheet: args.shown.contact_sheet.clone(),
        fps: common.fps,
        set: common.set()?,
        ..Request::default()
    };
    let mut show = Show::new(args.shown.json, None)?;
    let mut on_event = |event: &talkie::progress::Event| show.event(event);
    let film = Session::open(&choice, Budget::Nothing, &mut on_event)
        .and_then(|session| session.decode(&args.latents, &request, &mut on_event));
    show.finish(film)
}
