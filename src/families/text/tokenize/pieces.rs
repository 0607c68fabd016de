//! The tokenizer in a text encoder's GGUF file, built as transformers builds it from the same SentencePiece
//! model.
//!
//! T5's sentinels (`<extra_id_0>`) are missing from such files and of no use in a prompt: here they are plain
//! text.

use std::path::Path;

use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Precompiled;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::{AddedToken, Tokenizer};

use super::guard::{broken, guarded};
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};
use crate::weights::gguf::{PieceType, Pieces};

const COPY: &str = "put the `tokenizer.json` of the model's own repository into a folder `tokenizer` beside the file";

/// Opens the tokenizer in a file.
pub(super) fn open(path: &Path) -> Result<Tokenizer> {
    let none = || Error::failed(format!("there is no tokenizer in {}", path.display())).hint(COPY);
    let pieces = Pieces::read(path)?.ok_or_else(none)?;
    let (end, mark) = (pieces.end.map(|end| pieces.tokens[end].as_str()), Vocabulary::T5.mark());
    if end.is_some_and(|end| end != mark) {
        let end = end.unwrap_or_default();
        return Err(Error::failed(format!(
            "the end of a text must be `{mark}`, not `{end}`, in the tokenizer of {}",
            path.display()
        ))
        .hint(COPY));
    }
    guarded(|| build(pieces)).map_err(|cause| broken(path, cause).hint(COPY))
}

fn build(pieces: Pieces) -> tokenizers::Result<Tokenizer> {
    // Unused pieces at the end are padding, and their score would count as that of the rarest piece.
    let last = pieces.types.iter().rposition(|kind| *kind != PieceType::Unused).unwrap_or(0);
    let special = pieces.tokens.iter().zip(&pieces.types).filter(|(_, kind)| **kind == PieceType::Special);
    let special: Vec<_> = special.map(|(token, _)| AddedToken::from(token.as_str(), true)).collect();
    let scored = pieces.tokens.into_iter().zip(pieces.scores.into_iter().map(f64::from));
    let scored = scored.take(1 + last.max(pieces.unknown)).collect();
    let mut made = Tokenizer::new(Unigram::from(scored, Some(pieces.unknown), false)?);
    if !pieces.map.is_empty() {
        made.with_normalizer(Some(characters(&pieces.map)?))?;
    }
    let before = if pieces.space_before { PrependScheme::Always } else { PrependScheme::Never };
    let words = PreTokenizerWrapper::Metaspace(Metaspace::new('▁', before, true));
    made.with_pre_tokenizer(Some(if pieces.one_space {
        PreTokenizerWrapper::Sequence(Sequence::new(vec![WhitespaceSplit.into(), words]))
    } else {
        words
    }));
    made.add_special_tokens(special)?;
    Ok(made)
}

/// Parses a character map: the length of a table in bytes, the table, and the strings that it points to.
fn characters(map: &[u8]) -> tokenizers::Result<Precompiled> {
    let table = map.split_first_chunk().map(|(length, rest)| (u32::from_le_bytes(*length) as usize, rest.len()));
    // The crate allocates as many entries as the length says, and reads the first without a check.
    match table {
        Some((length, rest)) if (4..=rest).contains(&length) && length % 4 == 0 => Ok(Precompiled::from(map)?),
        _ => Err("the character map is cut short".into()),
    }
}
