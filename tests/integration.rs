//! The one test binary: a module per subject.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(unreachable_pub, reason = "`pub` says what a helper module is for; nothing outside sees any of it")]
#![allow(clippy::print_stdout, reason = "figures, for whoever runs a test by itself")]

mod support;

mod bad_input;
mod catalogue;
mod cli;
#[cfg(feature = "cuda")]
mod cuda;
mod few_steps;
mod foreign;
mod foreign_ltx_audio;
mod gguf_tokenizer;
mod hub;
mod kernels;
mod keys;
mod layering;
mod layers;
mod layers_sound;
mod layouts;
mod library;
mod loras;
mod ltx_layers;
mod ltx_sampling;
mod media;
mod memory;
mod models;
mod offload;
mod parity_gemma;
mod parity_ltx_audio;
mod parity_ltx_pipeline;
mod parity_ltx_transformer;
mod parity_ltx_vae;
mod parity_pipeline;
mod parity_text;
mod parity_transformer;
mod parity_vae;
mod processor;
mod pth;
mod quantize;
mod quants;
mod resume;
mod sampling;
mod single_file;
mod step_cache;
mod toybox;
mod work;
