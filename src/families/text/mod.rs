//! A prompt as text embeddings.

pub mod clean;
pub mod gemma3;
pub mod tokenize;
pub mod umt5;

use crate::error::{Error, Result};

/// More tokens than this in one prompt are refused: scores grow with the square.
const MAX_TOKENS: usize = 4096;

/// Whether an encoder can read these ids into so many rows.
fn check_ids(ids: &[u32], length: usize, vocab_size: usize) -> Result<()> {
    if ids.is_empty() || ids.len() > length || length > MAX_TOKENS {
        let n = ids.len();
        return Err(Error::failed(format!(
            "cannot embed {n} tokens in {length} rows: between one token and as many as rows, of at most {MAX_TOKENS}"
        )));
    }
    match ids.iter().find(|&&id| id as usize >= vocab_size) {
        None => Ok(()),
        Some(id) => Err(Error::failed(format!(
            "the tokenizer gives the id {id}, but the text encoder has only {vocab_size} embeddings"
        ))
        .hint("the folders `tokenizer` and `text_encoder` belong to different models: take both from one")),
    }
}
