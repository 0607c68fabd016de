//! SentencePiece tokenizers in GGUF metadata, as llama.cpp writes them.

use std::collections::HashMap;
use std::path::Path;

use super::MAGIC;
use super::metadata::{List, Metadata};
use crate::error::{Error, Result};
use crate::weights::file::File;

/// Prefix of the keys.
const KEYS: &str = "tokenizer.ggml.";
/// Most pieces. UMT5 has a quarter of a million.
const MOST: usize = 1 << 20;
/// Most bytes of all pieces together, or of the character map: each prefix of each piece gets an entry in a
/// table. UMT5's pieces have about two million.
const MOST_BYTES: usize = 8 << 20;

const ADVICE: &str =
    "put the `tokenizer.json` of the same model beside the file, or take a GGUF file that llama.cpp converted";

/// A SentencePiece model: its pieces, by id, and the normalisation of text.
#[derive(Debug, Clone, PartialEq)]
pub struct Pieces {
    /// The pieces.
    pub tokens: Vec<String>,
    /// The log-probability of each.
    pub scores: Vec<f32>,
    /// The type of each.
    pub types: Vec<PieceType>,
    /// The precompiled character map of SentencePiece; empty without one.
    pub map: Vec<u8>,
    /// Whether a space is put before a text that has none.
    pub space_before: bool,
    /// Whether runs of spaces become one.
    pub one_space: bool,
    /// The piece for unknown characters.
    pub unknown: usize,
    /// The end-of-text piece, if the file has one.
    pub end: Option<usize>,
}

/// The type of a piece, by SentencePiece's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceType {
    /// 1, text; or 6, a byte, which is text here too.
    Text,
    /// 2, 3 and 4: matched only if its name is written out.
    Special,
    /// 5: padding of the list to the rows of the embedding table.
    Unused,
}

impl Pieces {
    /// The pieces in a GGUF file; `None` if it has none, or is of another format.
    ///
    /// # Errors
    /// Pieces of another kind than T5's and UMT5's, lists of other lengths, or a file that cannot be opened.
    /// Nothing is allocated beyond a small multiple of the lists' bytes in the file.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let file = File::open(path)?;
        if !file.bytes().starts_with(MAGIC) || !file.metadata().contains_key(&format!("{KEYS}model")) {
            return Ok(None);
        }
        let (_, _, metadata) = super::begin(file.bytes())?;
        Self::of(&metadata).map(Some).map_err(|cause| {
            let advice = cause.advice().unwrap_or(ADVICE).to_owned();
            Error::failed(format!("cannot use the tokenizer in {}", path.display())).because(cause).hint(advice)
        })
    }

    fn of(Metadata { metadata, lists }: &Metadata<'_>) -> Result<Self> {
        let word = |key: &str| metadata.get(&format!("{KEYS}{key}")).map(String::as_str);
        let list = |key: &str| lists.get(&format!("{KEYS}{key}"));
        match word("model") {
            Some("t5") => {}
            other => {
                let other = other.unwrap_or_default();
                return Err(Error::failed(format!("it is of the kind `{other}`, and talkie reads `t5` out of GGUF")));
            }
        }
        let tokens: Vec<String> = values(list("tokens"), "tokens", List::strings)?;
        let scores: Vec<f32> = values(list("scores"), "scores", List::floats)?;
        let types: Vec<i32> = values(list("token_type"), "token_type", List::integers)?;
        let map = match list("precompiled_charsmap") {
            Some(map) => values(Some(map), "precompiled_charsmap", |map| Some(map.bytes()?.to_vec()))?,
            None => Vec::new(),
        };
        let pieces = Self {
            map,
            types: types.into_iter().map(PieceType::of).collect::<Result<_>>()?,
            space_before: flag(metadata, "add_space_prefix")?,
            one_space: flag(metadata, "remove_extra_whitespaces")?,
            unknown: id(word("unknown_token_id"), "unknown_token_id", tokens.len())?.unwrap_or(2),
            end: id(word("eos_token_id"), "eos_token_id", tokens.len())?,
            tokens,
            scores,
        };
        pieces.check()?;
        Ok(pieces)
    }

    /// Refuses lists that contradict each other.
    fn check(&self) -> Result<()> {
        let (count, scores, types) = (self.tokens.len(), self.scores.len(), self.types.len());
        if scores != count || types != count || self.unknown >= count {
            return Err(Error::failed(format!("it has {count} pieces, {scores} scores and {types} types")));
        }
        if let Some(bad) = self.scores.iter().find(|score| !score.is_finite()) {
            return Err(Error::failed(format!("one of its scores is {bad}")));
        }
        if self.tokens.iter().any(String::is_empty) {
            return Err(Error::failed("one of its pieces is empty"));
        }
        Ok(())
    }
}

impl PieceType {
    fn of(number: i32) -> Result<Self> {
        match number {
            1 | 6 => Ok(Self::Text),
            2..=4 => Ok(Self::Special),
            5 => Ok(Self::Unused),
            _ => Err(Error::failed(format!("one of its pieces is of the unknown type {number}"))),
        }
    }
}

/// A required list.
fn values<'a, T>(list: Option<&List<'a>>, key: &str, read: impl Fn(&List<'a>) -> Option<Vec<T>>) -> Result<Vec<T>> {
    let list = list.ok_or_else(|| Error::failed(format!("it has no `{KEYS}{key}`")))?;
    // Before copying: a piece takes more memory than bytes in the file.
    let (count, bytes) = (list.len(), list.size());
    if bytes > MOST_BYTES + size_of::<u64>() * count.min(MOST) {
        return Err(Error::failed(format!("`{KEYS}{key}` is larger than that of any tokenizer: {bytes} bytes")));
    }
    read(list).ok_or_else(|| Error::failed(format!("`{KEYS}{key}` holds what does not belong there")))
}

/// A switch, on by default in T5.
fn flag(metadata: &HashMap<String, String>, key: &str) -> Result<bool> {
    match metadata.get(&format!("{KEYS}{key}")).map(String::as_str) {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(Error::failed(format!("its `{key}` is `{other}`"))),
    }
}

/// The id of a piece.
fn id(word: Option<&str>, key: &str, count: usize) -> Result<Option<usize>> {
    let wrong = |word| Error::failed(format!("its `{key}` is {word}, and it has {count} pieces"));
    word.map(|word| word.parse().ok().filter(|id| *id < count).ok_or_else(|| wrong(word))).transpose()
}
