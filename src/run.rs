//! The folder of a run: its request, its state after each step, its latents.
