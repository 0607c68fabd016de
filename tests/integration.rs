//! The one test binary: a folder per folder of the sources, a module per subject.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(unreachable_pub, reason = "`pub` says what a helper module is for; nothing outside sees any of it")]
#![allow(clippy::print_stdout, reason = "figures, for whoever runs a test by itself")]

mod support;

mod cli;
mod compute;
mod families;
mod house;
mod hub;
mod media;
mod model;
mod nn;
mod pipeline;
mod plan;
mod sampling;
mod tools;
mod weights;
