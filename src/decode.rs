//! Latents to frames, a latent frame at a time.
