//! Configuration of an LTX-2 transformer: `transformer/config.json`.

use serde::Deserialize;

use super::rope::{RopeShape, RopeType};
use crate::error::Result;
use crate::families::check::Check;

const CHECK: Check = Check {
    network: "transformer",
    hint: "the folder is of another family, or its config.json is damaged: fetch it again",
};

/// The checks of what LTX-2.5 has differently.
const RELEASE: Check = Check { hint: "talkie runs LTX-2.0 and LTX-2.3, and not LTX-2.5", ..CHECK };

/// `config.json` of diffusers' `LTX2VideoTransformer3DModel`. Fields that do not change the result are not
/// read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the fields of the file")]
pub struct Config {
    /// Input channels of a video token.
    pub in_channels: usize,
    /// Output channels of a video token; [`Config::in_channels`] by default.
    pub out_channels: Option<usize>,
    /// Latent rows and columns per video token: 1.
    pub patch_size: usize,
    /// Latent frames per video token: 1.
    pub patch_size_t: usize,
    /// Attention heads of the video stream.
    pub num_attention_heads: usize,
    /// Channels per head of the video stream.
    pub attention_head_dim: usize,
    /// Width of the text embeddings for the video, without [`Config::use_prompt_embeddings`].
    pub cross_attention_dim: usize,
    /// Frames, rows and columns of pixels per latent place.
    pub vae_scale_factors: [usize; 3],
    /// Range of the video's time positions, in seconds.
    pub pos_embed_max_pos: usize,
    /// Range of row positions, in pixels.
    pub base_height: usize,
    /// Range of column positions, in pixels.
    pub base_width: usize,
    /// Gated attention in the video stream: one gate per head.
    pub gated_attn: bool,
    /// Whether the timestep modulates the video's cross-attention to the text.
    pub cross_attn_mod: bool,
    /// Input channels of an audio token.
    pub audio_in_channels: usize,
    /// Output channels of an audio token; [`Config::audio_in_channels`] by default.
    pub audio_out_channels: Option<usize>,
    /// Latent mel bins per audio token: 1 in the file, but a token has all bins.
    pub audio_patch_size: usize,
    /// Latent frames per audio token: 1.
    pub audio_patch_size_t: usize,
    /// Attention heads of the audio stream, and of the cross-attention between video and audio.
    pub audio_num_attention_heads: usize,
    /// Channels per head of those.
    pub audio_attention_head_dim: usize,
    /// Width of the text embeddings for the audio, and of the cross-attention between video and audio.
    pub audio_cross_attention_dim: usize,
    /// Spectrogram frames per latent audio frame.
    pub audio_scale_factor: usize,
    /// Range of the audio's time positions, in seconds.
    pub audio_pos_embed_max_pos: usize,
    /// Samples per second.
    pub audio_sampling_rate: usize,
    /// Samples per spectrogram frame.
    pub audio_hop_length: usize,
    /// Gated attention in the audio stream.
    pub audio_gated_attn: bool,
    /// Whether the timestep modulates the audio's cross-attention to the text.
    pub audio_cross_attn_mod: bool,
    /// Number of blocks.
    pub num_layers: usize,
    /// Activation of the feed-forward layers: `gelu-approximate`.
    pub activation_fn: String,
    /// Normalisation of queries and keys: `rms_norm_across_heads`.
    pub qk_norm: String,
    /// Whether the blocks' norms have learned parameters: false.
    pub norm_elementwise_affine: bool,
    /// Epsilon of the blocks' norms.
    pub norm_eps: f64,
    /// Width of the text embeddings, with [`Config::use_prompt_embeddings`].
    pub caption_channels: usize,
    /// Bias of the query, key and value projections: true.
    pub attention_bias: bool,
    /// Bias of the attention's output projection: true.
    pub attention_out_bias: bool,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether rotary frequencies are computed in f64: true.
    pub rope_double_precision: bool,
    /// Frames in the first latent frame, which shifts the time of the others: 1.
    pub causal_offset: usize,
    /// Timestep per unit of sigma.
    pub timestep_scale_multiplier: usize,
    /// The same for the gates of the cross-attention between video and audio.
    pub cross_attn_timestep_scale_multiplier: usize,
    /// Which channels rotate as a pair.
    pub rope_type: RopeType,
    /// Whether the transformer projects the text (2.0); in 2.3 the connectors do.
    pub use_prompt_embeddings: bool,
    /// Whether [`super::transformer::Pass::stg_blocks`] has an effect.
    pub perturbed_attn: bool,
    /// Bias of the video's feed-forward layers: false in LTX-2.5.
    pub ff_bias: bool,
    /// Bias of the audio's feed-forward layers.
    pub audio_ff_bias: bool,
    /// Whether the timestep modulates the text, where it modulates the attention to it: false in LTX-2.5.
    pub use_prompt_adaln_single: bool,
    /// Position embedding of keyframes: LTX-2.5.
    pub use_keyframes_abs_pos_embedding: bool,
}

impl Default for Config {
    /// The class's defaults: those of 2.0, except for the rotary embedding.
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
    /// Video.
    Video,
    /// Audio.
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

    /// The name of a layer in this stream: `audio_` precedes those of the audio.
    pub fn name(self, name: &str) -> String {
        match self {
            Self::Video => name.to_owned(),
            Self::Audio => format!("audio_{name}"),
        }
    }
}

/// The sizes of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// Video or audio.
    pub modality: Modality,
    /// Attention heads.
    pub heads: usize,
    /// Channels per head.
    pub head_dim: usize,
    /// Input channels of a token.
    pub inputs: usize,
    /// Output channels of a token.
    pub outputs: usize,
    /// Width of the text embeddings.
    pub text: usize,
    /// Gated attention.
    pub gated: bool,
    /// Whether the timestep modulates the cross-attention to the text.
    pub text_modulated: bool,
}

impl Stream {
    /// Width of the stream.
    pub fn dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Modulation vectors of a block: shift, scale and gate of the self-attention, the feed-forward layers
    /// and, if modulated, the cross-attention to the text.
    pub fn vectors(&self) -> usize {
        if self.text_modulated { 9 } else { 6 }
    }
}

impl Config {
    /// The sizes of the video stream or of the audio stream.
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

    /// Whether the timestep modulates the text, which it does in both streams or in neither.
    pub fn prompt_modulated(&self) -> bool {
        self.cross_attn_mod || self.audio_cross_attn_mod
    }

    /// The rotary embedding of a stream's self-attention.
    pub fn rope(&self, modality: Modality) -> RopeShape {
        let stream = self.stream(modality);
        RopeShape { width: stream.dim(), heads: stream.heads, theta: self.rope_theta, kind: self.rope_type }
    }

    /// The rotary embedding of a stream's side of the cross-attention between video and audio.
    pub fn cross_rope(&self, modality: Modality) -> RopeShape {
        RopeShape { width: self.audio_cross_attention_dim, ..self.rope(modality) }
    }

    /// Number of parameters, for a configuration that passed [`Config::check`].
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

    /// Refuses sizes that no network of this family has, before anything is allocated for them.
    ///
    /// # Errors
    /// The field, what it must be, and its value.
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
            CHECK.within(name, value, low..=high)?;
        }
        self.check_widths()
    }

    /// Widths that must agree with each other.
    fn check_widths(&self) -> Result<()> {
        let [video, audio] = [Modality::Video, Modality::Audio].map(|modality| self.stream(modality));
        for (name, stream) in [("attention_head_dim", video), ("audio_attention_head_dim", audio)] {
            if stream.head_dim % 2 != 0 {
                return Err(CHECK.must(name, "even", stream.head_dim));
            }
        }
        if self.audio_cross_attention_dim != audio.dim() || audio.dim() % (2 * video.heads) != 0 {
            let wanted = format!("the audio's width, {}, and a multiple of twice the video's heads", audio.dim());
            return Err(CHECK.must("audio_cross_attention_dim", wanted, self.audio_cross_attention_dim));
        }
        if self.use_prompt_embeddings || self.prompt_modulated() {
            CHECK.exactly("cross_attention_dim", self.cross_attention_dim, video.dim())?;
        }
        CHECK.epsilon("norm_eps", self.norm_eps)?;
        CHECK.within("rope_theta", self.rope_theta, 1.0..=1e9)
    }

    /// Fields that are the same in 2.0 and 2.3, and differ in other networks of this class.
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
        switches.into_iter().try_for_each(|(name, value, wanted)| RELEASE.exactly(name, value, wanted))?;
        RELEASE.exactly("activation_fn", self.activation_fn.as_str(), "gelu-approximate")?;
        RELEASE.exactly("qk_norm", self.qk_norm.as_str(), "rms_norm_across_heads")
    }
}
