//! The denoising loop.
