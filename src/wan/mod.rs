//! The Wan family: Wan 2.1 and Wan 2.2, text and image to video.

mod block;
pub mod config;
pub mod transformer;
pub mod vae;
