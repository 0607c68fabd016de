//! The licence of a model's weights, said once where it asks more of a user than to name the authors.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::model::catalogue::Entry;
use crate::progress::Progress;

/// Licences that ask for no more than to be given along with the weights.
const FREE: [&str; 2] = ["Apache-2.0", "MIT"];

/// Says the licence of a model in a note, unless it was said on this machine before, in the same words.
///
/// What was said is kept under talkie's own folder. Where that cannot be written, it is said again the next time: that is
/// no reason to make no film.
///
/// # Errors
/// A stop from the callback.
pub(super) fn say_once(entry: &Entry, home: Option<&Path>, progress: &mut Progress<'_>) -> Result<()> {
    let licence = &entry.licence;
    if FREE.contains(&licence.name.as_str()) {
        return Ok(());
    }
    let terms = licence.terms.as_deref().map_or_else(String::new, |terms| format!(": {terms}"));
    let words = format!("the weights of {} are under {}, {}{terms}", entry.name, licence.name, licence.url);
    let file: Option<PathBuf> = home.map(|home| home.join("licences").join(&entry.name));
    if file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).is_some_and(|said| said == words) {
        return Ok(());
    }
    progress.note(words.clone())?;
    if let Some(file) = file {
        let _ = file.parent().map(std::fs::create_dir_all);
        let _ = std::fs::write(file, words);
    }
    Ok(())
}
