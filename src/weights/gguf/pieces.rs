//! The pieces of metadata that a text encoder reads, as llama.cpp puts them into its GGUF files.

use std::collections::HashMap;
use std::path::Path;

use super::MAGIC;
use super::metadata::{List, Metadata};
use crate::error::{Error, Result};
use crate::weights::file::File;

/// How the keys begin.
const KEYS: &str = "tokenizer.ggml.";
/// Pieces, at most. UMT5 has a quarter of a million.
const MOST: usize = 1 << 20;
/// Bytes of all pieces together, or of the character map, at most: of every beginning of every piece a table is made. UMT5's
/// pieces have about two million.
const MOST_BYTES: usize = 8 << 20;

const ADVICE: &str =
    "put the `tokenizer.json` of the same model beside the file, or take a GGUF file that llama.cpp converted";

/// A SentencePiece model: its pieces, by id, and what is done to a text before it is cut into them.
#[derive(Debug, Clone, PartialEq)]
pub struct Pieces {
    /// The pieces.
    pub tokens: Vec<String>,
    /// The logarithm of how likely each is.
    pub scores: Vec<f32>,
    /// What each is.
    pub types: Vec<PieceType>,
    /// The character map, in SentencePiece's own form; empty where characters stay as they are.
    pub map: Vec<u8>,
    /// Whether a text begins with a space, whether it does or not.
    pub space_before: bool,
    /// Whether spaces in a row are one.
    pub one_space: bool,
    /// The piece that stands for what is in no piece.
    pub unknown: usize,
    /// The piece that ends a text, where the file says one.
    pub end: Option<usize>,
}

/// What a piece is, by SentencePiece's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceType {
    /// 1, a piece of metadata; or 6, which stands for a byte and is text like the others here.
    Text,
    /// 2, 3 and 4: one that is in a text only where its name is written out.
    Special,
    /// 5: one that fills the list up to the encoder's rows.
    Unused,
}

impl Pieces {
    /// The pieces in a GGUF file; none where it has none, or is of another format.
    ///
    /// # Errors
    /// Pieces of another kind than T5's and UMT5's, lists that are not as long as they should be, and any file that cannot be
    /// opened. Nothing is allocated beyond a small multiple of what the lists take in the file.
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
            _ => Err(Error::failed(format!("one of its pieces is of type {number}, which there is not"))),
        }
    }
}

/// A list that has to be there.
fn values<'a, T>(list: Option<&List<'a>>, key: &str, read: impl Fn(&List<'a>) -> Option<Vec<T>>) -> Result<Vec<T>> {
    let list = list.ok_or_else(|| Error::failed(format!("it has no `{KEYS}{key}`")))?;
    // Before it is copied: a piece takes more room in memory than in the file.
    let (count, bytes) = (list.len(), list.size());
    if bytes > MOST_BYTES + size_of::<u64>() * count.min(MOST) {
        return Err(Error::failed(format!("`{KEYS}{key}` has {bytes} bytes: no tokenizer has as many")));
    }
    read(list).ok_or_else(|| Error::failed(format!("`{KEYS}{key}` holds what does not belong there")))
}

/// A switch, which T5 has on.
fn flag(metadata: &HashMap<String, String>, key: &str) -> Result<bool> {
    match metadata.get(&format!("{KEYS}{key}")).map(String::as_str) {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(Error::failed(format!("its `{key}` is `{other}`"))),
    }
}

/// The number of a piece.
fn id(word: Option<&str>, key: &str, count: usize) -> Result<Option<usize>> {
    let wrong = |word| Error::failed(format!("its `{key}` is {word}, and it has {count} pieces"));
    word.map(|word| word.parse().ok().filter(|id| *id < count).ok_or_else(|| wrong(word))).transpose()
}
