//! Finds a model's tokenizer: `tokenizer.json`, or the one in its text encoder's GGUF file.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::component::{Component, Model, component};
use crate::error::{Error, Result};
use crate::weights::gguf::Pieces;

const CLASS: &str = "T5TokenizerFast";

/// Whether a folder contains a tokenizer.
pub(super) fn is_in(folder: &Path) -> bool {
    folder.join("tokenizer.json").is_file()
}

/// The UMT5 tokenizer of a folder of loose files: where Wan's authors or diffusers put it, or beside the
/// files; otherwise the one in the text encoder's GGUF file.
///
/// # Errors
/// As [`of_file`].
pub(super) fn find(folder: &Path, encoder: &[PathBuf]) -> Result<Option<Component>> {
    let places = ["tokenizer", "google/umt5-xxl", "umt5-xxl", ""].map(|place| folder.join(place));
    match places.iter().find(|place| is_in(place)) {
        Some(place) => component(place, "tokenizer", CLASS).map(Some),
        None => Ok(encoder.iter().map(|path| of_file(path)).collect::<Result<Vec<_>>>()?.into_iter().flatten().next()),
    }
}

/// The error for a model without a tokenizer.
pub(super) fn missing(model: &Model) -> Error {
    let encoder = model.find("text_encoder").and_then(|encoder| encoder.files.first());
    let encoder = encoder.map_or_else(String::new, |file| format!(", and none is in {}", file.path.display()));
    let place = model.folder.display();
    Error::failed(format!("no `tokenizer.json` in {place}, nor in `tokenizer` or `google/umt5-xxl` in it{encoder}")).hint(
        "copy the one of `google/umt5-xxl` there: every repository of Wan has it; or use a text encoder as a GGUF file of \
         llama.cpp, which contains its tokenizer",
    )
}

/// The tokenizer in a text encoder's GGUF file, if any.
///
/// # Errors
/// A tokenizer that is damaged, or not UMT5's kind.
pub(super) fn of_file(path: &Path) -> Result<Option<Component>> {
    let found = Pieces::read(path)?.map(|_| Component {
        name: "tokenizer".into(),
        class: CLASS.into(),
        folder: path.to_owned(),
        config: Value::Null,
        files: Vec::new(),
        names: None,
        loras: Vec::new(),
    });
    Ok(found)
}
