//! The shape of an LTX-2 transformer, as `transformer/config.json` says it.

use serde::Deserialize;

use super::rope::{RopeShape, RopeType};
use crate::error::{Error, Result};

/// `config.json` of diffusers' `LTX2VideoTransformer3DModel`. Fields that do not change the result are not read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the fields of the file")]
pub struct Config {
    /// Channels of a video token that comes in.
    pub in_channels: usize,
    /// Channels of a video token that goes out: as many as come in where nothing is said.
    pub out_channels: Option<usize>,
    /// Latent rows and columns of a video token.
    pub patch_size: usize,
    /// Latent frames of a video token.
    pub patch_size_t: usize,
    /// Heads of the video's attention.
    pub num_attention_heads: usize,
    /// Channels of a head of the video's attention.
    pub attention_head_dim: usize,
    /// Width of the text that the video attends to, where the network does not project it.
    pub cross_attention_dim: usize,
    /// Frames, rows and columns of a latent place.
    pub vae_scale_factors: [usize; 3],
    /// Seconds of video that positions range over.
    pub pos_embed_max_pos: usize,
    /// Rows of pixels that positions range over.
    pub base_height: usize,
    /// Columns of pixels that positions range over.
    pub base_width: usize,
    /// Whether the video's heads are gated.
    pub gated_attn: bool,
    /// Whether time modulates the video's attention to the text.
    pub cross_attn_mod: bool,
    /// Channels of an audio token that comes in.
    pub audio_in_channels: usize,
    /// Channels of an audio token that goes out: as many as come in where nothing is said.
    pub audio_out_channels: Option<usize>,
    /// Latent frequencies of an audio token. The pipeline does not read it: a token has all of them.
    pub audio_patch_size: usize,
    /// Latent frames of an audio token.
    pub audio_patch_size_t: usize,
    /// Heads of the audio's attention, and of the attention between video and audio.
    pub audio_num_attention_heads: usize,
    /// Channels of a head of those.
    pub audio_attention_head_dim: usize,
    /// Width of the text that the audio attends to, and of the attention between video and audio.
    pub audio_cross_attention_dim: usize,
    /// Frames of the spectrogram in a latent frame of sound.
    pub audio_scale_factor: usize,
    /// Seconds of audio that positions range over.
    pub audio_pos_embed_max_pos: usize,
    /// Samples in a second.
    pub audio_sampling_rate: usize,
    /// Samples in a frame of the spectrogram.
    pub audio_hop_length: usize,
    /// Whether the audio's heads are gated.
    pub audio_gated_attn: bool,
    /// Whether time modulates the audio's attention to the text.
    pub audio_cross_attn_mod: bool,
    /// Number of blocks.
    pub num_layers: usize,
    /// The activation between the two feed-forward layers.
    pub activation_fn: String,
    /// How queries and keys are normalised.
    pub qk_norm: String,
    /// Whether the blocks' norms have parameters.
    pub norm_elementwise_affine: bool,
    /// The blocks' norms' epsilon.
    pub norm_eps: f64,
    /// Width of the text where the network projects it.
    pub caption_channels: usize,
    /// Whether queries, keys and values have biases.
    pub attention_bias: bool,
    /// Whether what an attention puts out has a bias.
    pub attention_out_bias: bool,
    /// The highest rotary frequency.
    pub rope_theta: f64,
    /// Whether rotary frequencies are computed in f64.
    pub rope_double_precision: bool,
    /// Frames by which time is shifted: the first latent frame stands for one frame only.
    pub causal_offset: usize,
    /// What a sigma is multiplied by to make a timestep.
    pub timestep_scale_multiplier: usize,
    /// The same for the gates of the attention between video and audio.
    pub cross_attn_timestep_scale_multiplier: usize,
    /// Which channels turn together.
    pub rope_type: RopeType,
    /// Whether the network projects the text: 2.0 does, in 2.3 the connectors have done it.
    pub use_prompt_embeddings: bool,
    /// Whether [`super::transformer::Pass::stg_blocks`] has an effect.
    pub perturbed_attn: bool,
    /// Whether the video's feed-forward layers have biases: not in LTX-2.5.
    pub ff_bias: bool,
    /// Whether the audio's feed-forward layers have biases.
    pub audio_ff_bias: bool,
    /// Whether time modulates the text, where it modulates the attention to it: not in LTX-2.5.
    pub use_prompt_adaln_single: bool,
    /// Whether frames that stand alone are marked: in LTX-2.5.
    pub use_keyframes_abs_pos_embedding: bool,
}

impl Default for Config {
    /// The defaults of the class, which are those of 2.0 but for the rotary embedding.
    fn default() -> Self {
        Self {
            in_channels: 128,
            out_channels: Some(128),
            patch_size: 1,
            patch_size_t: 1,
            num_attention_heads: 32,
            attention_head_dim: 128,
            cross_attention_dim: 4096,
            vae_scale_factors: [8, 32, 32],
            pos_embed_max_pos: 20,
            base_height: 2048,
            base_width: 2048,
            gated_attn: false,
            cross_attn_mod: false,
            audio_in_channels: 128,
            audio_out_channels: Some(128),
            audio_patch_size: 1,
            audio_patch_size_t: 1,
            audio_num_attention_heads: 32,
            audio_attention_head_dim: 64,
            audio_cross_attention_dim: 2048,
            audio_scale_factor: 4,
            audio_pos_embed_max_pos: 20,
            audio_sampling_rate: 16_000,
            audio_hop_length: 160,
            audio_gated_attn: false,
            audio_cross_attn_mod: false,
            num_layers: 48,
            activation_fn: "gelu-approximate".into(),
            qk_norm: "rms_norm_across_heads".into(),
            norm_elementwise_affine: false,
            norm_eps: 1e-6,
            caption_channels: 3840,
            attention_bias: true,
            attention_out_bias: true,
            rope_theta: 10_000.0,
            rope_double_precision: true,
            causal_offset: 1,
            timestep_scale_multiplier: 1000,
            cross_attn_timestep_scale_multiplier: 1000,
            rope_type: RopeType::Interleaved,
            use_prompt_embeddings: true,
            perturbed_attn: false,
            ff_bias: true,
            audio_ff_bias: true,
            use_prompt_adaln_single: true,
            use_keyframes_abs_pos_embedding: false,
        }
    }
}

/// One of the two streams of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modality {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

impl Modality {
    /// `video` or `audio`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
        }
    }

    /// A layer's name: the audio's begin with `audio_`.
    pub fn name(self, name: &str) -> String {
        match self {
            Self::Video => name.to_owned(),
            Self::Audio => format!("audio_{name}"),
        }
    }
}

/// The shape of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// Which one.
    pub modality: Modality,
    /// Heads of attention.
    pub heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Channels of a token that comes in.
    pub inputs: usize,
    /// Channels of a token that goes out.
    pub outputs: usize,
    /// Width of the text that is given.
    pub text: usize,
    /// Whether heads are gated.
    pub gated: bool,
    /// Whether time modulates the attention to the text.
    pub text_modulated: bool,
}

impl Stream {
    /// Width of the stream.
    pub fn dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Vectors that modulate a block: shift, scale and gate of the self-attention, of the feed-forward layers, and where
    /// time modulates it, of the attention to the text.
    pub fn vectors(&self) -> usize {
        if self.text_modulated { 9 } else { 6 }
    }
}

impl Config {
    /// The shape of the video's stream or of the audio's.
    pub fn stream(&self, modality: Modality) -> Stream {
        let text = |width| if self.use_prompt_embeddings { self.caption_channels } else { width };
        match modality {
            Modality::Video => Stream {
                modality,
                heads: self.num_attention_heads,
                head_dim: self.attention_head_dim,
                inputs: self.in_channels,
                outputs: self.out_channels.unwrap_or(self.in_channels),
                text: text(self.cross_attention_dim),
                gated: self.gated_attn,
                text_modulated: self.cross_attn_mod,
            },
            Modality::Audio => Stream {
                modality,
                heads: self.audio_num_attention_heads,
                head_dim: self.audio_attention_head_dim,
                inputs: self.audio_in_channels,
                outputs: self.audio_out_channels.unwrap_or(self.audio_in_channels),
                text: text(self.audio_cross_attention_dim),
                gated: self.audio_gated_attn,
                text_modulated: self.audio_cross_attn_mod,
            },
        }
    }

    /// Whether time modulates the text: in both streams, where it modulates the attention of either to it.
    pub fn prompt_modulated(&self) -> bool {
        self.cross_attn_mod || self.audio_cross_attn_mod
    }

    /// What the rotary tables of a stream's self-attention are made for.
    pub fn rope(&self, modality: Modality) -> RopeShape {
        let stream = self.stream(modality);
        RopeShape { width: stream.dim(), heads: stream.heads, theta: self.rope_theta, kind: self.rope_type }
    }

    /// The same for a stream's side of the attention between video and audio.
    pub fn cross_rope(&self, modality: Modality) -> RopeShape {
        RopeShape { width: self.audio_cross_attention_dim, ..self.rope(modality) }
    }

    /// Parameters of the network, of a shape that [`Config::check`] lets pass.
    pub fn parameters(&self) -> u64 {
        let [video, audio] = [Modality::Video, Modality::Audio].map(|modality| self.stream(modality));
        let linear = |inputs: usize, outputs: usize| (inputs as u64 + 1) * outputs as u64;
        let attention = |query: &Stream, key: usize, inner: &Stream| {
            let gate = if query.gated { linear(query.dim(), inner.heads) } else { 0 };
            let width = inner.dim();
            linear(query.dim(), width) + 2 * linear(key, width) + linear(width, query.dim()) + 2 * width as u64 + gate
        };
        let prompt = u64::from(self.prompt_modulated());
        let half = |stream: &Stream, other: &Stream, text: usize| {
            let dim = stream.dim();
            let ff = linear(dim, 4 * dim) + linear(4 * dim, dim);
            let tables = (stream.vectors() as u64 + 5 + 2 * prompt) * dim as u64;
            let attentions = attention(stream, dim, stream) + attention(stream, text, stream);
            attentions + attention(stream, other.dim(), &audio) + ff + tables
        };
        let blocks =
            half(&video, &audio, self.cross_attention_dim) + half(&audio, &video, self.audio_cross_attention_dim);
        let ends = |stream: &Stream| {
            let dim = stream.dim();
            let time = |vectors: usize| linear(256, dim) + linear(dim, dim) + linear(dim, vectors * dim);
            let text = u64::from(self.use_prompt_embeddings) * (linear(stream.text, dim) + linear(dim, dim));
            let times = time(stream.vectors()) + time(4) + time(1) + prompt * time(2);
            linear(stream.inputs, dim) + text + times + linear(dim, stream.outputs) + 2 * dim as u64
        };
        self.num_layers as u64 * blocks + ends(&video) + ends(&audio)
    }

    /// Refuses a shape that no network of this family has, before anything is allocated for it.
    ///
    /// # Errors
    /// The field, its value and what belongs there.
    pub fn check(&self) -> Result<()> {
        self.check_release()?;
        let [frames, rows, columns] = self.vae_scale_factors;
        let sizes = [
            ("patch_size", self.patch_size, 1, 1),
            ("patch_size_t", self.patch_size_t, 1, 1),
            ("audio_patch_size", self.audio_patch_size, 1, 1),
            ("audio_patch_size_t", self.audio_patch_size_t, 1, 1),
            ("num_attention_heads", self.num_attention_heads, 1, 1 << 10),
            ("attention_head_dim", self.attention_head_dim, 1, 1 << 10),
            ("audio_num_attention_heads", self.audio_num_attention_heads, 1, 1 << 10),
            ("audio_attention_head_dim", self.audio_attention_head_dim, 1, 1 << 10),
            ("in_channels", self.in_channels, 1, 1 << 12),
            ("out_channels", self.out_channels.unwrap_or(1), 1, 1 << 12),
            ("audio_in_channels", self.audio_in_channels, 1, 1 << 12),
            ("audio_out_channels", self.audio_out_channels.unwrap_or(1), 1, 1 << 12),
            ("cross_attention_dim", self.cross_attention_dim, 1, 1 << 16),
            ("caption_channels", self.caption_channels, 1, 1 << 16),
            ("num_layers", self.num_layers, 1, 1 << 10),
            ("vae_scale_factors[0]", frames, 1, 1 << 10),
            ("vae_scale_factors[1]", rows, 1, 1 << 10),
            ("vae_scale_factors[2]", columns, 1, 1 << 10),
            ("pos_embed_max_pos", self.pos_embed_max_pos, 1, 1 << 16),
            ("audio_pos_embed_max_pos", self.audio_pos_embed_max_pos, 1, 1 << 16),
            ("base_height", self.base_height, 1, 1 << 20),
            ("base_width", self.base_width, 1, 1 << 20),
            ("audio_scale_factor", self.audio_scale_factor, 1, 1 << 10),
            ("audio_sampling_rate", self.audio_sampling_rate, 1, 1 << 20),
            ("audio_hop_length", self.audio_hop_length, 1, 1 << 20),
            ("causal_offset", self.causal_offset, 0, 1 << 10),
            ("timestep_scale_multiplier", self.timestep_scale_multiplier, 1, 1 << 20),
            ("cross_attn_timestep_scale_multiplier", self.cross_attn_timestep_scale_multiplier, 1, 1 << 20),
        ];
        for (name, value, low, high) in sizes {
            if !(low..=high).contains(&value) {
                return Err(refuse(name, value, format!("{low} to {high}")));
            }
        }
        self.check_widths()
    }

    /// Widths that have to agree with each other.
    fn check_widths(&self) -> Result<()> {
        let [video, audio] = [Modality::Video, Modality::Audio].map(|modality| self.stream(modality));
        for (name, stream) in [("attention_head_dim", video), ("audio_attention_head_dim", audio)] {
            if stream.head_dim % 2 != 0 {
                return Err(refuse(name, stream.head_dim, "an even number"));
            }
        }
        if self.audio_cross_attention_dim != audio.dim() || audio.dim() % (2 * video.heads) != 0 {
            let wanted = "the width of the audio, a multiple of twice the video's heads,";
            return Err(refuse("audio_cross_attention_dim", self.audio_cross_attention_dim, wanted));
        }
        if (self.use_prompt_embeddings || self.prompt_modulated()) && self.cross_attention_dim != video.dim() {
            return Err(refuse("cross_attention_dim", self.cross_attention_dim, video.dim()));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return Err(refuse("norm_eps", self.norm_eps, "a small positive number"));
        }
        if !(self.rope_theta >= 1.0 && self.rope_theta <= 1e9) {
            return Err(refuse("rope_theta", self.rope_theta, "1 to 1e9"));
        }
        Ok(())
    }

    /// What is the same in 2.0 and in 2.3, and different in other networks of this class.
    fn check_release(&self) -> Result<()> {
        let switches = [
            ("norm_elementwise_affine", self.norm_elementwise_affine, false),
            ("attention_bias", self.attention_bias, true),
            ("attention_out_bias", self.attention_out_bias, true),
            ("rope_double_precision", self.rope_double_precision, true),
            ("ff_bias", self.ff_bias, true),
            ("audio_ff_bias", self.audio_ff_bias, true),
            ("use_prompt_adaln_single", self.use_prompt_adaln_single, true),
            ("use_keyframes_abs_pos_embedding", self.use_keyframes_abs_pos_embedding, false),
        ];
        let words = [
            ("activation_fn", &self.activation_fn, "gelu-approximate"),
            ("qk_norm", &self.qk_norm, "rms_norm_across_heads"),
        ];
        let switch = switches.into_iter().find(|(_, value, wanted)| value != wanted);
        let word = words.into_iter().find(|(_, value, wanted)| value != wanted);
        let found = switch.map(|(name, value, wanted)| (name, value.to_string(), wanted.to_string()));
        let found =
            found.or_else(|| word.map(|(name, value, wanted)| (name, format!("{value:?}"), format!("{wanted:?}"))));
        match found {
            None => Ok(()),
            Some((name, value, wanted)) => Err(Error::failed(format!(
                "the transformer's config.json says `{name}` = {value}, where LTX-2.0 and LTX-2.3 have {wanted}"
            ))
            .hint("talkie runs LTX-2.0 and LTX-2.3, and not LTX-2.5")),
        }
    }
}

fn refuse(field: &str, value: impl std::fmt::Display, wanted: impl std::fmt::Display) -> Error {
    Error::failed(format!("the transformer's config.json says `{field}` = {value}, where {wanted} belongs"))
        .hint("the folder is of another family, or its config.json is damaged: fetch it again")
}
