//! talkie turns a prompt into a film with sound, on its user's own machine, with published open-weights models.
//!
//! # Layout
//!
//! [`pipeline`] is the place to begin. What a user asks for is a [`request::Request`]; what will happen is a [`plan::Plan`],
//! settled before any tensor exists; what happens on the way is a [`progress::Event`].

pub mod audio;
pub mod compute;
pub mod error;
pub mod families;
pub mod files;
pub mod fps;
pub mod hub;
pub mod media;
pub mod model;
pub mod nn;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod request;
pub mod sampling;
pub mod tools;
pub mod weights;

pub use error::{Error, Result};
pub use pipeline::Session;
pub use pipeline::output::Film;
pub use plan::{Budget, Machine, Plan};
pub use progress::Event;
pub use request::{Condition, ModelChoice, Request};

/// The README's lines of library use, so that they compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadmeDoctests;
