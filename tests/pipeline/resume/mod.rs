//! A run that cannot be lost: whatever stops it, `talkie resume` ends in the same bytes, and nothing of anybody else's goes.

mod inputs;
mod kept;
mod killed;
#[cfg(unix)]
mod stopped;

use std::fs;
use std::path::PathBuf;

use talkie::media::{Rgb, write_png};

use crate::support::command::{Bench, film};

/// A bench with a picture on it, for the models that begin with one.
fn bench(model: &str) -> Bench {
    let bench = Bench::new(model);
    let data = (0..32 * 32).flat_map(|at| [(at % 32 * 8) as u8, (at / 32 * 8) as u8, 90]).collect();
    write_png(&bench.path("picture.png"), &Rgb { width: 32, height: 32, data }).expect("a picture");
    bench
}

/// `talkie generate` with events on stdout.
fn telling<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let mut all = film(arguments);
    all.push("--json");
    all
}

/// The folder of the only run there is.
fn run_folder(bench: &Bench) -> PathBuf {
    let runs = bench.runs();
    assert_eq!(runs.len(), 1, "{runs:?}");
    bench.path("home/runs").join(&runs[0])
}

/// The step at which the kept state goes on, where there is one.
fn next_step(bench: &Bench) -> Option<usize> {
    let run = bench.runs().into_iter().next()?;
    let bytes = fs::read(bench.path("home/runs").join(run).join("state.safetensors")).ok()?;
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).expect("a whole state");
    metadata.metadata().as_ref()?.get("next")?.parse().ok()
}

/// Waits until something is so.
#[track_caller]
fn until(what: &str, so: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !so() {
        assert!(start.elapsed().as_secs() < 60, "waited for {what}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
