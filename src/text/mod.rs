//! A prompt as text embeddings.

pub mod clean;
pub mod tokenize;
pub mod umt5;
