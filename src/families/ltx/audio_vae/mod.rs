//! The causal audio autoencoder of LTX-2 (Lightricks, 2026): mel spectrograms to latents and back.
//!
//! A mel spectrogram is (1, channels, rows, bins), with time along the rows. A latent row holds four rows,
//! the first latent row one. The transformer works on tokens, one per latent row, normalised to mean 0 and
//! standard deviation 1.

mod blocks;
mod config;
mod decoder;
mod encoder;
mod statistics;

pub use self::config::{COMPRESSION, Config};
pub use self::decoder::Decoder;
pub use self::encoder::Encoder;
