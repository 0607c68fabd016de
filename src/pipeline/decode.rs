//! Latents to frames, a latent frame at a time: the whole film is never in memory.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::families::family::{Compute, Decoded, Family};
use crate::families::latents::Latents;
use crate::media::Rgb;
use crate::plan::Settings;
use crate::progress::{Chore, Progress, Stage};

/// What the decode works with.
pub struct Decode<'a> {
    /// The model.
    pub family: &'a dyn Family,
    /// Where to compute.
    pub compute: &'a Compute,
    /// The settings of the plan.
    pub settings: &'a Settings,
    /// Frames that are expected.
    pub frames: usize,
}

impl Decode<'_> {
    /// Decodes the pictures of latents and hands each frame on as soon as it is made.
    ///
    /// # Errors
    /// Weights that do not load, frames that are not finite, a stop, and what `sink` answers.
    pub fn run(
        &self,
        latents: &Latents,
        progress: &mut Progress<'_>,
        sink: &mut dyn FnMut(Rgb) -> Result<()>,
    ) -> Result<()> {
        let (mut done, total) = (0, self.frames as u64);
        progress.advance(Stage::Decode, 0, total)?;
        let (mut reached, mut writing) = (0, Duration::ZERO);
        let decoder = self.family.decoder(self.settings, self.compute, progress)?;
        decoder.decode(std::slice::from_ref(&latents.video), &mut |made| {
            match made {
                Decoded::Share(share) => reached = (share * total as f64) as u64,
                Decoded::Frames(frames) => {
                    for picture in pictures(&frames)? {
                        let begun = Instant::now();
                        sink(picture)?;
                        writing += begun.elapsed();
                        done += 1;
                    }
                }
            }
            progress.advance(Stage::Decode, done.max(reached), total)
        })?;
        progress.spent(Chore::Write, writing)
    }
}

/// Frames (1, 3, n, height, width) in [-1, 1] as pictures, rounded as the reference rounds: to the even of two neighbours.
fn pictures(frames: &Tensor) -> Result<Vec<Rgb>> {
    let (_, _, count, height, width) = frames.dims5()?;
    let frames = frames.squeeze(0)?.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.permute((1, 2, 3, 0))?;
    let byte = |value: f32| ((value * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
    let picture = |index: usize| {
        let values = frames.get(index)?.flatten_all()?.to_vec1::<f32>()?;
        if values.iter().any(|value| value.is_nan()) {
            return Err(Error::failed("the decoder made frames that are not numbers")
                .hint("try `--dtype f32`: the autoencoder, or its number type, overflows"));
        }
        let data = values.into_iter().map(byte).collect();
        Ok(Rgb { width: width as u32, height: height as u32, data })
    };
    (0..count).map(picture).collect()
}
