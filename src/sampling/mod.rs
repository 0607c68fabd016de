//! Sampling as numbers: noise, schedules, steppers, guidance scales.

pub mod noise;
mod scales;
pub mod schedule;
pub mod stepper;

pub use scales::Scales;
