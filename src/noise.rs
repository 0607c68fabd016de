//! Noise on the host, the same as `torch.Generator("cpu")` makes.
