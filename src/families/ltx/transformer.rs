//! The LTX-2 transformer: noisy video and audio latents, a timestep and a text in, two velocities out
//! (Lightricks, 2026).

use candle_core::{DType, Device, Tensor};

use super::adaln::{TimeEmbedding, TimeEmbeddings, Times};
use super::block::{Block, Given};
use super::config::{Config, Modality, Stream};
use super::positions::{Positions, Side};
use crate::error::{Error, Result};
use crate::nn::Linear;
use crate::nn::blocks::Blocks;
use crate::nn::modulation::Runs;
use crate::nn::norm::LayerNorm;
use crate::weights::Weights;

/// Epsilon of the output norms.
const EPS: f64 = 1e-6;

/// Inputs of a forward pass.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Video tokens: (1, n, in_channels), of any float type.
    pub video: &'a Tensor,
    /// Audio tokens: (1, m, audio_in_channels).
    pub audio: &'a Tensor,
    /// Text embeddings for the video, from the connectors: (1, rows, [`Stream::text`]).
    pub video_text: &'a Tensor,
    /// Text embeddings for the audio, likewise.
    pub audio_text: &'a Tensor,
    /// Multiplicity of each row of both texts (1, rows); 0 masks a row. `None`: 1 for all.
    pub text_counts: Option<&'a Tensor>,
    /// Timesteps, in [0, 1000].
    pub timesteps: Timesteps<'a>,
    /// Positions of the tokens.
    pub positions: &'a Positions,
}

/// The timesteps of a forward pass: sigmas times 1,000.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timesteps<'a> {
    /// Of the video tokens: one for all, or one per token, 0 for a given image.
    pub video: &'a [f64],
    /// Of the audio tokens: one for all, or one per token.
    pub audio: &'a [f64],
    /// Of the video's step, whatever the timesteps of single tokens.
    pub sigma: f64,
    /// Of the audio's step.
    pub audio_sigma: f64,
}

/// Variant of a forward pass; the default is the full pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pass<'a> {
    /// Blocks that skip self-attention, for spatio-temporal guidance. Ignored without
    /// [`Config::perturbed_attn`], as in the reference; so are numbers of blocks that do not exist.
    pub stg_blocks: &'a [usize],
    /// Whether to skip the cross-attention between video and audio, for modality guidance.
    pub isolate: bool,
    /// Whether each stream's side of that cross-attention is modulated by the other stream's sigma (LTX-2.3)
    /// or by its own timesteps (LTX-2.0).
    pub cross_timestep: bool,
}

/// The layers of one stream before and after the blocks.
struct Ends {
    stream: Stream,
    proj_in: Linear,
    caption_projection: Option<[Linear; 2]>,
    times: TimeEmbeddings,
    norm_out: LayerNorm,
    proj_out: Linear,
    /// (2, dim)
    scale_shift_table: Tensor,
}

impl Ends {
    fn load(weights: &Weights, config: &Config, modality: Modality) -> Result<Self> {
        let stream = config.stream(modality);
        let dim = stream.dim();
        let layer = |name: &str| weights.pp(modality.name(name));
        let caption = layer("caption_projection");
        let caption = config.use_prompt_embeddings.then(|| -> Result<_> {
            Ok([
                Linear::load(&caption.pp("linear_1"), stream.text, dim)?,
                Linear::load(&caption.pp("linear_2"), dim, dim)?,
            ])
        });
        let (cross, gate) = match modality {
            Modality::Video => ("av_cross_attn_video_scale_shift", "av_cross_attn_video_a2v_gate"),
            Modality::Audio => ("av_cross_attn_audio_scale_shift", "av_cross_attn_audio_v2a_gate"),
        };
        let prompt = config.prompt_modulated().then(|| TimeEmbedding::load(&layer("prompt_adaln"), dim, 2));
        let times = TimeEmbeddings {
            time: TimeEmbedding::load(&layer("time_embed"), dim, stream.vectors())?,
            prompt: prompt.transpose()?,
            cross: TimeEmbedding::load(&weights.pp(cross), dim, 4)?,
            gate: TimeEmbedding::load(&weights.pp(gate), dim, 1)?,
            gate_scale: config.cross_attn_timestep_scale_multiplier as f64 / config.timestep_scale_multiplier as f64,
        };
        Ok(Self {
            proj_in: Linear::load(&layer("proj_in"), stream.inputs, dim)?,
            caption_projection: caption.transpose()?,
            times,
            norm_out: LayerNorm::plain(weights, dim, EPS)?,
            proj_out: Linear::load(&layer("proj_out"), dim, stream.outputs)?,
            scale_shift_table: weights.f32(&modality.name("scale_shift_table"), (2, dim))?,
            stream,
        })
    }

    /// The blocks' inputs for this stream. `bias` is added to the text's attention scores.
    fn given<'a>(&self, times: Times, text: &Tensor, bias: Option<&Tensor>, positions: &'a Side) -> Result<Given<'a>> {
        let text = match &self.caption_projection {
            Some([first, second]) => second.forward(&first.forward_gelu(text)?)?,
            None => text.clone(),
        };
        Ok(Given { times, text, text_bias: bias.cloned(), positions })
    }

    /// The velocity, f32, from the last block's output.
    fn finish(&self, xs: &Tensor, times: &Times) -> Result<Tensor> {
        let out = times.embedded.with(&self.scale_shift_table)?.shift_scale(&self.norm_out.forward(xs)?, 0, 1)?;
        Ok(self.proj_out.forward(&out.to_dtype(xs.dtype())?)?.to_dtype(DType::F32)?)
    }
}

/// diffusers' `LTX2VideoTransformer3DModel`.
pub struct Transformer {
    config: Config,
    video: Ends,
    audio: Ends,
    blocks: Blocks<Block>,
    device: Device,
    dtype: DType,
}

impl Transformer {
    /// Loads the network, which must use every tensor of `weights`.
    ///
    /// # Errors
    /// The refusals of [`Config::check`]; a tensor that is missing, of another shape, or left over.
    pub fn load(weights: &Weights, config: &Config) -> Result<Self> {
        config.check()?;
        let network = Self {
            video: Ends::load(weights, config, Modality::Video)?,
            audio: Ends::load(weights, config, Modality::Audio)?,
            blocks: Blocks::load(&weights.pp("transformer_blocks"), config.num_layers, {
                let config = config.clone();
                move |weights| Block::load(weights, &config)
            })?,
            device: weights.device().clone(),
            dtype: weights.dtype(),
            config: config.clone(),
        };
        weights.finish(&[])?;
        Ok(network)
    }

    /// The network's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The predicted velocities of the video tokens and of the audio tokens.
    ///
    /// # Shapes
    /// - output: (1, n, out_channels) and (1, m, audio_out_channels), f32
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, inputs: &Inputs, pass: &Pass) -> Result<(Tensor, Tensor)> {
        self.check(inputs)?;
        let given = self.given(inputs, pass.cross_timestep)?;
        let enter = |ends: &Ends, tokens: &Tensor| ends.proj_in.forward(&tokens.to_dtype(self.dtype)?);
        let mut xs = [enter(&self.video, inputs.video)?, enter(&self.audio, inputs.audio)?];
        self.blocks.each(|layer, block| {
            let perturbed = self.config.perturbed_attn && pass.stg_blocks.contains(&layer);
            xs = block.forward(&xs, &given, perturbed, pass.isolate)?;
            Ok(())
        })?;
        let [video, audio] = &xs;
        Ok((self.video.finish(video, &given[0].times)?, self.audio.finish(audio, &given[1].times)?))
    }

    /// The inputs that all blocks share.
    fn given<'a>(&self, inputs: &Inputs<'a>, cross_timestep: bool) -> Result<[Given<'a>; 2]> {
        let Timesteps { video, audio, sigma, audio_sigma } = inputs.timesteps;
        let runs = [Runs::new(video, inputs.video.dim(1)?), Runs::new(audio, inputs.audio.dim(1)?)];
        let other = [Runs::new(&[audio_sigma], runs[0].total()), Runs::new(&[sigma], runs[1].total())];
        let cross = if cross_timestep { &other } else { &runs };
        let bias = inputs.text_counts.map(|counts| self.text_bias(counts)).transpose()?;
        let text = |text: &Tensor| text.to_dtype(self.dtype);
        let times = self.video.times.forward(&runs[0], &cross[0], sigma, &self.device)?;
        let video = self.video.given(times, &text(inputs.video_text)?, bias.as_ref(), &inputs.positions.video)?;
        let times = self.audio.times.forward(&runs[1], &cross[1], audio_sigma, &self.device)?;
        let audio = self.audio.given(times, &text(inputs.audio_text)?, bias.as_ref(), &inputs.positions.audio)?;
        Ok([video, audio])
    }

    /// Multiplicities (1, rows) as a bias on attention scores (1, 1, 1, rows): their logarithms, and -10,000
    /// for 0, as in
    /// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/transformers/transformer_ltx2.py#L1475-L1477>.
    fn text_bias(&self, counts: &Tensor) -> Result<Tensor> {
        let bias = counts.to_dtype(DType::F32)?.log()?.maximum(-1e4)?;
        Ok(bias.to_dtype(self.dtype)?.unsqueeze(1)?.unsqueeze(1)?)
    }

    /// Refuses tensors whose shapes do not fit each other.
    fn check(&self, inputs: &Inputs) -> Result<()> {
        let Inputs { positions, timesteps, .. } = inputs;
        let streams = [
            ("video", &self.video, inputs.video, inputs.video_text, &positions.video, timesteps.video.len()),
            ("audio", &self.audio, inputs.audio, inputs.audio_text, &positions.audio, timesteps.audio.len()),
        ];
        for (name, ends, tokens, text, side, timesteps) in streams {
            let (n, rows) = (side.own.tokens()?, text.dim(1)?);
            let fits = tokens.dims() == [1, n, ends.stream.inputs]
                && text.dims() == [1, rows, ends.stream.text]
                && inputs.text_counts.is_none_or(|counts| counts.dims() == [1, rows])
                && (timesteps == 1 || timesteps == n);
            if !fits {
                return Err(Error::failed(format!(
                    "{name} tokens of shape {:?} with {timesteps} timesteps and a text of shape {:?} do not fit this \
                     transformer: it takes (1, {n}, {}), one timestep or {n}, and (1, rows, {})",
                    tokens.dims(),
                    text.dims(),
                    ends.stream.inputs,
                    ends.stream.text
                )));
            }
        }
        Ok(())
    }
}
