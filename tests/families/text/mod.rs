//! Text encoders and what is done with prompts before them.

mod gemma;
pub mod prompts;
