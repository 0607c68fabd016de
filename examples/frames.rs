//! Frames in memory, without a file and without FFmpeg: a request that names no output.
//!
//! ```sh
//! cargo run --example frames -- tests/fixtures/wan21-t2v
//! ```

#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use talkie::progress::quiet;
use talkie::{Budget, ModelChoice, Request, Result, Session};

fn main() -> Result<()> {
    let model = std::env::args().nth(1).unwrap_or_else(|| "tests/fixtures/wan21-t2v".into());
    let request = Request {
        prompt: "a red fox walks through the snow".into(),
        size: Some("64x48".parse()?),
        frames: Some(9),
        steps: Some(4),
        seed: Some(1),
        ..Request::default()
    };
    let choice = ModelChoice { model: Some(model), ..ModelChoice::default() };
    let film = Session::open(&choice, Budget::Nothing, &mut quiet)?.generate(&request, &mut quiet)?;
    for (index, frame) in film.frames.iter().enumerate() {
        let sum: u64 = frame.data.iter().map(|&byte| u64::from(byte)).sum();
        println!("frame {index}: {}x{}, mean {}", frame.width, frame.height, sum / frame.data.len() as u64);
    }
    Ok(())
}
