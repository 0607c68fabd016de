//! The transformer as the denoising loop sees it: latents in, velocities out.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::{DType, Device, TensorId};

use super::dedup_text::Folded;
use super::positions::{Grid, Positions};
use super::tokens;
use super::transformer::{self, Inputs, Timesteps, Transformer};
use crate::error::{Error, Result};
use crate::families::family::{Compute, Denoiser, DenoiserInput, Embedding, Pass};
use crate::families::latents::Latents;
use crate::plan::Plan;

/// A loaded transformer, and what of the plan it must know.
pub(super) struct Expert {
    transformer: Transformer,
    fps: f64,
    stg_blocks: Vec<usize>,
    cross_timestep: bool,
    device: Device,
    dtype: DType,
    /// The rotary tables of the film at hand. They are the same at every step.
    positions: RefCell<Option<(Grid, Positions)>>,
    /// The prompts at hand, by their rows for the pictures.
    texts: RefCell<HashMap<TensorId, Folded>>,
}

impl Expert {
    pub(super) fn new(transformer: Transformer, plan: &Plan, compute: &Compute) -> Self {
        Self {
            transformer,
            fps: plan.fps.as_f64(),
            stg_blocks: plan.stg_blocks.clone(),
            cross_timestep: plan.cross_timestep,
            device: compute.device.clone(),
            dtype: compute.dtype,
            positions: RefCell::default(),
            texts: RefCell::default(),
        }
    }

    fn positions(&self, grid: Grid) -> Result<Positions> {
        let mut kept = self.positions.borrow_mut();
        if let Some((_, positions)) = kept.as_ref().filter(|(known, _)| *known == grid) {
            return Ok(positions.clone());
        }
        let positions = Positions::new(self.transformer.config(), &grid, &self.device)?;
        *kept = Some((grid, positions.clone()));
        Ok(positions)
    }
}

impl Expert {
    /// What the transformer is told of a prompt. The same tensors come at every step.
    fn text(&self, text: &Embedding) -> Result<Folded> {
        let audio = text.audio.as_ref().ok_or_else(|| lacks("embedding of the prompt"))?;
        if let Some(folded) = self.texts.borrow().get(&text.video.id()) {
            return Ok(folded.clone());
        }
        let folded = Folded::of(&text.video.to_dtype(self.dtype)?, &audio.to_dtype(self.dtype)?)?;
        self.texts.borrow_mut().insert(text.video.id(), folded.clone());
        Ok(folded)
    }
}

fn lacks(what: &str) -> Error {
    Error::failed(format!("the run has no {what} for the sound"))
        .hint("its folder is damaged: start the run again with `talkie generate`")
}

impl Denoiser for Expert {
    fn velocity(&self, at: DenoiserInput<'_>, text: &Embedding, pass: Pass) -> Result<Latents> {
        let audio = at.latents.audio.as_ref().ok_or_else(|| lacks("latents"))?;
        let text = self.text(text)?;
        let (_, _, frames, height, width) = at.latents.video.dims5()?;
        let video = [frames, height, width];
        let positions = self.positions(Grid { video, fps: self.fps, audio: audio.dim(1)? })?;
        let timesteps = if at.image.is_some() {
            // The first frame is the picture's, without noise.
            let mut timesteps = vec![at.timestep; video.iter().product()];
            timesteps[..height * width].fill(0.0);
            timesteps
        } else {
            vec![at.timestep]
        };
        let inputs = Inputs {
            video: &tokens::video_tokens(&at.latents.video)?.to_dtype(self.dtype)?,
            audio: &audio.to_dtype(self.dtype)?,
            video_text: &text.video,
            audio_text: &text.audio,
            text_counts: text.counts.as_ref(),
            timesteps: Timesteps {
                video: &timesteps,
                audio: &[at.timestep],
                sigma: at.timestep,
                audio_sigma: at.timestep,
            },
            positions: &positions,
        };
        let stg_blocks = if pass == Pass::Perturbed { self.stg_blocks.as_slice() } else { &[] };
        let pass =
            transformer::Pass { stg_blocks, isolate: pass == Pass::Isolated, cross_timestep: self.cross_timestep };
        let (velocity, audio) = self.transformer.forward(&inputs, &pass)?;
        Ok(Latents { video: tokens::video_latents(&velocity, video)?, audio: Some(audio) })
    }
}
