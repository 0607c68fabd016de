//! The stages of an LTX-2 run: each loads what it needs, uses it and drops it.

use candle_core::{DType, Tensor};

use super::connectors::{Connectors, Packer};
use super::denoiser::Expert;
use super::transformer::Transformer;
use super::upsampler::Upsampler;
use super::vocoder::Vocoder;
use super::{Ltx, audio_vae, vae};
use crate::audio::Waveform;
use crate::error::{Error, Result};
use crate::families::family::{self, Compute, Decoded, Denoiser, Embedding, Family, FrameSink, Workload};
use crate::families::text::clean::strip;
use crate::families::text::gemma3::Gemma3;
use crate::families::text::tokenize::{Tokenizer, Vocabulary};
use crate::media::{Filter, Rgb};
use crate::plan::Tiling;
use crate::plan::{Geometry, Plan, Shape, StageMemory};
use crate::progress::{Progress, Stage};
use crate::weights::Weights;

impl Family for Ltx {
    fn geometry(&self) -> Result<Geometry> {
        Self::geometry(self)
    }

    fn memory(&self, plan: &Plan, shape: &Shape) -> Vec<StageMemory> {
        super::memory::stages(self, plan, shape)
    }

    fn tokens(&self, prompts: &[&str], plan: &Plan, progress: &mut Progress<'_>) -> Result<Vec<Vec<u32>>> {
        let tokenizer = Tokenizer::open(&self.model.component("tokenizer")?.folder, Vocabulary::Gemma)?;
        tokenizer.encode_all(prompts.iter().map(|prompt| strip(prompt)), plan.text_length, progress)
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
        let packed = self.read(prompts, plan, compute, progress)?;
        let weights = self.weights("connectors", false, compute)?;
        let load = |weights: &Weights| Connectors::load(weights, &self.connectors);
        let connectors = family::load("connectors", &weights, progress, load)?;
        let embed = |packed: &Tensor| {
            let made = connectors.embed(packed, plan.text_length)?;
            Ok(Embedding { video: made.video, audio: Some(made.audio) })
        };
        packed.iter().map(embed).collect()
    }

    fn encode_image(&self, image: &Rgb, plan: &Plan, compute: &Compute, progress: &mut Progress<'_>) -> Result<Tensor> {
        let weights = self.weights("vae", false, compute)?;
        let statistics = vae::Statistics::load(&self.vae, &weights)?;
        let encoder = family::load("vae", &weights, progress, |weights| vae::Encoder::load(&self.vae, weights))?;
        let frame = family::frame(image, &compute.device)?;
        let latents = encoder.encode(&frame, plan.tiling)?;
        statistics.normalise(&latents.to_dtype(DType::F32)?)
    }

    fn filter(&self) -> Filter {
        Filter::Bilinear
    }

    fn begins_with_image(&self) -> bool {
        true
    }

    fn denoiser(
        &self,
        _: usize,
        plan: &Plan,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Box<dyn Denoiser>> {
        let weights = self.weights("transformer", plan.streams.transformer, compute)?.eight_bits(plan.fp8)?;
        let load = |weights: &Weights| Transformer::load(weights, &self.transformer);
        let transformer = family::load("transformer", &weights, progress, load)?;
        Ok(Box::new(Expert::new(transformer, plan, compute)))
    }

    fn upsample(&self, video: &Tensor, compute: &Compute) -> Result<Tensor> {
        let config = self.upsampler.as_ref().ok_or_else(|| {
            Error::failed("the model has no latent upsampler").hint("use one stage: `--set stages=1`")
        })?;
        let statistics = vae::Statistics::load(&self.vae, &self.weights("vae", false, compute)?)?;
        let upsampler = Upsampler::load(config, &self.weights("latent_upsampler", false, compute)?)?;
        let larger = upsampler.forward(&statistics.denormalise(video)?)?;
        statistics.normalise(&larger.to_dtype(DType::F32)?)
    }

    fn decode(
        &self,
        latents: &[Tensor],
        tiling: Option<Tiling>,
        compute: &Compute,
        frames: FrameSink<'_>,
    ) -> Result<()> {
        let weights = self.weights("vae", false, compute)?;
        let statistics = vae::Statistics::load(&self.vae, &weights)?;
        let decoder = vae::Decoder::load(&self.vae, &weights)?;
        frames(Decoded::Loaded)?;
        for latents in latents {
            let mut stream = decoder.stream(tiling);
            for frame in 0..latents.dim(2)? {
                let frame = latents.narrow(2, frame, 1)?.to_device(&compute.device)?;
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

    fn decode_sound(&self, audio: &Tensor, compute: &Compute) -> Result<Option<Waveform>> {
        let Some((autoencoder, vocoder)) = &self.sound else { return Ok(None) };
        // A film's sound is little work: it is made in f32 everywhere.
        let compute = Compute { device: compute.device.clone(), dtype: DType::F32 };
        let decoder = audio_vae::Decoder::load(autoencoder, &self.weights("audio_vae", false, &compute)?)?;
        let mel = decoder.forward(&decoder.denormalise(audio)?)?;
        drop(decoder);
        Vocoder::load(vocoder, &self.weights("vocoder", false, &compute)?)?.forward(&mel).map(Some)
    }
}

impl Ltx {
    fn weights(&self, component: &str, streamed: bool, compute: &Compute) -> Result<Weights> {
        let weights = self.model.component(component)?.weights(&compute.device, compute.dtype)?;
        if streamed { weights.streamed() } else { Ok(weights) }
    }

    /// The hidden states of the text encoder for each prompt, packed.
    fn read(
        &self,
        prompts: &[&str],
        plan: &Plan,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Tensor>> {
        let tokens = self.tokens(prompts, plan, progress)?;
        let weights = self.weights("text_encoder", plan.streams.text, compute)?;
        let config = self.text.as_ref().ok_or_else(|| Error::failed("the model has no text encoder"))?;
        let encoder = family::load("text_encoder", &weights, progress, |weights| Gemma3::load(weights, config))?;
        let total = (prompts.len() * (config.layer_types.len() + 1)) as u64;
        let packer = |ids: &Vec<u32>| Packer::new(&self.connectors, ids.len(), &compute.device, compute.dtype);
        let mut packers = tokens.iter().map(packer).collect::<Result<Vec<_>>>()?;
        let mut done = 0;
        encoder.encode_all(&tokens, plan.text_length, &mut |prompt, _, state| {
            packers[prompt].push(&state)?;
            done += 1;
            progress.advance(Stage::Text, done, total)
        })?;
        packers.into_iter().map(Packer::finish).collect()
    }
}
