//! The noise that a stage begins with: drawn from the seed, or the user's own.

use std::path::Path;

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};
use crate::latents::{self, Latents};
use crate::noise::Generator;
use crate::plan::Plan;

/// The next noises of a generator, in the reference's order: pictures, then sound. Its first stage draws them in the shapes of
/// the autoencoders, its second in the order of the transformer's tokens, but for a film that begins with a picture.
pub(super) fn drawn(generator: &mut Generator, plan: &Plan, stage: usize) -> Result<Latents> {
    let mut draw = |shape: &[usize]| Tensor::from_vec(generator.normal(shape.iter().product()), shape, &Device::Cpu);
    let shape @ [_, channels, frames, height, width] = plan.stage_shape(stage).latents;
    let video = if stage == 0 || plan.request.image.is_some() {
        draw(&shape)?
    } else {
        draw(&[1, frames, height, width, channels])?.permute((0, 4, 1, 2, 3))?.contiguous()?
    };
    let Some(sound) = &plan.sound else { return Ok(video.into()) };
    let [_, length, width] = sound.latents;
    let audio = if stage == 0 {
        let bins = width / sound.channels;
        draw(&[1, sound.channels, length, bins])?.transpose(1, 2)?.contiguous()?.reshape(sound.latents.to_vec())?
    } else {
        draw(&sound.latents)?
    };
    Ok(Latents { video, audio: Some(audio) })
}

/// The noise in the user's file, of the shape of the plan's latents. What it lacks of sound is drawn from the seed.
///
/// # Errors
/// A file that cannot be read or holds none, or one of another shape.
pub fn noise_of(path: &Path, plan: &Plan) -> Result<Latents> {
    let noise = latents::load_latents(path)?;
    let audio = match (noise.audio, &plan.sound) {
        (audio, Some(sound)) => {
            let audio = audio.map_or_else(
                || drawn(&mut Generator::seed(plan.seed), plan, 0).map(|noise| noise.audio),
                |audio| Ok(Some(audio)),
            )?;
            audio.map(|audio| of_shape(audio, &sound.latents, path)).transpose()?
        }
        (_, None) => None,
    };
    Ok(Latents { video: of_shape(noise.video, &plan.stage_shape(0).latents, path)?, audio })
}

fn of_shape(noise: Tensor, shape: &[usize], path: &Path) -> Result<Tensor> {
    if noise.dims() == shape {
        return Ok(noise);
    }
    Err(Error::usage(format!(
        "the noise has the shape {:?}, where {shape:?} belongs, in {}",
        noise.dims(),
        path.display()
    ))
    .hint("`--plan` shows the shape of the latents for a size and a number of frames"))
}
