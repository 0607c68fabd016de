//! The video autoencoders of LTX-2, 2.0 and 2.3 (Lightricks, 2026).
//!
//! Both halves are streams, in memory that does not grow with the length of a film. The encoder is causal. The decoder
//! looks ahead: every convolution of 3 frames waits for the frame after the one that it makes, so that many latent frames
//! go in before the first frame comes out, and [`DecodeStream::finish`] gives the rest. Nothing in either half looks at more
//! than three frames at once — no attention, no statistics over time — so the stream makes what the whole film would.

mod build;
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

/// diffusers' tiles for this family: 512·512 pixels, 64 of them shared with the next.
pub const TILING: Tiling = Tiling { min_height: 512, min_width: 512, stride_height: 448, stride_width: 448 };
