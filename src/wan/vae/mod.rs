//! The causal video autoencoders of Wan 2.1 and Wan 2.2.
