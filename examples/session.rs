//! Three films from one session: its weights stay loaded, and none is read twice.
//!
//! ```sh
//! cargo run --example session -- tests/fixtures/wan21-t2v
//! ```

#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::time::Instant;

use talkie::plan::human_bytes;
use talkie::progress::quiet;
use talkie::{Budget, ModelChoice, Request, Result, Session};

fn main() -> Result<()> {
    let model = std::env::args().nth(1).unwrap_or_else(|| "tests/fixtures/wan21-t2v".into());
    let choice = ModelChoice { model: Some(model), ..ModelChoice::default() };
    let session = Session::open(&choice, Budget::All, &mut quiet)?;
    for (prompt, seed) in [("a red fox walks", 1), ("a grey cat sleeps", 2), ("a red fox sleeps", 3)] {
        let request = Request {
            prompt: prompt.into(),
            size: Some("64x48".parse()?),
            frames: Some(9),
            steps: Some(4),
            seed: Some(seed),
            ..Request::default()
        };
        let start = Instant::now();
        let film = session.generate(&request, &mut quiet)?;
        let (seconds, read) = (start.elapsed().as_secs_f64(), human_bytes(session.bytes_read()));
        println!("{prompt}: {} frames in {seconds:.2} s, {read} of weights read so far", film.count);
    }
    Ok(())
}
