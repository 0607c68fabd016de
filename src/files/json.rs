//! JSON files of bounded size.

use std::path::Path;

use serde_json::Value;

use crate::error::{Context, Error, Result};

/// Most bytes of a configuration. Real ones have a few kilobytes, an index of shards less than a megabyte.
const JSON_LIMIT: u64 = 16 << 20;

/// Reads a JSON file of bounded size.
///
/// # Errors
/// A file that is missing, too large to be a configuration, or not JSON.
pub fn read_json(path: &Path) -> Result<Value> {
    let size = std::fs::metadata(path).context(|| format!("cannot open {}", path.display()))?.len();
    if size > JSON_LIMIT {
        return Err(Error::failed(format!("{size} bytes are too many for a configuration: {}", path.display()))
            .hint("fetch the file again"));
    }
    let text = std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()));
    let text = text.map_err(|error| error.hint("fetch the file again"))?;
    parse_json(&text).map_err(|cause| {
        Error::failed(format!("{} is not valid JSON", path.display())).because(cause).hint("fetch the file again")
    })
}

/// Parses JSON as Python writes it: `-Infinity`, which DPM-Solver's settings have for "no limit", becomes null.
///
/// # Errors
/// Text that is not JSON.
pub fn parse_json(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(&text.replace("-Infinity", "null"))
}
