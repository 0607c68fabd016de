//! The vocabularies of the text encoders, and their special tokens.

/// The vocabulary of a text encoder. It decides the special tokens around every text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vocabulary {
    /// T5 and its relatives: `</s>` after the text.
    T5,
    /// Gemma: `<bos>` before the text, and `<eos>` after it if the file's template has it. Google's has not.
    Gemma,
}

impl Vocabulary {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::T5 => "T5",
            Self::Gemma => "Gemma",
        }
    }

    pub(super) fn mark(self) -> &'static str {
        match self {
            Self::T5 => "</s>",
            Self::Gemma => "<bos>",
        }
    }
}
