//! Sampling: noise, schedules, steppers, guidance scales. No model, no file.

pub mod noise;
mod scales;
pub mod schedule;
pub mod stepper;

pub use scales::Scales;
