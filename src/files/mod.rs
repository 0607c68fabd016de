//! Atomic files, locks, talkie's data folder, and JSON of bounded size.

pub mod atomic;
mod home;
mod json;

pub use home::home;
pub use json::{parse_json, read_json};
