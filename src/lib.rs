//! talkie turns a prompt into a film with sound, on its user's own machine, with published open-weights models.
//!
//! # Layout
//!
//! [`generate`] is the pipeline and the place to begin. What a user asks for is a [`request::Request`]; what will happen
//! is a [`plan::Plan`], settled before any tensor exists; what happens on the way is a [`progress::Event`].
//!
//! | level | modules |
//! |--:|---|
//! | 0 | [`error`], [`progress`], [`device`], [`part`] |
//! | 1 | [`weights`], [`nn`], [`latents`], [`noise`], [`schedule`], [`sample`], [`vae`], [`audio`], [`fps`], [`offload`], [`work`] |
//! | 2 | [`request`], [`catalogue`], [`model`], [`plan`], [`hub`], [`run`] |
//! | 3 | [`text`], [`family`], [`media`], [`provenance`] |
//! | 4 | [`wan`], [`ltx`] |
//! | 5 | [`families`], [`guidance`], [`condition`], [`denoise`], [`decode`], [`preview`], [`output`], [`quantize`] |
//! | 6 | [`generate`], [`mod@bench`] |
//!
//! A module uses its own level and those above it in this table, never one below.

pub mod audio;
pub mod bench;
pub mod catalogue;
pub mod condition;
pub mod decode;
pub mod denoise;
pub mod device;
pub mod error;
pub mod families;
pub mod family;
pub mod fps;
pub mod generate;
pub mod guidance;
pub mod hub;
pub mod latents;
pub mod ltx;
pub mod media;
pub mod model;
pub mod nn;
pub mod noise;
pub mod offload;
pub mod output;
pub mod part;
pub mod plan;
pub mod preview;
pub mod progress;
pub mod provenance;
pub mod quantize;
pub mod request;
pub mod run;
pub mod sample;
pub mod schedule;
pub mod text;
pub mod vae;
pub mod wan;
pub mod weights;
pub mod work;

pub use error::{Error, Result};
pub use generate::Pipeline;
pub use output::Film;
pub use progress::Event;
pub use request::Request;

/// The README's lines of library use, so that they compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadmeDoctests;
