//! Text to token ids.

mod pieces;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::normalizers::Precompiled;

use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::request::MAX_PROMPT;

/// The longest text that is tokenized, in bytes: a prompt that has grown as far as cleaning and normal forms can make it.
pub const MAX_BYTES: usize = 4 * MAX_PROMPT;

/// The longest `tokenizer.json` that is read, in bytes. UMT5's has 17 million.
const MAX_FILE: u64 = 256 << 20;

/// Whose tokens they are. It decides the token that is put to every text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vocabulary {
    /// T5 and its sisters: `</s>` after the text.
    T5,
    /// Gemma: `<bos>` before the text, and `<eos>` after it where the file's own template has it. Google's has not.
    Gemma,
}

impl Vocabulary {
    fn name(self) -> &'static str {
        match self {
            Self::T5 => "T5",
            Self::Gemma => "Gemma",
        }
    }

    fn mark(self) -> &'static str {
        match self {
            Self::T5 => "</s>",
            Self::Gemma => "<bos>",
        }
    }
}

/// The tokens of one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Their ids, the tokens of the vocabulary at the end or the beginning included, not padded: the encoders pad, T5's
    /// after the text and Gemma's before it.
    pub ids: Vec<u32>,
    /// How many tokens of the text did not fit and are left out.
    pub cut: usize,
}

/// A SentencePiece tokenizer in the `tokenizer.json` form, as the models' repositories have it, or in that of llama.cpp.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    before: Option<u32>,
    after: Option<u32>,
}

impl Tokenizer {
    /// Opens the `tokenizer.json` of a folder, or the tokenizer in a GGUF file of a text encoder.
    ///
    /// # Errors
    /// There is none, it is broken, or it has not the token that its vocabulary needs.
    pub fn open(place: &Path, vocabulary: Vocabulary) -> Result<Self> {
        if place.is_file() {
            return Self::of(pieces::open(place)?, vocabulary, place);
        }
        let path = place.join("tokenizer.json");
        let bytes = read(place, &path)?;
        let open = || {
            check_normalizer(&bytes)?;
            let mut inner = tokenizers::Tokenizer::from_bytes(&bytes)?;
            // The file may carry the length and padding of whoever saved it; the model's own are the caller's to give.
            inner.with_truncation(None)?.with_padding(None);
            Ok(inner)
        };
        Self::of(guarded(open).map_err(|cause| broken(&path, cause))?, vocabulary, &path)
    }

    fn of(inner: tokenizers::Tokenizer, vocabulary: Vocabulary, path: &Path) -> Result<Self> {
        let mark = inner.token_to_id(vocabulary.mark()).ok_or_else(|| {
            let (mark, name) = (vocabulary.mark(), vocabulary.name());
            Error::failed(format!("the tokenizer has no `{mark}`, so it is none of {name}'s: {}", path.display()))
                .hint("take the folder `tokenizer` from the model's own repository")
        })?;
        let (before, after) = match vocabulary {
            Vocabulary::T5 => (None, Some(mark)),
            Vocabulary::Gemma => (Some(mark), guarded(|| ending(&inner)).map_err(|cause| broken(path, cause))?),
        };
        Ok(Self { inner, before, after })
    }

    /// Turns a text into at most `max_length` tokens, those of the beginning and the end among them. What does not fit is cut
    /// from the end of the text.
    ///
    /// # Errors
    /// A text of more than [`MAX_BYTES`], no room for the tokens that every text has, or one that the tokenizer fails on.
    pub fn encode(&self, text: &str, max_length: usize) -> Result<Tokens> {
        if text.len() > MAX_BYTES {
            return Err(Error::usage(format!("the prompt has {} bytes: {MAX_BYTES} at most", text.len()))
                .hint("shorten it: of a long prompt only the first few hundred words are read"));
        }
        let marks = self.before.iter().chain(&self.after).count();
        let Some(room) = max_length.checked_sub(marks) else {
            return Err(Error::failed(format!(
                "{max_length} tokens are asked for: the marks of a text alone take {marks}"
            )));
        };
        // Without the file's own special tokens: those that the vocabulary has are added here, after the cut.
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
    /// The ids of several texts, as [`Tokenizer::encode`] gives them. Says aloud which was cut.
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

fn broken(path: &Path, cause: tokenizers::Error) -> Error {
    Error::failed(format!("this is not a tokenizer that talkie can read: {}", path.display()))
        .because(cause)
        .hint("fetch the file again: a download that broke off is the usual reason")
}

/// The `<eos>` that the file's own template puts after every text, if it does.
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

/// Looks through the character maps of a `tokenizer.json`: the crate panics on one that it cannot parse, and makes room for
/// as many entries as the map claims to have.
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

/// The length of its table that a character map begins with: four bytes, the least significant first, in base 64.
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

/// Turns a panic inside the tokenizers crate into an error: its tables come from a file, and it trusts them.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("its tables contradict each other".into()))
}
