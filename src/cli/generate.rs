//! `talkie generate`: what was typed → a request → a film.

use std::path::{Path, PathBuf};

use talkie::error::{Error, Result};
use talkie::pipeline::output;
use talkie::pipeline::{OnEvent, Session};
use talkie::{Budget, Film, Machine, ModelChoice, Request};

use super::common::Shown;
use super::film::{self, absolute};
use super::show::Show;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the film goes: .mp4, .mov, .webm, .gif, or a folder for PNG frames [default: film.mp4]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    film: film::Film,
    /// Where to keep the final latents, for `talkie decode`
    #[arg(long, value_name = "FILE")]
    save_latents: Option<PathBuf>,
    #[command(flatten)]
    pub shown: Shown,
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
    let choice = args.film.choice()?;
    if args.plan {
        let plan = Session::look(&Machine::here(), &choice, &request)?;
        return super::print(&if args.shown.json { to_json(&plan)? } else { plan.to_string().trim_end().to_owned() });
    }
    let mut show = Show::new(args.shown.json, args.preview.clone())?;
    let film = film(&choice, &request, &mut |event| show.event(event));
    show.finish(film)
}

fn film(choice: &ModelChoice, request: &Request, on_event: OnEvent<'_>) -> Result<Film> {
    Session::check(choice, request)?;
    let session = Session::open(choice, Budget::Nothing, on_event)?;
    session.generate(request, on_event)
}

fn request(args: &Args) -> Result<Request> {
    let output = if args.plan { args.output.clone() } else { Some(args.output.clone().unwrap_or_else(free_name)) };
    Ok(Request {
        output: trailing(absolute(output.as_ref())?, args.output.as_ref()),
        contact_sheet: absolute(args.shown.contact_sheet.as_ref())?,
        save_latents: absolute(args.save_latents.as_ref())?,
        preview: args.preview.is_some(),
        keep: args.keep,
        ..args.film.request()?
    })
}

/// A folder of frames is named with a slash at its end, which making the path absolute drops on some systems.
fn trailing(absolute: Option<PathBuf>, typed: Option<&PathBuf>) -> Option<PathBuf> {
    let slash = typed.is_some_and(|path| path.as_os_str().to_string_lossy().ends_with('/'));
    absolute.map(|path| if slash { path.join("") } else { path })
}

/// The first of `film.mp4`, `film-2.mp4`, … that is not there yet: no film of yesterday is written over unasked.
fn free_name() -> PathBuf {
    output::free_name(Path::new(if cfg!(feature = "ffmpeg") { "film.mp4" } else { "film" }))
}

fn to_json(plan: &talkie::plan::Plan) -> Result<String> {
    serde_json::to_string_pretty(plan).map_err(|cause| Error::failed("packing the plan").because(cause))
}
