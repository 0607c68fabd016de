//! A prompt becomes a film, with what happens on the way printed.
//!
//! ```sh
//! cargo run --example film -- tests/fixtures/wan21-t2v film.mp4
//! ```

#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::ops::ControlFlow;

use talkie::Result;
use talkie::pipeline::Pipeline;
use talkie::progress::Event;
use talkie::request::Request;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let request = Request {
        prompt: "a red fox walks through the snow".into(),
        model: Some(args.next().unwrap_or_else(|| "tests/fixtures/wan21-t2v".into())),
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
    let pipeline = Pipeline::open(&request, &mut on_event)?;
    let film = pipeline.generate(&request, &mut on_event)?;
    println!("{} frames, {:.2} s", film.count, film.seconds);
    Ok(())
}
