//! A prompt becomes a film, with what happens on the way printed.
//!
//! ```sh
//! cargo run --example film -- tests/fixtures/wan21-t2v film.mp4
//! ```

#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::ops::ControlFlow;

use talkie::{Budget, Event, ModelChoice, Request, Result, Session};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let model = args.next().unwrap_or_else(|| "tests/fixtures/wan21-t2v".into());
    let request = Request {
        prompt: "a red fox walks through the snow".into(),
        output: Some(args.next().unwrap_or_else(|| "film.mp4".into()).into()),
        size: Some("128x80".parse()?),
        frames: Some(17),
        steps: Some(8),
        seed: Some(1),
        ..Request::default()
    };
    let mut on_event = |event: &Event| {
        println!("{event:?}");
        ControlFlow::Continue(())
    };
    let choice = ModelChoice { model: Some(model), ..ModelChoice::default() };
    let session = Session::open(&choice, Budget::Nothing, &mut on_event)?;
    let film = session.generate(&request, &mut on_event)?;
    println!("{} frames, {:.2} s", film.count, film.seconds);
    Ok(())
}
