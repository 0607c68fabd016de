//! Noise, schedules and steppers.

mod ltx;
mod schedules;
