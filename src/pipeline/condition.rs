//! What a film is conditioned on: the embeddings of its prompts, and the latents of its first picture.

use std::path::Path;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::families::family::{Compute, Conditioning, Family};
use crate::families::latents;
use crate::media::{self, Filter, Rgb};
use crate::pipeline::run::Run;
use crate::plan::Plan;
use crate::progress::{Progress, Stage};

/// The embeddings of the prompts and the latents of the first picture: from the run's folder, or made now and kept there.
///
/// # Errors
/// Weights that do not load, a picture that cannot be read, a stop, a full disk.
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
        .stage(Stage::Text, 0, |progress| family.encode_text(&prompts, plan, compute, progress))?
        .into_iter()
        .map(|embedding| {
            let all = std::iter::once(&embedding.video).chain(&embedding.audio);
            all.into_iter().try_for_each(|part| check_finite("the prompt's embedding", "text_encoder", part))?;
            Ok(embedding)
        })
        .collect::<Result<Vec<_>>>()?
        .into_iter();
    let text = embeddings.next().ok_or_else(|| Error::failed("the text encoder made no embedding"))?;
    let image = match &plan.request.image {
        Some(path) => {
            let picture = first_picture(path, plan, family.filter(), progress)?;
            let encode = |progress: &mut Progress<'_>| family.encode_image(&picture, plan, compute, progress);
            let latents = progress.stage(Stage::Image, 0, encode)?;
            check_finite("the picture's latents", "vae", &latents)?;
            Some(latents)
        }
        None => None,
    };
    let conditioning = Conditioning { text, negative: embeddings.next(), image };
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

/// The picture that the film begins with, at the film's size.
fn first_picture(path: &Path, plan: &Plan, filter: Filter, progress: &mut Progress<'_>) -> Result<Rgb> {
    let shape = plan.stage_shape(0);
    let (width, height) = (shape.width as u32, shape.height as u32);
    let picture = compressed(media::read_image(path)?, plan.image_crf, progress)?;
    if (picture.width, picture.height) != (width, height) {
        let (w, h) = (picture.width, picture.height);
        progress.note(format!("the picture has {w}x{h} pixels: it is scaled and cropped to {width}x{height}"))?;
    }
    Ok(media::fit(&picture, width, height, filter))
}

/// The picture with the traces of compression that the model was trained on.
#[cfg(feature = "ffmpeg")]
fn compressed(picture: Rgb, crf: u8, _: &mut Progress<'_>) -> Result<Rgb> {
    if crf == 0 { Ok(picture) } else { media::recompress(&picture, crf) }
}

#[cfg(not(feature = "ffmpeg"))]
fn compressed(picture: Rgb, crf: u8, progress: &mut Progress<'_>) -> Result<Rgb> {
    if crf > 0 {
        progress.note("the first picture is not compressed as the model knows it: this talkie has no FFmpeg")?;
    }
    Ok(picture)
}
