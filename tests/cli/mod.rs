//! The command, as a person and as a program meet it.

mod bad_input;
mod command;
mod models;
mod readme;
