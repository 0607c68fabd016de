//! Sessions, runs and films.

pub mod library;
mod memory;
mod resume;
mod step_cache;
mod toybox;
