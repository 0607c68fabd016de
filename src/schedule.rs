//! Schedules: the sigmas and timesteps of a run, as functions of numbers.
