//! The one test binary: a module per subject.

mod support;

mod catalogue;
mod hub;
mod layers;
mod media;
mod parity_pipeline;
mod parity_text;
mod parity_transformer;
mod parity_vae;
mod sampling;
