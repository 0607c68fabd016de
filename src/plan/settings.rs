//! The settings that the stages of a family read: what of a plan concerns networks.

use serde::{Deserialize, Serialize};

use super::{Sound, Streams, Tiling};
use crate::fps::Fps;

/// The settings that the stages of a family read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Frames per second.
    pub fps: Fps,
    /// The soundtrack, where the model makes one.
    pub sound: Option<Sound>,
    /// Blocks of the transformer that skip self-attention under spatio-temporal guidance.
    pub stg_blocks: Vec<usize>,
    /// Whether video and audio are modulated by each other's timestep where they see each other, rather than by their own.
    pub cross_timestep: bool,
    /// H.264 compression of the first image before it is encoded, as a CRF; 0 for none.
    pub image_crf: u8,
    /// Tokens that a prompt may have.
    pub text_length: usize,
    /// Tiles of the video autoencoder, where it works in tiles.
    pub tiling: Option<Tiling>,
    /// Networks streamed from disk block by block.
    pub streams: Streams,
    /// Whether the transformer's 8-bit weights are multiplied with activations in 8 bits.
    pub fp8: bool,
    /// The device that computes.
    pub device: String,
    /// The type that it computes in.
    pub dtype: String,
}

impl Settings {
    /// Blocks of a streamed network that are in memory together: a device works on one while the next is copied to it.
    pub fn blocks_at_once(&self) -> usize {
        if self.device == "cpu" { 1 } else { 2 }
    }

    /// How often the scores of an attention are in memory, of `times` that a network writes them: a processor writes none.
    pub fn scores(&self, times: f64) -> f64 {
        if self.device == "cpu" { 0.0 } else { times }
    }
}
