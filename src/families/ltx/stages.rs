//! The stages of an LTX-2 run.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::connectors::{Connectors, Packer};
use super::denoiser::Expert;
use super::transformer::Transformer;
use super::upsampler::Upsampler;
use super::vocoder::Vocoder;
use super::{Ltx, audio_vae, vae};
use crate::audio::Waveform;
use crate::error::{Error, Result};
use crate::families::conditioning::{Conditioned, Embedding};
use crate::families::family::{Compute, Decoded, Denoiser, Film, FrameSink, Given, Stages, VideoDecoder, frame};
use crate::families::shelf::Wanted;
use crate::families::text::clean::strip;
use crate::families::text::gemma3::Gemma3;
use crate::families::text::tokenize::{Tokenizer, Vocabulary};
use crate::plan::{Settings, Shape, Tiling};
use crate::progress::{Progress, Stage};
use crate::weights::Weights;

impl Stages for Ltx {
    fn tokens(
        &self,
        prompts: &[&str],
        settings: &Settings,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Vec<u32>>> {
        let folder = &self.model.component("tokenizer")?.folder;
        let open = || Tokenizer::open(folder, Vocabulary::Gemma);
        let tokenizer = compute.shelf.shared("tokenizer", Stage::Text, compute, open)?;
        tokenizer.encode_all(prompts.iter().map(|prompt| strip(prompt)), settings.text_length, progress)
    }

    fn text(
        &self,
        prompts: &[&str],
        settings: &Settings,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Embedding>> {
        let packed = self.hidden_states(prompts, settings, compute, progress)?;
        let wanted = self.wanted(Stage::Text, "connectors")?;
        let load = |weights: &Weights| Connectors::load(weights, &self.connectors);
        let connectors = compute.shelf.network(&wanted, compute, progress, load)?;
        let embed = |packed: &Tensor| {
            let made = connectors.embed(packed, settings.text_length)?;
            Ok(Embedding { video: made.video, audio: Some(made.audio) })
        };
        packed.iter().map(embed).collect()
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
        let load = |weights: &Weights| {
            Ok((vae::Statistics::load(&self.vae, weights)?, vae::Encoder::load(&self.vae, weights)?))
        };
        let network = compute.shelf.network(&wanted, compute, progress, load)?;
        let (statistics, encoder) = network.as_ref();
        let latents = encoder.encode(&frame(image, &compute.device)?, settings.tiling)?;
        let [_, _, cells @ ..] = shape.latents;
        Conditioned::beginning(&statistics.normalise(&latents.to_dtype(DType::F32)?)?, cells)
    }

    fn denoiser(
        &self,
        _: usize,
        film: Film<'_>,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Box<dyn Denoiser>> {
        let Settings { streams, fp8, .. } = film.settings;
        let wanted = self.wanted(Stage::Denoise, "transformer")?;
        let wanted = Wanted { streamed: streams.transformer, fp8: *fp8, ..wanted };
        let load = |weights: &Weights| Transformer::load(weights, &self.transformer);
        let transformer = compute.shelf.network(&wanted, compute, progress, load)?;
        Ok(Box::new(Expert::new(transformer, film, compute)?))
    }

    fn upsample(&self, video: &Tensor, compute: &Compute, progress: &mut Progress<'_>) -> Result<Tensor> {
        let config = self.upsampler.as_ref().ok_or_else(|| {
            Error::failed("the model has no latent upsampler").hint("use one stage: `--set stages=1`")
        })?;
        let wanted = Wanted { half: "statistics", ..self.wanted(Stage::Denoise, "vae")? };
        let load = |weights: &Weights| vae::Statistics::load(&self.vae, weights);
        let statistics = compute.shelf.network(&wanted, compute, progress, load)?;
        let wanted = self.wanted(Stage::Denoise, "latent_upsampler")?;
        let load = |weights: &Weights| Upsampler::load(config, weights);
        let upsampler = compute.shelf.network(&wanted, compute, progress, load)?;
        let larger = upsampler.forward(&statistics.denormalise(video)?)?;
        statistics.normalise(&larger.to_dtype(DType::F32)?)
    }

    fn decoder(
        &self,
        settings: &Settings,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Box<dyn VideoDecoder>> {
        let wanted = Wanted { half: "decoder", ..self.wanted(Stage::Decode, "vae")? };
        let load = |weights: &Weights| {
            Ok((vae::Statistics::load(&self.vae, weights)?, vae::Decoder::load(&self.vae, weights)?))
        };
        let network = compute.shelf.network(&wanted, compute, progress, load)?;
        Ok(Box::new(Decoder { network, tiling: settings.tiling, compute: compute.clone() }))
    }

    fn sound(&self, audio: &Tensor, compute: &Compute, progress: &mut Progress<'_>) -> Result<Option<Waveform>> {
        let Some((autoencoder, vocoder)) = &self.sound else { return Ok(None) };
        // A film's sound is little work: it is made in f32 everywhere.
        let compute = &compute.with_dtype(DType::F32);
        let wanted = self.wanted(Stage::Sound, "audio_vae")?;
        let load = |weights: &Weights| audio_vae::Decoder::load(autoencoder, weights);
        let decoder = compute.shelf.network(&wanted, compute, progress, load)?;
        let mel = decoder.forward(&decoder.denormalise(audio)?)?;
        drop(decoder);
        let wanted = self.wanted(Stage::Sound, "vocoder")?;
        let load = |weights: &Weights| Vocoder::load(vocoder, weights);
        compute.shelf.network(&wanted, compute, progress, load)?.forward(&mel).map(Some)
    }
}

impl Ltx {
    fn wanted(&self, stage: Stage, component: &str) -> Result<Wanted<'_>> {
        Ok(Wanted { stage, half: "", component: self.model.component(component)?, streamed: false, fp8: false })
    }

    /// The hidden states of the text encoder for each prompt, packed.
    fn hidden_states(
        &self,
        prompts: &[&str],
        settings: &Settings,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Tensor>> {
        let tokens = self.tokens(prompts, settings, compute, progress)?;
        let wanted = Wanted { streamed: settings.streams.text, ..self.wanted(Stage::Text, "text_encoder")? };
        let config = self.text.as_ref().ok_or_else(|| Error::failed("the model has no text encoder"))?;
        let encoder = compute.shelf.network(&wanted, compute, progress, |weights| Gemma3::load(weights, config))?;
        let total = (prompts.len() * (config.layer_types.len() + 1)) as u64;
        let packer = |ids: &Vec<u32>| Packer::new(&self.connectors, ids.len(), &compute.device, compute.dtype);
        let mut packers = tokens.iter().map(packer).collect::<Result<Vec<_>>>()?;
        let mut done = 0;
        encoder.encode_all(&tokens, settings.text_length, &mut |prompt, _, state| {
            packers[prompt].push(&state)?;
            done += 1;
            progress.advance(Stage::Text, done, total)
        })?;
        packers.into_iter().map(Packer::finish).collect()
    }
}

/// The decoder with where it works.
struct Decoder {
    network: Arc<(vae::Statistics, vae::Decoder)>,
    tiling: Option<Tiling>,
    compute: Compute,
}

impl VideoDecoder for Decoder {
    fn decode(&self, latents: &[Tensor], frames: FrameSink<'_>) -> Result<()> {
        let (statistics, decoder) = self.network.as_ref();
        for latents in latents {
            let mut stream = decoder.stream(self.tiling);
            for frame in 0..latents.dim(2)? {
                let frame = latents.narrow(2, frame, 1)?.to_device(&self.compute.device)?;
                if let Some(made) = stream.push(&statistics.denormalise(&frame)?)? {
                    frames(Decoded::Frames(made))?;
                }
            }
            while let Some(made) = stream.finish()? {
                frames(Decoded::Frames(made))?;
            }
        }
        Ok(())
    }
}
