//! The one test binary: a module per subject.

#![allow(unreachable_pub, reason = "`pub` says what a helper module is for; nothing outside sees any of it")]

mod support;

mod bad_input;
mod catalogue;
mod foreign;
mod hub;
mod layers;
mod media;
mod parity_pipeline;
mod parity_text;
mod parity_transformer;
mod parity_vae;
mod sampling;
