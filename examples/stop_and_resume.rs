//! A run is stopped from the callback after a few steps, and goes on later from where it was.
//!
//! ```sh
//! cargo run --example stop_and_resume -- tests/fixtures/wan21-t2v film.mp4
//! ```

#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::ops::ControlFlow;

use talkie::error::Kind;
use talkie::pipeline::run::Run;
use talkie::progress::{Stage, quiet};
use talkie::{Budget, Event, ModelChoice, Request, Result, Session};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let model = args.next().unwrap_or_else(|| "tests/fixtures/wan21-t2v".into());
    let request = Request {
        prompt: "a red fox walks through the snow".into(),
        output: Some(args.next().unwrap_or_else(|| "film.mp4".into()).into()),
        size: Some("64x48".parse()?),
        frames: Some(9),
        steps: Some(10),
        seed: Some(1),
        ..Request::default()
    };
    let mut stop_after_three = |event: &Event| match event {
        Event::Advance { stage: Stage::Denoise, done: 3, .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let choice = ModelChoice { model: Some(model), ..ModelChoice::default() };
    let session = Session::open(&choice, Budget::Nothing, &mut stop_after_three)?;
    match session.generate(&request, &mut stop_after_three) {
        Err(error) if error.kind() == Kind::Stopped => println!("stopped: {error}"),
        other => return other.map(|film| println!("not stopped: {} frames", film.count)),
    }
    // The latest run that is unfinished. Another process may do this, tomorrow.
    let film = session.resume(Run::open(None, &session.machine().home()?)?, &mut quiet)?;
    println!("resumed: {} frames, {:.2} s", film.count, film.seconds);
    Ok(())
}
