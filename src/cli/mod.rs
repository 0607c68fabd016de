//! What was typed, turned into requests; one file per subcommand.
//!
//! stdout carries results only; bars and words go to stderr.

mod bench;
mod common;
mod decode;
mod doctor;
mod film;
mod generate;
mod inspect;
mod models;
mod quantize;
mod resume;
mod show;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Parser, Subcommand};
use talkie::error::{Error, Kind, Result};

/// A prompt in, a film out: open-weights video models on your own machine.
#[derive(Debug, Parser)]
#[command(name = "talkie", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a film from a prompt
    Generate(Box<generate::Args>),
    /// Make the film of latents that were saved
    Decode(decode::Args),
    /// Go on with a run that stopped
    Resume(resume::Args),
    /// List the models, show one, or fetch one
    Models(models::Args),
    /// Store the weights of a network in fewer bits
    Quantize(quantize::Args),
    /// Print the recipe that a film carries
    Inspect(inspect::Args),
    /// Measure where the time of a film goes, against what this machine can do
    Bench(Box<bench::Args>),
    /// Say what works on this machine and what does not
    Doctor(doctor::Args),
}

/// Runs the command: 0 done, 1 failed, 2 wrong usage, 130 stopped by the user.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let (result, json) = match cli.command {
        Command::Generate(args) => (generate::run(&args), args.shown.json),
        Command::Decode(args) => (decode::run(&args), args.shown.json),
        Command::Resume(args) => (resume::run(&args), args.json),
        Command::Models(args) => (models::run(&args), false),
        Command::Quantize(args) => (quantize::run(&args), false),
        Command::Inspect(args) => (inspect::run(&args), args.json),
        Command::Bench(args) => (bench::run(&args), args.json),
        Command::Doctor(args) => (doctor::run(&args), args.json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, json),
    }
}

fn fail(error: &Error, json: bool) -> ExitCode {
    let stopped = error.kind() == Kind::Stopped;
    if json {
        let name = if stopped { "stopped" } else { "error" };
        let event = serde_json::json!({ "event": name, "message": error.to_string(), "report": error.report() });
        // The reader may be gone; the exit code still tells.
        let _ = print(&event.to_string());
    }
    // What the user asked for is no error.
    match error.advice().filter(|_| stopped) {
        Some(advice) => say(&format!("stopped: {advice}")),
        None => say(&error.report()),
    }
    match error.kind() {
        Kind::Usage => ExitCode::from(2),
        Kind::Stopped => ExitCode::from(130),
        _ => ExitCode::FAILURE,
    }
}

/// A line of result, on stdout. A reader that closed early, as `head` does, is not an error.
fn print(line: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::failed("cannot write to the standard output").because(cause))
        }
        _ => Ok(()),
    }
}

/// A line of words, on stderr.
fn say(line: &str) {
    // Nobody reads it then: there is nowhere else to say so.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A value as the library reads it. Of an error clap shows the text alone, so the advice goes into it.
fn typed<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| advised(&error))
}

/// An amount of memory.
fn bytes(text: &str) -> Result<u64, String> {
    talkie::request::bytes(text).map_err(|error| advised(&error))
}

fn advised(error: &Error) -> String {
    error.advice().map_or_else(|| error.to_string(), |advice| format!("{error}: {advice}"))
}

/// A place that was found, or why it was not.
fn found(place: Result<PathBuf>) -> String {
    place.map_or_else(|error| error.to_string(), |path| path.display().to_string())
}

/// Whether somebody watches the bars.
fn watched() -> bool {
    std::io::stderr().is_terminal()
}
