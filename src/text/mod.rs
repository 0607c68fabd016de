//! A prompt as text embeddings.

pub mod clean;
pub mod gemma3;
pub mod tokenize;
pub mod umt5;
