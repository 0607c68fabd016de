//! The stages of a Wan run: each loads what it needs, uses it and drops it.

use candle_core::{DType, Tensor};

use super::transformer::Transformer;
use super::{Wan, vae};
use crate::error::{Error, Result};
use crate::families::family::{
    self, Compute, Decoded, Denoiser, DenoiserInput, Embedding, Family, FrameSink, Pass, Workload,
};
use crate::families::latents::Latents;
use crate::families::text::clean::clean;
use crate::families::text::tokenize::{Tokenizer, Vocabulary};
use crate::families::text::umt5::Umt5;
use crate::files;
use crate::media::Rgb;
use crate::plan::Tiling;
use crate::plan::{Geometry, Plan, Shape, StageMemory};
use crate::progress::{Progress, Stage};
use crate::weights::Weights;

impl Family for Wan {
    fn geometry(&self) -> Result<Geometry> {
        Self::geometry(self)
    }

    fn memory(&self, plan: &Plan, shape: &Shape) -> Vec<StageMemory> {
        super::memory::stages(self, plan, shape)
    }

    fn tokens(&self, prompts: &[&str], plan: &Plan, progress: &mut Progress<'_>) -> Result<Vec<Vec<u32>>> {
        let tokenizer = Tokenizer::open(&self.model.component("tokenizer")?.folder, Vocabulary::T5)?;
        tokenizer.encode_all(prompts.iter().map(|prompt| clean(prompt)), plan.text_length, progress)
    }

    fn flops(&self, plan: &Plan, job: Workload<'_>) -> f64 {
        super::flops::of(self, plan, job)
    }

    fn encode_text(
        &self,
        prompts: &[&str],
        plan: &Plan,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Embedding>> {
        let tokens = self.tokens(prompts, plan, progress)?;
        let weights = self.weights("text_encoder", plan.streams.text, compute)?;
        let encoder = family::load("text_encoder", &weights, progress, |weights| Umt5::load(weights, &self.text))?;
        let mut tell = |done, total| progress.advance(Stage::Text, done as u64, total as u64);
        let made = encoder.encode_all(&tokens, plan.text_length, &mut tell)?;
        Ok(made.into_iter().map(|video| Embedding { video, audio: None }).collect())
    }

    fn encode_image(&self, image: &Rgb, plan: &Plan, compute: &Compute, progress: &mut Progress<'_>) -> Result<Tensor> {
        let weights = self.weights("vae", false, compute)?;
        let encoder = family::load("vae", &weights, progress, |weights| vae::Encoder::load(&self.vae, weights))?;
        let first = family::frame(image, &compute.device)?;
        // The film after the picture is grey, as in training: a black would be a picture too.
        let grey = first.zeros_like()?;
        let count = if self.reads_mask() { plan.shape.frames } else { 1 };
        let film = vae::Frames { count, frame: &|i| Ok(if i == 0 { &first } else { &grey }.clone()) };
        let latents = encoder
            .encode(&film, plan.tiling, &mut |done, total| progress.advance(Stage::Image, done as u64, total as u64))?;
        let latents = vae::normalise(&latents.to_dtype(DType::F32)?, &self.vae)?;
        if !self.reads_mask() {
            return Ok(latents);
        }
        Ok(Tensor::cat(&[mask(&latents, self.vae.temporal_factor())?, latents], 1)?)
    }

    fn begins_with_image(&self) -> bool {
        self.expand_timesteps
    }

    fn denoiser(
        &self,
        expert: usize,
        plan: &Plan,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Box<dyn Denoiser>> {
        let name = ["transformer", "transformer_2"][expert];
        let weights = self.weights(name, plan.streams.transformer, compute)?.eight_bits(plan.fp8)?;
        let load = |weights: &Weights| Transformer::load(weights, &self.transformer);
        let transformer = family::load(name, &weights, progress, load)?;
        Ok(Box::new(Expert { transformer, expand_timesteps: self.expand_timesteps }))
    }

    fn decode(
        &self,
        latents: &[Tensor],
        tiling: Option<Tiling>,
        compute: &Compute,
        frames: FrameSink<'_>,
    ) -> Result<()> {
        let decoder = vae::Decoder::load(&self.vae, &self.weights("vae", false, compute)?)?;
        frames(Decoded::Loaded)?;
        let scratch = files::home()?;
        for latents in latents {
            let channels = latents.dim(1)?;
            if channels != self.vae.z_dim {
                return Err(Error::failed(format!(
                    "the latents have {channels} channels, and this model's decoder takes {}",
                    self.vae.z_dim
                ))
                .hint("decode latents with the model that made them, or one of the same autoencoder"));
            }
            let latents = vae::denormalise(&latents.to_device(&compute.device)?, &self.vae)?;
            decoder.decode(&latents, tiling, &scratch, frames)?;
        }
        Ok(())
    }
}

impl Wan {
    fn weights(&self, component: &str, streamed: bool, compute: &Compute) -> Result<Weights> {
        let weights = self.model.component(component)?.weights(&compute.device, compute.dtype)?;
        if streamed { weights.streamed() } else { Ok(weights) }
    }
}

/// A transformer with the way that its model is told of a first picture.
struct Expert {
    transformer: Transformer,
    expand_timesteps: bool,
}

impl Denoiser for Expert {
    fn velocity(&self, at: DenoiserInput<'_>, text: &Embedding, _: Pass) -> Result<Latents> {
        let (latents, text) = (&at.latents.video, &text.video);
        let velocity = match at.image {
            None => self.transformer.forward(latents, &[at.timestep], text),
            Some(_) if self.expand_timesteps => {
                let (_, _, frames, height, width) = latents.dims5()?;
                let [_, ph, pw] = self.transformer.config().patch_size;
                let per_frame = height / ph * (width / pw);
                let mut timesteps = vec![at.timestep; frames * per_frame];
                timesteps[..per_frame].fill(0.0);
                self.transformer.forward(latents, &timesteps, text)
            }
            Some(image) => self.transformer.forward(&Tensor::cat(&[latents, image], 1)?, &[at.timestep], text),
        };
        velocity.map(Latents::from)
    }
}

/// Which frames are given: 1 for the first, 0 for the others, the frames of a latent frame as channels. The first latent
/// frame is one frame, and is marked in every channel.
fn mask(latents: &Tensor, temporal: usize) -> Result<Tensor> {
    let (_, _, frames, height, width) = latents.dims5()?;
    let first = Tensor::ones((1, temporal, 1, height, width), DType::F32, latents.device())?;
    if frames == 1 {
        return Ok(first);
    }
    let others = Tensor::zeros((1, temporal, frames - 1, height, width), DType::F32, latents.device())?;
    Ok(Tensor::cat(&[first, others], 2)?)
}
