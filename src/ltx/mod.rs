//! LTX-2 (Lightricks, 2026): pictures and sound from one denoising, in the releases 2.0 and 2.3.

pub mod upsampler;
pub mod vae;
