//! LTX-2 against diffusers.

mod audio;
mod audio_configs;
mod layers;
mod pipeline;
mod transformer;
mod vae;
