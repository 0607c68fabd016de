//! Where a model's tokenizer is: in a file of its own, or in the GGUF file of its text encoder.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::component::{Component, Model, component};
use crate::error::{Error, Result};
use crate::weights::gguf::Pieces;

const CLASS: &str = "T5TokenizerFast";

/// Whether a folder has a tokenizer in it.
pub(super) fn is_in(folder: &Path) -> bool {
    folder.join("tokenizer.json").is_file()
}

/// The tokenizer of UMT5 for a folder of pieces: where Wan's authors put it, or diffusers does, or beside the pieces; failing
/// that, the one in a file of the text encoder.
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

/// Why a model without a tokenizer makes no film.
pub(super) fn missing(model: &Model) -> Error {
    let encoder = model.find("text_encoder").and_then(|encoder| encoder.files.first());
    let encoder = encoder.map_or_else(String::new, |file| format!(", and none is in {}", file.path.display()));
    let place = model.folder.display();
    Error::failed(format!("no `tokenizer.json` in {place}, nor in `tokenizer` or `google/umt5-xxl` in it{encoder}")).hint(
        "copy the one of `google/umt5-xxl` there: every repository of Wan has it; or take the text encoder as a GGUF file \
         that llama.cpp converted, which brings its tokenizer",
    )
}

/// The tokenizer that the GGUF file of a text encoder brings, where it brings one.
///
/// # Errors
/// One that is damaged, or of another kind than UMT5's.
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
