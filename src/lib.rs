//! talkie turns a prompt into a film with sound, on its user's own machine, with published open-weights models.
//!
//! The stable part of the library is what stands here by name: a [`Session`] is opened with a [`ModelChoice`] and a [`Budget`]
//! of memory; it settles a [`Plan`] for a [`Request`] and makes a [`Film`]; what happens on the way is an [`Event`], what goes
//! wrong an [`Error`]. The other modules are public for the command and for tests, and change without notice: `ARCHITECTURE.md`
//! is the way through them.

#[doc(hidden)]
pub mod audio;
#[doc(hidden)]
pub mod compute;
pub mod error;
#[doc(hidden)]
pub mod families;
#[doc(hidden)]
pub mod files;
pub mod fps;
#[doc(hidden)]
pub mod hub;
#[doc(hidden)]
pub mod media;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod nn;
#[doc(hidden)]
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod request;
#[doc(hidden)]
pub mod sampling;
#[doc(hidden)]
pub mod tools;
#[doc(hidden)]
pub mod weights;

pub use audio::Waveform;
pub use error::{Error, Result};
pub use media::Rgb;
pub use pipeline::output::Film;
pub use pipeline::{OnEvent, Session};
pub use plan::{Budget, Machine, Plan};
pub use progress::Event;
pub use request::{Condition, ModelChoice, Request};

/// The README's lines of library use, so that they compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadmeDoctests;
