//! Text encoding: a prompt to text embeddings.

pub mod clean;
pub mod gemma3;
pub mod tokenize;
pub mod umt5;

use crate::error::{Error, Result};

/// The most tokens of a prompt: attention scores grow with the square.
const MAX_TOKENS: usize = 4096;

/// Refuses ids that do not fit in `length` rows or in the embedding table.
fn check_ids(ids: &[u32], length: usize, vocab_size: usize) -> Result<()> {
    if ids.is_empty() || ids.len() > length || length > MAX_TOKENS {
        let n = ids.len();
        return Err(Error::failed(format!(
            "cannot embed {n} tokens in {length} rows: the tokens must be 1 to the number of rows, which is at most {MAX_TOKENS}"
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
