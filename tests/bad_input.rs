//! What a user or a foreign file may get wrong, through the built command: one clear error, and nothing half-written.

#![allow(clippy::print_stdout, reason = "says which case is at fault")]

mod decoding;
mod model;
mod numbers;
mod output;
mod pictures;
mod runs;
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
