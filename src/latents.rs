//! Latent files and their geometry.
