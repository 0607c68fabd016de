//! Prompts to embeddings, and the conditions of a request to latents.

use std::path::Path;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::families::conditioning::{Conditioned, Conditioning};
use crate::families::family::{Compute, Family, Given};
use crate::families::latents;
use crate::media::{self, Filter, Rgb};
use crate::pipeline::run::Run;
use crate::plan::Plan;
use crate::progress::{Progress, Stage};
use crate::request::Condition;

/// The embeddings of the prompts and what the conditions become: from the run's folder, or made now and kept there.
///
/// # Errors
/// Weights that do not load, an image that cannot be read, a stop, a full disk.
pub fn conditions(
    family: &dyn Family,
    plan: &Plan,
    run: &Run,
    compute: &Compute,
    progress: &mut Progress<'_>,
) -> Result<Conditioning> {
    if let Some(kept) = run.conditioning(&compute.device)? {
        return Conditioning::unpack(kept);
    }
    let prompts: Vec<&str> = std::iter::once(&plan.prompt).chain(&plan.negative).map(String::as_str).collect();
    let mut embeddings = progress
        .stage(Stage::Text, 0, |progress| family.text(&prompts, &plan.settings, compute, progress))?
        .into_iter()
        .map(|embedding| {
            let all = std::iter::once(&embedding.video).chain(&embedding.audio);
            all.into_iter().try_for_each(|part| check_finite("the prompt's embedding", "text_encoder", part))?;
            Ok(embedding)
        })
        .collect::<Result<Vec<_>>>()?
        .into_iter();
    let text = embeddings.next().ok_or_else(|| Error::failed("the text encoder made no embedding"))?;
    let given = if plan.request.conditions.is_empty() {
        Conditioned::default()
    } else {
        let given = read(plan, family.facts()?.filter, progress)?;
        let film = (&plan.settings, plan.first_shape());
        let condition = |progress: &mut Progress<'_>| family.condition(&given, film, compute, progress);
        let given = progress.stage(Stage::Image, 0, condition)?;
        let latents = given.init.iter().chain(given.extra.values());
        latents.into_iter().try_for_each(|latents| check_finite("the image's latents", "vae", latents))?;
        given
    };
    let conditioning = Conditioning { text, negative: embeddings.next(), given };
    run.save_conditioning(&conditioning.pack())?;
    Ok(conditioning)
}

/// Refuses what a network overflowed in.
fn check_finite(what: &str, part: &str, values: &Tensor) -> Result<()> {
    if latents::is_finite(values)? {
        return Ok(());
    }
    Err(Error::failed(format!("{what} holds values that are not finite numbers"))
        .hint(format!("fetch the folder `{part}` of the model again, or try `--dtype f32`")))
}

/// The conditions of a request, at the size that the denoising begins with.
fn read(plan: &Plan, filter: Filter, progress: &mut Progress<'_>) -> Result<Vec<Given>> {
    let image = |condition: &Condition| {
        let Condition::Image { file } = condition;
        Ok(Given::Image(first_image(file, plan, filter, progress)?))
    };
    plan.request.conditions.iter().map(image).collect()
}

fn first_image(path: &Path, plan: &Plan, filter: Filter, progress: &mut Progress<'_>) -> Result<Rgb> {
    let shape = plan.first_shape();
    let (width, height) = (shape.width as u32, shape.height as u32);
    let image = compressed(media::read_image(path)?, plan.settings.image_crf, progress)?;
    if (image.width, image.height) != (width, height) {
        let (w, h) = (image.width, image.height);
        progress.note(format!("the image has {w}x{h} pixels: it is scaled and cropped to {width}x{height}"))?;
    }
    Ok(media::fit(&image, width, height, filter))
}

/// The image with the H.264 artefacts that the model was trained on.
#[cfg(feature = "ffmpeg")]
fn compressed(image: Rgb, crf: u8, _: &mut Progress<'_>) -> Result<Rgb> {
    if crf == 0 { Ok(image) } else { media::recompress(&image, crf) }
}

#[cfg(not(feature = "ffmpeg"))]
fn compressed(image: Rgb, crf: u8, progress: &mut Progress<'_>) -> Result<Rgb> {
    if crf > 0 {
        progress.note("built without FFmpeg: the image is not H.264-compressed first, as LTX expects")?;
    }
    Ok(image)
}
