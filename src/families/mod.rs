//! The families of models, and the registry: which family runs a model.

mod check;
pub mod family;
pub mod latents;
pub mod ltx;
pub mod text;
pub mod vae;
pub mod wan;

use crate::error::{Error, Result};
use crate::model::{Model, PlannedFile, Source};
use crate::plan::check_weights;
use crate::progress::Progress;
use crate::request::Request;
use family::Family;
use ltx::Ltx;
use wan::Wan;

/// A model that is here, and the family that runs it.
pub type Opened = (Model, Box<dyn Family>);

/// Opens the model of a request. Files that are missing are fetched first.
///
/// # Errors
/// A model that is unknown, incomplete, or of a family that talkie does not run; a preset that is for other weights.
pub fn open(request: &Request, progress: &mut Progress<'_>) -> Result<Opened> {
    let source = source(request)?;
    of(source.fetch(progress)?, &source, request)
}

/// The model of a request as far as it is known without a download, and the files that are missing.
///
/// # Errors
/// As [`open`].
pub fn look(request: &Request) -> Result<(Opened, Vec<PlannedFile>)> {
    let source = source(request)?;
    let (model, missing) = source.look()?;
    Ok((of(model, &source, request)?, missing))
}

fn source(request: &Request) -> Result<Source> {
    let source = request.model.as_deref().map_or_else(Source::in_the_box, Source::find)?;
    source.entry().map_or(Ok(()), |entry| check_weights(entry, request))?;
    Ok(source)
}

fn of(mut model: Model, source: &Source, request: &Request) -> Result<Opened> {
    let replaced = [
        ("transformer", &request.transformer),
        ("transformer_2", &request.transformer_2),
        ("text_encoder", &request.text_encoder),
        ("vae", &request.vae),
    ];
    for (name, with) in replaced {
        if let Some(with) = with {
            model.replace(name, with)?;
        }
    }
    for lora in &request.loras {
        model.adapt(lora)?;
    }
    // Latents are decoded without reading; a prompt is not turned into a film without.
    if !request.prompt.is_empty() {
        model.component("text_encoder")?;
        model.component("tokenizer")?;
    }
    // Named or as a folder, the model in the box is the same.
    let entry = source.entry().cloned().map_or_else(|| model.boxed(), |entry| Ok(Some(entry)))?;
    let family: Box<dyn Family> = if Wan::knows(&model) {
        Box::new(Wan::open(model.clone(), entry)?)
    } else if Ltx::knows(&model) {
        Box::new(Ltx::open(model.clone(), entry.as_ref())?)
    } else {
        let (class, folder) = (&model.pipeline, model.folder.display());
        return Err(Error::failed(format!("`{class}` is a family that talkie does not run, in {folder}"))
            .hint("`talkie models` lists the models that it does"));
    };
    Ok((model, family))
}
