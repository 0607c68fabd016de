//! LTX-2 (Lightricks, 2026): pictures and sound from one denoising, in the releases 2.0 and 2.3.

mod attention;
pub mod audio_vae;
mod block;
pub mod config;
pub mod connectors;
pub mod pack;
pub mod positions;
pub mod prompt;
pub mod rope;
mod time;
pub mod transformer;
pub mod vocoder;
