//! `talkie resume`: go on with a run that stopped.

use talkie::error::Result;
use talkie::pipeline::run::Run;
use talkie::plan::one_line;
use talkie::{Budget, Machine, Session};

use super::show::Show;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run's name or folder [default: the latest that is unfinished]
    run: Option<String>,
    /// Events on stdout, one JSON object a line
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let run = Run::open(args.run.as_deref(), &Machine::here().home()?)?;
    let plan = run.plan()?;
    let mut show = Show::new(args.json, None)?;
    show.say(&format!("going on with the run {}: {}", run.name(), one_line(&plan.prompt)));
    let mut on_event = |event: &talkie::progress::Event| show.event(event);
    let film = Session::open(&plan.choice, Budget::Nothing, &mut on_event)
        .and_then(|session| session.resume(run, &mut on_event));
    show.finish(film)
}
