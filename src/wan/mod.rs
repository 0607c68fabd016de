//! The Wan family: Wan 2.1 and Wan 2.2, text and image to video.

pub mod vae;
