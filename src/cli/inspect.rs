//! `talkie inspect`: the recipe that a film carries.

use std::path::PathBuf;

use serde_json::Value;
use talkie::error::{Error, Result};
use talkie::provenance;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A film, or a folder of frames
    film: PathBuf,
    /// The recipe as JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let recipe = provenance::inspect(&args.film)?;
    if args.json {
        let json = serde_json::to_string_pretty(&recipe);
        return super::print(&json.map_err(|cause| Error::failed("packing the recipe").because(cause))?);
    }
    for (key, value) in recipe.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Array(files) => {
                files.iter().try_for_each(|file| super::print(&format!("{key:<11} {}", hashed(file))))?;
            }
            Value::Object(fields) if key == "parameters" => {
                fields.iter().try_for_each(|(key, value)| super::print(&format!("{key:<16} {}", plain(value))))?;
            }
            Value::Object(_) => super::print(&format!("{key:<11} {}", hashed(value)))?,
            value => super::print(&format!("{key:<11} {}", plain(value)))?,
        }
    }
    Ok(())
}

fn hashed(file: &Value) -> String {
    let field = |name: &str| file.get(name).map_or_else(String::new, plain);
    format!("{} {} sha256:{}", field("role"), field("name"), field("sha256"))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
