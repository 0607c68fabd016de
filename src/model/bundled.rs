//! The model in the box: where the folder that comes with talkie is.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The field of a `model_index.json` that names the boxed model whose folder it is.
pub const MARK: &str = "_talkie";

/// The variable that names the folder. Where it is set, the folder is looked for nowhere else.
pub const VARIABLE: &str = "TALKIE_TOYBOX";

/// The folder of the model that comes with talkie: beside the program, where packages put it, or in the source tree that
/// the program was built from.
///
/// # Errors
/// It is in none of these places, which are named.
pub fn find(name: &str) -> Result<PathBuf> {
    let places = places(name);
    if let Some(place) = places.iter().find(|place| place.join("model_index.json").is_file()) {
        return Ok(place.clone());
    }
    let listed = places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ");
    Err(Error::failed(format!("the model in the box is not in its place: there is no folder of a model at {listed}"))
        .hint(format!(
            "put `models/{name}` of talkie's source beside the program, or name the folder: `{VARIABLE}=FOLDER`; \
             `talkie models` lists models that can be fetched instead"
        )))
}

/// Where the folder may be, the first first.
fn places(name: &str) -> Vec<PathBuf> {
    if let Some(place) = std::env::var_os(VARIABLE).filter(|place| !place.is_empty()) {
        return vec![place.into()];
    }
    let program = std::env::current_exe().and_then(|program| program.canonicalize()).ok();
    let beside = program.as_deref().and_then(Path::parent).map(|bin| bin.join(name));
    let shared = program.as_deref().and_then(Path::parent).and_then(Path::parent);
    let shared = shared.map(|prefix| prefix.join("share/talkie").join(name));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name);
    [beside, shared, Some(source)].into_iter().flatten().collect()
}
