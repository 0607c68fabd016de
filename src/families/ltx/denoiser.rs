//! The transformer as the denoising loop sees it: latents in, velocities out.

use std::sync::Arc;

use candle_core::DType;

use super::dedup_text::Folded;
use super::positions::{Grid, Positions};
use super::tokens;
use super::transformer::{self, Inputs, Timesteps, Transformer};
use crate::error::{Error, Result};
use crate::families::conditioning::Embedding;
use crate::families::family::{Compute, Denoiser, DenoiserInput, Film, Prompt};
use crate::families::latents::Latents;
use crate::plan::Pass;

/// A transformer with what it predicts on: texts and rotary tables are the same at every step of a phase.
pub(super) struct Expert {
    transformer: Arc<Transformer>,
    text: Folded,
    negative: Option<Folded>,
    positions: Positions,
    stg_blocks: Vec<usize>,
    cross_timestep: bool,
    dtype: DType,
}

impl Expert {
    /// # Errors
    /// A film without sound, whose embeddings have no half for it.
    pub(super) fn new(transformer: Arc<Transformer>, film: Film<'_>, compute: &Compute) -> Result<Self> {
        let Film { settings, shape, conditioning } = film;
        let [_, _, video @ ..] = shape.latents;
        let audio = settings.sound.as_ref().ok_or_else(|| lacks("latents"))?.latents[1];
        let grid = Grid { video, fps: settings.fps.as_f64(), audio };
        let folded = |text: &Embedding| {
            let audio = text.audio.as_ref().ok_or_else(|| lacks("embedding of the prompt"))?;
            Folded::of(&text.video.to_dtype(compute.dtype)?, &audio.to_dtype(compute.dtype)?)
        };
        Ok(Self {
            positions: Positions::new(transformer.config(), &grid, &compute.device)?,
            text: folded(&conditioning.text)?,
            negative: conditioning.negative.as_ref().map(folded).transpose()?,
            transformer,
            stg_blocks: settings.stg_blocks.clone(),
            cross_timestep: settings.cross_timestep,
            dtype: compute.dtype,
        })
    }
}

fn lacks(what: &str) -> Error {
    Error::failed(format!("the run has no {what} for the sound"))
        .hint("its folder is damaged: start the run again with `talkie generate`")
}

impl Denoiser for Expert {
    fn velocity(&self, input: DenoiserInput<'_>, prompt: Prompt, pass: Pass) -> Result<Latents> {
        let text = match prompt {
            Prompt::Positive => Some(&self.text),
            Prompt::Negative => self.negative.as_ref(),
        };
        let text = text.ok_or_else(|| lacks("embedding of the negative prompt"))?;
        let audio = input.latents.audio.as_ref().ok_or_else(|| lacks("latents"))?;
        let (_, _, frames, height, width) = input.latents.video.dims5()?;
        let timestep = input.timestep;
        let timesteps = input.pin.map_or_else(|| Ok(vec![timestep]), |pin| pin.timesteps(timestep, [1; 3]))?;
        let inputs = Inputs {
            video: &tokens::video_tokens(&input.latents.video)?.to_dtype(self.dtype)?,
            audio: &audio.to_dtype(self.dtype)?,
            video_text: &text.video,
            audio_text: &text.audio,
            text_counts: text.counts.as_ref(),
            timesteps: Timesteps { video: &timesteps, audio: &[timestep], sigma: timestep, audio_sigma: timestep },
            positions: &self.positions,
        };
        let stg_blocks = if pass == Pass::Perturbed { self.stg_blocks.as_slice() } else { &[] };
        let pass =
            transformer::Pass { stg_blocks, isolate: pass == Pass::Isolated, cross_timestep: self.cross_timestep };
        let (velocity, audio) = self.transformer.forward(&inputs, &pass)?;
        Ok(Latents { video: tokens::video_latents(&velocity, [frames, height, width])?, audio: Some(audio) })
    }
}
