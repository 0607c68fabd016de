//! What a film would cost, before it is made: nothing is loaded and nothing is fetched.
//!
//! ```sh
//! cargo run --example plan -- wan2.1-t2v-1.3b
//! ```

#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use talkie::plan::human_bytes;
use talkie::{Machine, ModelChoice, Request, Result, Session};

fn main() -> Result<()> {
    let model = std::env::args().nth(1).unwrap_or_else(|| "tests/fixtures/wan21-t2v".into());
    let choice = ModelChoice { model: Some(model), ..ModelChoice::default() };
    let request = Request { prompt: "a red fox walks through the snow".into(), ..Request::default() };
    let plan = Session::look(&Machine::here(), &choice, &request)?;
    println!(
        "{}: {}x{}, {:.2} s, {} tokens",
        plan.model,
        plan.shape.width,
        plan.shape.height,
        plan.seconds(),
        plan.shape.tokens
    );
    for stage in &plan.stages {
        println!("{:<8} about {}", stage.stage.name(), human_bytes(stage.peak()));
    }
    Ok(())
}
