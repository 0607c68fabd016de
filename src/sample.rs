//! Samplers: from a noisy latent and a predicted velocity to a less noisy latent.
