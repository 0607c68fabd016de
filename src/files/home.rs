//! talkie's data folder.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// talkie's data folder: `TALKIE_HOME`, or `talkie` in the platform's folder for data.
///
/// # Errors
/// No home folder is known.
pub fn home() -> Result<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(home) = from("TALKIE_HOME") {
        return Ok(home);
    }
    let data = if cfg!(target_os = "macos") {
        from("HOME").map(|home| home.join("Library/Application Support"))
    } else if cfg!(windows) {
        from("LOCALAPPDATA")
    } else {
        from("XDG_DATA_HOME").or_else(|| from("HOME").map(|home| home.join(".local/share")))
    };
    let unknown =
        || Error::failed("no folder for talkie's data is known").hint("set `TALKIE_HOME` to a folder of yours");
    Ok(data.ok_or_else(unknown)?.join("talkie"))
}
