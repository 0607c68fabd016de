//! What a user or a foreign file may get wrong, through the built command: one clear error, and nothing half-written.

#![allow(clippy::print_stdout, reason = "says which case is at fault")]

mod autoencoders;
mod decoding;
mod formats;
mod model;
mod numbers;
mod output;
mod pictures;
mod runs;
mod sound;
mod weights;

use crate::support::command::{Bench, Done};

/// What is wrong, how it is made so, and words that the error must have.
type Case<'a> = (&'a str, &'a dyn Fn(&Bench), &'a [&'a str]);

/// Spoils a copy of a fixture in one way at a time, and sees that a film of it is refused with exit code 1.
#[track_caller]
fn refused(fixture: &str, arguments: &[&str], cases: &[Case<'_>]) {
    for (name, spoil, words) in cases {
        println!("{name}");
        let bench = Bench::new(fixture);
        spoil(&bench);
        nothing_left(&bench, bench.generate(arguments).refused(1, words));
    }
}

/// Nothing is under the output's name nor beside it.
#[track_caller]
fn nothing_left(bench: &Bench, done: &Done) {
    assert_eq!(bench.left(), [""; 0], "{done}");
}

#[test]
fn programs_get_the_error_as_an_event() {
    let bench = Bench::new("wan21-t2v");
    let done = bench.generate(&["--size", "7x32", "--json"]);
    assert_eq!(done.code, Some(2), "{done}");
    let event: serde_json::Value = serde_json::from_str(&done.stdout).expect("one JSON object");
    assert_eq!(
        (event["event"].as_str(), event["message"].as_str().map(|text| text.contains("width"))),
        (Some("error"), Some(true))
    );
}

#[test]
fn other_commands_name_what_is_wrong_too() {
    let bench = Bench::new("wan21-t2v");
    let table: &[(&[&str], i32, &[&str])] = &[
        (&["models", "show", "wan3"], 2, &["wan3", "talkie models"]),
        (&["models", "pull", "org/name"], 1, &["org/name", "HF_HUB_OFFLINE"]),
        (&["generat", "a fox"], 2, &["generat", "generate"]),
        (&["generate", "a fox", "--stesp", "3"], 2, &["--stesp", "--steps"]),
        (&["generate", "a fox", "another"], 2, &["another"]),
        (&["decode", "latents", "-m", "model"], 2, &["--output"]),
    ];
    for (arguments, code, words) in table {
        nothing_left(&bench, bench.run(arguments).refused(*code, words));
    }
}
