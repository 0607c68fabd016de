//! The stages of a Wan run.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::transformer::Transformer;
use super::{Wan, vae};
use crate::error::{Error, Result};
use crate::families::conditioning::{Conditioned, Embedding};
use crate::families::family::{
    Compute, Denoiser, DenoiserInput, Film, FrameSink, Given, Prompt, Stages, VideoDecoder, frame,
};
use crate::families::latents::Latents;
use crate::families::shelf::Wanted;
use crate::families::text::clean::clean;
use crate::families::text::tokenize::{Tokenizer, Vocabulary};
use crate::families::text::umt5::Umt5;
use crate::plan::{Pass, Settings, Shape, Tiling};
use crate::progress::{Progress, Stage};
use crate::weights::Weights;

/// The name of a first image's mask and latents among the extra tensors.
const IMAGE: &str = "image";

impl Stages for Wan {
    fn tokens(
        &self,
        prompts: &[&str],
        settings: &Settings,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Vec<u32>>> {
        let folder = &self.model.component("tokenizer")?.folder;
        let tokenizer =
            compute.shelf.shared("tokenizer", Stage::Text, compute, || Tokenizer::open(folder, Vocabulary::T5))?;
        tokenizer.encode_all(prompts.iter().map(|prompt| clean(prompt)), settings.text_length, progress)
    }

    fn text(
        &self,
        prompts: &[&str],
        settings: &Settings,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Embedding>> {
        let tokens = self.tokens(prompts, settings, compute, progress)?;
        let wanted = Wanted { streamed: settings.streams.text, ..self.wanted(Stage::Text, "text_encoder")? };
        let encoder = compute.shelf.network(&wanted, compute, progress, |weights| Umt5::load(weights, &self.text))?;
        let mut report = |done, total| progress.advance(Stage::Text, done as u64, total as u64);
        let made = encoder.encode_all(&tokens, settings.text_length, &mut report)?;
        Ok(made.into_iter().map(|video| Embedding { video, audio: None }).collect())
    }

    fn condition(
        &self,
        given: &[Given],
        (settings, shape): (&Settings, &Shape),
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Conditioned> {
        let Some(Given::Image(image)) = given.first() else { return Ok(Conditioned::default()) };
        let wanted = Wanted { half: "encoder", ..self.wanted(Stage::Image, "vae")? };
        let load = |weights: &Weights| vae::Encoder::load(&self.vae, weights);
        let encoder = compute.shelf.network(&wanted, compute, progress, load)?;
        let first = frame(image, &compute.device)?;
        // The film after the image is grey, as in training: black would be an image too.
        let grey = first.zeros_like()?;
        let count = if self.reads_mask() { shape.frames } else { 1 };
        let film = vae::Frames { count, frame: &|i| Ok(if i == 0 { &first } else { &grey }.clone()) };
        let mut report = |done, total| progress.advance(Stage::Image, done as u64, total as u64);
        let latents = encoder.encode(&film, settings.tiling, &mut report)?;
        let latents = vae::normalise(&latents.to_dtype(DType::F32)?, &self.vae)?;
        if self.reads_mask() {
            let channels = Tensor::cat(&[mask(&latents, self.vae.temporal_factor())?, latents], 1)?;
            return Ok(Conditioned { extra: HashMap::from([(IMAGE.to_owned(), channels)]), ..Conditioned::default() });
        }
        let [_, _, cells @ ..] = shape.latents;
        Conditioned::beginning(&latents, cells)
    }

    fn denoiser(
        &self,
        expert: usize,
        film: Film<'_>,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Box<dyn Denoiser>> {
        let Settings { streams, fp8, .. } = film.settings;
        let wanted = self.wanted(Stage::Denoise, ["transformer", "transformer_2"][expert])?;
        let wanted = Wanted { streamed: streams.transformer, fp8: *fp8, ..wanted };
        let load = |weights: &Weights| Transformer::load(weights, &self.transformer);
        let transformer = compute.shelf.network(&wanted, compute, progress, load)?;
        let text = film.conditioning.text.video.clone();
        let negative = film.conditioning.negative.as_ref().map(|negative| negative.video.clone());
        Ok(Box::new(Expert {
            transformer,
            text,
            negative,
            channels: film.conditioning.given.extra.get(IMAGE).cloned(),
        }))
    }

    fn decoder(
        &self,
        settings: &Settings,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Box<dyn VideoDecoder>> {
        let wanted = Wanted { half: "decoder", ..self.wanted(Stage::Decode, "vae")? };
        let load = |weights: &Weights| vae::Decoder::load(&self.vae, weights);
        let network = compute.shelf.network(&wanted, compute, progress, load)?;
        Ok(Box::new(Decoder { network, config: self.vae.clone(), tiling: settings.tiling, compute: compute.clone() }))
    }
}

impl Wan {
    fn wanted(&self, stage: Stage, component: &str) -> Result<Wanted<'_>> {
        Ok(Wanted { stage, half: "", component: self.model.component(component)?, streamed: false, fp8: false })
    }
}

/// A transformer with what it predicts on.
struct Expert {
    transformer: Arc<Transformer>,
    text: Tensor,
    negative: Option<Tensor>,
    /// The mask and latents of a first image, which it reads beside the noisy latents (I2V-A14B).
    channels: Option<Tensor>,
}

impl Denoiser for Expert {
    fn velocity(&self, input: DenoiserInput<'_>, prompt: Prompt, _: Pass) -> Result<Latents> {
        let text = match prompt {
            Prompt::Positive => Some(&self.text),
            Prompt::Negative => self.negative.as_ref(),
        };
        let text = text.ok_or_else(|| Error::failed("the run has no embedding of the negative prompt"))?;
        let latents = &input.latents.video;
        let timesteps = match input.pin {
            Some(pin) => pin.timesteps(input.timestep, self.transformer.config().patch_size)?,
            None => vec![input.timestep],
        };
        let velocity = match &self.channels {
            Some(channels) => self.transformer.forward(&Tensor::cat(&[latents, channels], 1)?, &timesteps, text),
            None => self.transformer.forward(latents, &timesteps, text),
        };
        velocity.map(Latents::from)
    }
}

/// The decoder with where it works.
struct Decoder {
    network: Arc<vae::Decoder>,
    config: vae::Config,
    tiling: Option<Tiling>,
    compute: Compute,
}

impl VideoDecoder for Decoder {
    fn decode(&self, latents: &[Tensor], frames: FrameSink<'_>) -> Result<()> {
        for latents in latents {
            let (channels, own) = (latents.dim(1)?, self.config.z_dim);
            if channels != own {
                return Err(Error::failed(format!(
                    "the latents have {channels} channels, and this model's decoder takes {own}"
                ))
                .hint("decode latents with the model that made them, or one of the same autoencoder"));
            }
            let latents = vae::denormalise(&latents.to_device(&self.compute.device)?, &self.config)?;
            self.network.decode(&latents, self.tiling, &self.compute.scratch, frames)?;
        }
        Ok(())
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
