//! Wan against diffusers.

mod pipeline;
mod transformer;
mod vae;
