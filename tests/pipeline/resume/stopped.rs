//! Ctrl-C, and two processes on one run.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};

use super::{bench, next_step, run_folder, telling, until};
use crate::support::command::{Bench, files, film};

/// Enough steps for a test to come between.
const STEPS: &str = "400";

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
}

fn words(child: &mut Child) -> String {
    let mut text = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut text).expect("text");
    text
}

fn begin(bench: &Bench) -> Child {
    let child = bench.command(&film(&["--steps", STEPS])).spawn().expect("the command");
    until("a state", || next_step(bench).is_some_and(|next| next > 1));
    child
}

#[test]
fn ctrl_c_keeps_the_state_and_says_how_to_go_on() {
    let bench = bench("wan21-t2v");
    let mut child = begin(&bench);
    signal(&child, "-INT");
    let words = words(&mut child);
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{words}");
    assert!(words.contains("stopping after the current step"), "{words}");
    assert!(words.contains("stopped: `talkie resume` goes on from here"), "{words}");
    assert!(!words.contains("error"), "a wish is no error: {words}");
    assert_eq!(bench.left(), [""; 0], "nothing under the film's name, or beside it");

    // It goes on from the very step after the last, not from an earlier one.
    let next = next_step(&bench).expect("a state");
    let resumed = bench.run(&["resume", "--json"]);
    resumed.worked(&[]);
    let first = resumed.stdout.lines().find(|line| line.contains("advance") && line.contains("denoise"));
    assert!(first.expect("steps").contains(&format!("\"done\":{next},")), "{next}: {first:?}");

    let whole = super::bench("wan21-t2v");
    whole.generate(&["--steps", STEPS]).worked(&[]);
    let frames = |bench: &Bench| {
        let mut frames = files(&bench.path("out/film"));
        frames.remove("recipe.json");
        frames
    };
    assert!(frames(&bench) == frames(&whole), "another film");
    assert_eq!(bench.runs(), [""; 0]);
}

#[test]
fn ctrl_c_is_an_event_of_its_own() {
    let bench = bench("wan21-t2v");
    let mut child = bench.command(&telling(&["--steps", STEPS])).spawn().expect("the command");
    let mut events = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert!(events.any(|line| line.expect("a line").contains("\"stage\":\"denoise\",\"done\":3,")));
    signal(&child, "-INT");
    let last = events.last().expect("an event").expect("a line");
    assert!(last.contains("\"event\":\"stopped\"") && last.contains("talkie resume"), "{last}");
    assert_eq!(child.wait().expect("an end").code(), Some(130));
}

#[test]
fn ctrl_c_while_decoding_keeps_the_latents() {
    let bench = bench("wan21-t2v");
    let arguments = telling(&["--frames", "65", "--size", "128x128"]);
    let mut child = bench.command(&arguments).spawn().expect("the command");
    let mut events = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert!(events.any(|line| line.expect("a line").contains("\"stage\":\"decode\",\"done\":1,")));
    signal(&child, "-INT");
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    assert_eq!(bench.left(), [""; 0]);
    let resumed = bench.run(&["resume", "--json"]);
    resumed.worked(&[]);
    assert!(!resumed.stdout.contains("denoise"), "only the decode is left: {resumed}");
    assert_eq!(files(&bench.path("out/film")).len(), 65 + 1);
}

#[test]
fn a_second_process_is_refused() {
    let bench = bench("wan21-t2v");
    let mut child = begin(&bench);
    // It lives on, but gets no further while this test is looking.
    signal(&child, "-STOP");
    let name = bench.runs().remove(0);
    let number = child.id().to_string();
    bench.run(&["resume", &name]).refused(1, &["at work on the run", &name, &number]);
    bench.run(&["resume"]).refused(1, &["at work on the run", &name]);
    // A run that nobody is at work on is chosen before a younger one that somebody is at work on.
    let other = super::bench("wan21-t2v");
    let mut older = begin(&other);
    older.kill().expect("a kill");
    older.wait().expect("an end");
    let moved = bench.path("home/runs/1-1");
    std::fs::rename(run_folder(&other), &moved).expect("a move");
    bench.run(&["resume"]).worked(&["going on with the run 1-1"]);
    assert!(!moved.exists());
    assert!(other.path("out/film").is_dir(), "the film goes where it was asked for");
    // The lock ends with the process, however that ends.
    child.kill().expect("a kill");
    child.wait().expect("an end");
    bench.run(&["resume"]).worked(&["going on with the run", &name]);
    assert_eq!(bench.runs(), [""; 0]);
}
