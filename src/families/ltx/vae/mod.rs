//! The video autoencoders of LTX-2, 2.0 and 2.3 (Lightricks, 2026).
//!
//! Encoder and decoder process a video as a stream, in memory that does not grow with its length. The encoder
//! is causal. The decoder looks ahead: each convolution over 3 frames waits for the next one, so many latent
//! frames go in before the first frame comes out, and [`DecodeStream::finish`] returns the last ones. No
//! layer sees more than three frames at once (no attention, no statistics over time), so a stream computes
//! exactly what the whole video would.

mod build;
mod check;
mod config;
mod decoder;
mod encoder;
mod flops;
mod layers;
mod network;
mod statistics;

pub use config::{Config, Each, Scaling};
pub use decoder::{DecodeStream, Decoder};
pub use encoder::{EncodeStream, Encoder};
pub(super) use layers::unfold;
pub use statistics::Statistics;

use crate::plan::Tiling;

/// diffusers' tiles for this family: 512·512 pixels, overlapping by 64.
pub const TILING: Tiling = Tiling { min_height: 512, min_width: 512, stride_height: 448, stride_width: 448 };
