//! One block of the LTX-2 transformer: two streams with self-attention, cross-attention to the text and to
//! each other.

use candle_core::{DType, Result, Tensor};

use super::adaln::Times;
use super::attention::{Attention, AttentionShape};
use super::config::{Config, Modality, Stream};
use super::positions::Side;
use crate::compute::kernels::cpu;
use crate::nn::Linear;
use crate::nn::norm::Plain;
use crate::weights::Weights;

/// Inputs of a stream besides its tokens.
pub(super) struct Given<'a> {
    pub times: Times,
    /// (1, m, text), in the compute type.
    pub text: Tensor,
    /// Bias on the text's attention scores: (1, 1, 1, m).
    pub text_bias: Option<Tensor>,
    pub positions: &'a Side,
}

/// The layers of one stream.
struct Half {
    attn1: Attention,
    attn2: Attention,
    ffn_in: Linear,
    ffn_out: Linear,
    /// (6 or 9, dim)
    scale_shift_table: Tensor,
    /// (2, dim)
    prompt_table: Option<Tensor>,
    /// (4, dim)
    cross_table: Tensor,
    /// (1, dim)
    gate_table: Tensor,
    text_modulated: bool,
    eps: f64,
}

impl Half {
    fn load(weights: &Weights, config: &Config, stream: &Stream) -> crate::error::Result<Self> {
        let Stream { modality, heads, head_dim, gated, text_modulated, .. } = *stream;
        let dim = stream.dim();
        let context = match modality {
            Modality::Video => config.cross_attention_dim,
            Modality::Audio => config.audio_cross_attention_dim,
        };
        let layer = |name: &str| weights.pp(modality.name(name));
        let attention = |name: &str, context| {
            Attention::load(&layer(name), &AttentionShape { query: dim, context, heads, head_dim, gated })
        };
        let table = |name: &str, rows: usize| weights.f32(&modality.name(name), (rows, dim));
        let tables = format!("{}_a2v_cross_attn_scale_shift_table", modality.word());
        let cross_table = weights.f32(&tables, (5, dim))?;
        Ok(Self {
            attn1: attention("attn1", dim)?,
            attn2: attention("attn2", context)?,
            ffn_in: Linear::load(&layer("ff.net.0.proj"), dim, 4 * dim)?,
            ffn_out: Linear::load(&layer("ff.net.2"), 4 * dim, dim)?,
            scale_shift_table: table("scale_shift_table", stream.vectors())?,
            prompt_table: config.prompt_modulated().then(|| table("prompt_scale_shift_table", 2)).transpose()?,
            gate_table: cross_table.narrow(0, 4, 1)?,
            cross_table: cross_table.narrow(0, 0, 4)?,
            text_modulated,
            eps: config.norm_eps,
        })
    }

    /// Self-attention, then cross-attention to the text.
    ///
    /// # Shapes
    /// - `xs` and output: (1, n, dim)
    fn attend(&self, xs: &Tensor, given: &Given, perturbed: bool) -> Result<Tensor> {
        let time = given.times.block.with(&self.scale_shift_table)?;
        let hs = time.shift_scale_norm(xs, Plain::Rms(self.eps), 0, 1)?;
        let rope = &given.positions.own;
        let hs = if perturbed {
            self.attn1.values_only(&hs)?
        } else {
            self.attn1.forward(&hs, &hs, Some((rope, rope)), None)?
        };
        let xs = time.add_gated(xs, &hs, 2)?;

        let norm = Plain::Rms(self.eps);
        let hs = if self.text_modulated {
            time.shift_scale_norm(&xs, norm, 6, 7)?
        } else {
            norm.forward(&xs)?.to_dtype(xs.dtype())?
        };
        let text = self.modulate_text(given)?;
        let hs = self.attn2.forward(&hs, &text, None, given.text_bias.as_ref())?;
        if self.text_modulated { time.add_gated(&xs, &hs, 8) } else { cpu::sum_of(&xs, &hs) }
    }

    fn modulate_text(&self, given: &Given) -> Result<Tensor> {
        let text = &given.text;
        let (Some(table), Some(prompt)) = (&self.prompt_table, &given.times.prompt) else { return Ok(text.clone()) };
        prompt.with(table)?.shift_scale(&text.to_dtype(DType::F32)?, 0, 1)?.to_dtype(text.dtype())
    }

    /// # Shapes
    /// - `xs` and output: (1, n, dim)
    fn feed_forward(&self, xs: &Tensor, given: &Given) -> Result<Tensor> {
        let time = given.times.block.with(&self.scale_shift_table)?;
        let hs = time.shift_scale_norm(xs, Plain::Rms(self.eps), 3, 4)?;
        let hs = self.ffn_out.forward(&self.ffn_in.forward_gelu(&hs)?)?;
        time.add_gated(xs, &hs, 5)
    }
}

/// diffusers' `LTX2VideoTransformerBlock`.
pub(super) struct Block {
    video: Half,
    audio: Half,
    audio_to_video: Attention,
    video_to_audio: Attention,
}

impl Block {
    pub(super) fn load(weights: &Weights, config: &Config) -> crate::error::Result<Self> {
        let [video, audio] = [Modality::Video, Modality::Audio].map(|modality| config.stream(modality));
        // The cross-attention between the streams has the audio's heads.
        let between = |name: &str, query: &Stream, context: &Stream| {
            let Stream { heads, head_dim, .. } = audio;
            let (query, context, gated) = (query.dim(), context.dim(), query.gated);
            Attention::load(&weights.pp(name), &AttentionShape { query, context, heads, head_dim, gated })
        };
        Ok(Self {
            video: Half::load(weights, config, &video)?,
            audio: Half::load(weights, config, &audio)?,
            audio_to_video: between("audio_to_video_attn", &video, &audio)?,
            video_to_audio: between("video_to_audio_attn", &audio, &video)?,
        })
    }

    /// - `perturbed`: skips the self-attentions (spatio-temporal guidance)
    /// - `isolated`: skips the cross-attention between the streams (modality guidance)
    ///
    /// # Shapes
    /// - `xs` and output: the video's (1, n, dim) and the audio's (1, m, audio dim)
    pub(super) fn forward(
        &self,
        [video, audio]: &[Tensor; 2],
        given: &[Given; 2],
        perturbed: bool,
        isolated: bool,
    ) -> Result<[Tensor; 2]> {
        let video = self.video.attend(video, &given[0], perturbed)?;
        let audio = self.audio.attend(audio, &given[1], perturbed)?;
        let [video, audio] = if isolated { [video, audio] } else { self.exchange([video, audio], given)? };
        Ok([self.video.feed_forward(&video, &given[0])?, self.audio.feed_forward(&audio, &given[1])?])
    }

    /// Cross-attention of the video to the audio and of the audio to the video, with time positions only.
    /// Both read the other stream as it was before either was updated.
    fn exchange(&self, [video, audio]: [Tensor; 2], given: &[Given; 2]) -> Result<[Tensor; 2]> {
        let ropes = [&given[0].positions.cross, &given[1].positions.cross];
        let (norm, streams) = (Plain::Rms(self.video.eps), [&video, &audio]);
        let cross =
            [given[0].times.cross.with(&self.video.cross_table)?, given[1].times.cross.with(&self.audio.cross_table)?];
        // In the tables, the scale precedes the shift.
        let modulated = |stream: usize, scale| cross[stream].shift_scale_norm(streams[stream], norm, scale + 1, scale);
        let gate = |stream: usize, table, hs| given[stream].times.gate.with(table)?.add_gated(streams[stream], hs, 0);

        let hs = self.audio_to_video.forward(&modulated(0, 0)?, &modulated(1, 0)?, Some((ropes[0], ropes[1])), None)?;
        let seen = gate(0, &self.video.gate_table, &hs)?;
        let hs = self.video_to_audio.forward(&modulated(1, 2)?, &modulated(0, 2)?, Some((ropes[1], ropes[0])), None)?;
        Ok([seen, gate(1, &self.audio.gate_table, &hs)?])
    }
}
