//! Sessions, runs and films.

pub mod library;
mod memory;
mod resume;
mod session;
mod step_cache;
mod toybox;
