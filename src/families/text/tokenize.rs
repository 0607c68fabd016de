//! Text to token ids.

mod guard;
mod pieces;
mod vocabulary;

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::normalizers::Precompiled;

use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::request::MAX_PROMPT;
use guard::{broken, guarded};
pub use vocabulary::Vocabulary;

/// The longest text that is tokenized, in bytes: the most that cleaning and normal forms can make of a prompt.
pub const MAX_BYTES: usize = 4 * MAX_PROMPT;

/// The longest `tokenizer.json` that is read, in bytes. UMT5's has 17 million.
const MAX_FILE: u64 = 256 << 20;

/// The tokens of one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids with the vocabulary's special tokens, without padding: the encoders pad, T5's after the text
    /// and Gemma's before it.
    pub ids: Vec<u32>,
    /// Number of tokens of the text that did not fit and were cut.
    pub cut: usize,
}

/// A SentencePiece tokenizer, from a `tokenizer.json` or from a GGUF file of llama.cpp.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    before: Option<u32>,
    after: Option<u32>,
}

impl Tokenizer {
    /// Opens the `tokenizer.json` of a folder, or the tokenizer in a text encoder's GGUF file.
    ///
    /// # Errors
    /// A tokenizer that is missing, broken, or without the vocabulary's special token.
    pub fn open(place: &Path, vocabulary: Vocabulary) -> Result<Self> {
        if place.is_file() {
            return Self::of(pieces::open(place)?, vocabulary, place);
        }
        let path = place.join("tokenizer.json");
        let bytes = read(place, &path)?;
        let open = || {
            check_normalizer(&bytes)?;
            let mut inner = tokenizers::Tokenizer::from_bytes(&bytes)?;
            // The file may set a length and padding; here the caller decides both.
            inner.with_truncation(None)?.with_padding(None);
            Ok(inner)
        };
        Self::of(guarded(open).map_err(|cause| broken(&path, cause))?, vocabulary, &path)
    }

    fn of(inner: tokenizers::Tokenizer, vocabulary: Vocabulary, path: &Path) -> Result<Self> {
        let mark = inner.token_to_id(vocabulary.mark()).ok_or_else(|| {
            let (mark, name) = (vocabulary.mark(), vocabulary.name());
            Error::failed(format!("not a {name} tokenizer: it has no `{mark}`: {}", path.display()))
                .hint("take the folder `tokenizer` from the model's own repository")
        })?;
        let (before, after) = match vocabulary {
            Vocabulary::T5 => (None, Some(mark)),
            Vocabulary::Gemma => (Some(mark), guarded(|| ending(&inner)).map_err(|cause| broken(path, cause))?),
        };
        Ok(Self { inner, before, after })
    }

    /// Tokenizes a text into at most `max_length` tokens, special tokens included. A longer text is cut at
    /// its end.
    ///
    /// # Errors
    /// A text of more than [`MAX_BYTES`], no room for the special tokens, or a failure of the tokenizer.
    pub fn encode(&self, text: &str, max_length: usize) -> Result<Tokens> {
        if text.len() > MAX_BYTES {
            return Err(Error::usage(format!("the prompt must be {MAX_BYTES} bytes at most, not {}", text.len()))
                .hint("shorten it: of a long prompt only the first few hundred words are read"));
        }
        let marks = self.before.iter().chain(&self.after).count();
        let Some(room) = max_length.checked_sub(marks) else {
            return Err(Error::failed(format!(
                "a length of {max_length} tokens has no room for {marks} special tokens"
            )));
        };
        // Without the file's special tokens: the vocabulary's are added here, after the cut.
        let encoding = guarded(|| self.inner.encode_fast(text, false)).map_err(|cause| {
            Error::failed("the tokenizer failed on the prompt")
                .because(cause)
                .hint("fetch the folder `tokenizer` of the model again")
        })?;
        let found = encoding.get_ids();
        let kept = found.len().min(room);
        let ids = self.before.iter().chain(&found[..kept]).chain(&self.after).copied().collect();
        Ok(Tokens { ids, cut: found.len() - kept })
    }
}

impl Tokenizer {
    /// The ids of several texts, each as from [`Tokenizer::encode`]. Reports a cut as a note.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], and a stop.
    pub fn encode_all(
        &self,
        texts: impl IntoIterator<Item = impl AsRef<str>>,
        max_length: usize,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Vec<u32>>> {
        let ids = texts.into_iter().map(|text| {
            let Tokens { ids, cut } = self.encode(text.as_ref(), max_length)?;
            if cut > 0 {
                progress.note(format!("the prompt is {cut} tokens too long: only its first {max_length} are read"))?;
            }
            Ok(ids)
        });
        ids.collect()
    }
}

/// The `<eos>` that the file's template puts after every text, if any.
fn ending(inner: &tokenizers::Tokenizer) -> tokenizers::Result<Option<u32>> {
    let marks = inner.encode_fast("", true)?;
    Ok(inner.token_to_id("<eos>").filter(|eos| marks.get_ids().last() == Some(eos)))
}

/// The bytes of a folder's `tokenizer.json`.
fn read(folder: &Path, path: &Path) -> Result<Vec<u8>> {
    if !path.is_file() {
        let error = Error::failed(format!("there is no `tokenizer.json` in {}", folder.display()));
        return Err(if folder.join("spiece.model").is_file() {
            error.hint("`spiece.model` alone is not enough: fetch `tokenizer.json` from the same repository")
        } else {
            error.hint("fetch the folder `tokenizer` of the model again")
        });
    }
    let what = || format!("cannot read the tokenizer {}", path.display());
    let size = std::fs::metadata(path).context(what)?.len();
    if size > MAX_FILE {
        return Err(Error::failed(what()).because(format!("it has {size} bytes, which no tokenizer has")));
    }
    std::fs::read(path).context(what)
}

/// Checks the character maps of a `tokenizer.json`: the crate panics on a broken one, and allocates as many
/// entries as the map claims.
fn check_normalizer(bytes: &[u8]) -> tokenizers::Result<()> {
    #[derive(Deserialize)]
    struct File {
        normalizer: Option<Value>,
    }
    let mut open: Vec<Value> = serde_json::from_slice::<File>(bytes)?.normalizer.into_iter().collect();
    while let Some(normalizer) = open.pop() {
        let map = normalizer.get("precompiled_charsmap");
        if map.and_then(Value::as_str).is_some_and(|map| claimed_bytes(map) > map.len() as u64) {
            return Err("the character map is cut short".into());
        }
        if map.is_some() || normalizer.get("type").is_some_and(|kind| kind == "Precompiled") {
            serde_json::from_str::<Precompiled>(&normalizer.to_string())?;
        }
        if let Some(Value::Array(inner)) = normalizer.get("normalizers") {
            open.extend(inner.iter().cloned());
        }
    }
    Ok(())
}

/// The table length at the start of a character map: four bytes, little-endian, in base64.
fn claimed_bytes(map: &str) -> u64 {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let bits = map.bytes().take(6).fold(0u64, |bits, c| bits << 6 | u64::from(digit(c)));
    u64::from(((bits >> 4) as u32).swap_bytes())
}
