//! Text to token ids.

use std::path::Path;

use crate::error::{Error, Result};

/// The longest text that is tokenized, in bytes. The encoders read some 512 tokens: about 2 kB.
pub const MAX_BYTES: usize = 100_000;

/// The largest `tokenizer.json` that is read, in bytes. That of UMT5, with 256,000 tokens, has 17 MB.
const MAX_FILE: u64 = 1 << 28;

/// The token that ends every text of a T5 vocabulary.
const END: &str = "</s>";

/// The tokens of one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Their ids, the end of the text included, not padded.
    pub ids: Vec<u32>,
    /// How many tokens of the text did not fit and are left out.
    pub cut: usize,
}

/// A SentencePiece tokenizer in the `tokenizer.json` form, as the Wan repositories have it.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    end: u32,
}

impl Tokenizer {
    /// Opens the `tokenizer.json` of a folder.
    ///
    /// # Errors
    /// There is none, it is broken, or it has no `</s>`.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            let error = Error::failed(format!("there is no `tokenizer.json` in {}", folder.display()));
            return Err(if folder.join("spiece.model").is_file() {
                error.hint("`spiece.model` alone is not enough: fetch `tokenizer.json` from the same repository")
            } else {
                error.hint("fetch the folder `tokenizer` of the model again")
            });
        }
        let broken = || {
            Error::failed(format!("this is not a tokenizer that talkie can read: {}", path.display()))
                .hint("fetch the file again: a download that broke off is the usual reason")
        };
        if path.metadata().is_ok_and(|file| file.len() > MAX_FILE) {
            return Err(broken().because(format!("it has more than {MAX_FILE} bytes")));
        }
        let mut inner = tokenizers::Tokenizer::from_file(&path).map_err(|cause| broken().because(cause))?;
        // The file may carry the length and padding of whoever saved it; the model's own are the caller's to give.
        inner.with_truncation(None).map_err(|cause| broken().because(cause))?;
        inner.with_padding(None);
        let end = inner.token_to_id(END).ok_or_else(|| {
            Error::failed(format!("the tokenizer has no `{END}`, so it is none of T5's: {}", path.display()))
                .hint("take the folder `tokenizer` from the model's own repository")
        })?;
        Ok(Self { inner, end })
    }

    /// Turns a text into at most `max_length` tokens, the last of them the end of the text.
    ///
    /// # Errors
    /// A text of more than [`MAX_BYTES`], no room for a single token, or one that the tokenizer cannot take.
    pub fn encode(&self, text: &str, max_length: usize) -> Result<Tokens> {
        if text.len() > MAX_BYTES {
            return Err(Error::usage(format!("the prompt has {} bytes: {MAX_BYTES} at most", text.len()))
                .hint("shorten it: of a long prompt only the first few hundred words are read"));
        }
        if max_length == 0 {
            return Err(Error::failed("no tokens are asked for: the end of the text alone takes one"));
        }
        let encoding = self.inner.encode_fast(text, true).map_err(|cause| {
            Error::failed("the tokenizer failed on the prompt")
                .because(cause)
                .hint("fetch the folder `tokenizer` again")
        })?;
        let mut ids = encoding.get_ids().to_vec();
        if ids.last() == Some(&self.end) {
            ids.pop();
        }
        let cut = (ids.len() + 1).saturating_sub(max_length);
        ids.truncate(max_length - 1);
        ids.push(self.end);
        Ok(Tokens { ids, cut })
    }
}
