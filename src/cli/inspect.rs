//! `talkie inspect`: the recipe that a film carries.

use std::path::PathBuf;

use serde_json::Value;
use talkie::error::{Error, Result};
use talkie::pipeline::recipe;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A film, or a folder of frames
    film: PathBuf,
    /// The recipe as JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let recipe = recipe::inspect(&args.film)?;
    if args.json {
        let json = serde_json::to_string_pretty(&recipe);
        return super::print(&json.map_err(|cause| Error::failed("packing the recipe").because(cause))?);
    }
    for (key, value) in recipe.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Array(files) => files.iter().try_for_each(|file| line(11, key, &hashed(file)))?,
            Value::Object(fields) if key == "parameters" => {
                fields.iter().try_for_each(|(key, value)| line(16, key, &plain(value)))?;
            }
            Value::Object(_) => line(11, key, &hashed(value))?,
            value => line(11, key, &plain(value))?,
        }
    }
    Ok(())
}

/// Films come from strangers, and a terminal obeys some characters: those are shown as a mark.
fn line(width: usize, key: &str, value: &str) -> Result<()> {
    let line = format!("{key:<width$} {value}");
    super::print(&line.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}"))
}

fn hashed(file: &Value) -> String {
    let field = |name: &str| file.get(name).map_or_else(String::new, plain);
    let strength = file.get("strength").map_or_else(String::new, |strength| format!(" at {strength}"));
    format!("{} {}{strength} sha256:{}", field("role"), field("name"), field("sha256"))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
