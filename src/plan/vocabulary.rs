//! The words that a small model was trained with, and those of a prompt that are not among them.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use crate::error::{Context, Error, Result};

/// The file with the words of a model, in its folder.
const FILE: &str = "vocabulary.txt";

/// The largest such file, in bytes: a small model knows a few hundred words.
const MOST: u64 = 1 << 20;

/// How many unknown words are named.
const NAMED: usize = 4;

/// Words that show nothing, so that it does not matter whether a model knows them. Shorter ones are never looked at.
const EMPTY: &[&str] = &[
    "the", "this", "that", "these", "those", "and", "but", "nor", "with", "from", "for", "into", "onto", "are", "was",
    "were", "been", "being", "its", "she", "they", "them", "him", "her", "his", "their", "our", "you", "your", "who",
    "which", "what", "when", "where", "while", "then", "than", "there", "here", "does", "did", "has", "have", "had",
    "will", "would", "can", "could", "may", "might", "very", "some",
];

/// Every word that a model was trained with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    words: BTreeSet<String>,
}

impl Vocabulary {
    /// The words in the folder of a model, none where it has no file of them.
    ///
    /// # Errors
    /// A file that cannot be read, is no text, or is larger than a megabyte.
    pub fn in_folder(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let damaged = |cause: Error| {
            Error::failed(format!("these are not the words of a model: {}", path.display()))
                .because(cause)
                .hint("fetch the file again, or remove it: the film is the same without it")
        };
        let mut text = String::new();
        let read = std::fs::File::open(&path).and_then(|file| file.take(MOST + 1).read_to_string(&mut text));
        read.context(|| "it cannot be read as text").map_err(damaged)?;
        if text.len() as u64 > MOST {
            return Err(damaged(Error::failed("it is larger than a megabyte")));
        }
        let words: BTreeSet<String> = words(&text).collect();
        Ok((!words.is_empty()).then_some(Self { words }))
    }

    /// What a user should know who gave a prompt with words that the model was not trained with.
    pub(super) fn note(&self, prompt: &str) -> Option<String> {
        let mut unknown: Vec<String> = Vec::new();
        for word in words(prompt).filter(|word| shows(word) && !self.words.contains(word)) {
            if !unknown.contains(&word) {
                unknown.push(word);
            }
        }
        let named = unknown.iter().take(NAMED).map(|word| format!("`{word}`")).collect::<Vec<_>>();
        let more = unknown.len() - named.len();
        let last = if more > 0 { Some(format!("{more} more")) } else { None };
        let listed = match (named.split_last()?, last) {
            (_, Some(last)) => format!("{} and {last}", named.join(", ")),
            ((last, []), None) => last.clone(),
            ((last, others), None) => format!("{} and {last}", others.join(", ")),
        };
        Some(format!(
            "the model in the box was not taught {listed}: it knows balls and blocks; `talkie models` lists the ones that know \
             the world"
        ))
    }
}

/// The words of a text in small letters, without what is between and around them.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// Whether a word stands for something. Two letters do not in English, nor does what an apostrophe leaves.
fn shows(word: &str) -> bool {
    let short = word.len() < 3 && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    !short && !EMPTY.contains(&word)
}
