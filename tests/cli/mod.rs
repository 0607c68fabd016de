//! The command, as a person and as a program meet it.

mod bad_input;
mod command;
mod golden;
mod models;
mod readme;
