//! Configuration of the text connectors: `connectors/config.json`.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::families::check::Check;
use crate::families::ltx::rope::{RopeShape, RopeType};
use crate::families::text::gemma3;

const CHECK: Check = Check {
    network: "connectors",
    hint: "the folder `connectors` is of another model, or its config.json is damaged: fetch it again",
};

/// `config.json` of diffusers' `LTX2TextConnectors`. Fields that do not change the result are not read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the file's own fields")]
pub struct Config {
    /// Channels of the text encoder's hidden states.
    pub caption_channels: usize,
    /// Number of hidden states: the text encoder's layers, and its embeddings.
    pub text_proj_in_factor: usize,
    /// Attention heads of the video connector.
    pub video_connector_num_attention_heads: usize,
    /// Channels per head.
    pub video_connector_attention_head_dim: usize,
    /// Number of blocks; 0 leaves registers and norm only.
    pub video_connector_num_layers: usize,
    /// Learnable registers, which replace the padding.
    pub video_connector_num_learnable_registers: Option<usize>,
    /// Gated attention: one gate per head.
    pub video_gated_attn: bool,
    /// Attention heads of the audio connector.
    pub audio_connector_num_attention_heads: usize,
    /// Channels per head.
    pub audio_connector_attention_head_dim: usize,
    /// Number of blocks.
    pub audio_connector_num_layers: usize,
    /// Learnable registers.
    pub audio_connector_num_learnable_registers: Option<usize>,
    /// Gated attention.
    pub audio_gated_attn: bool,
    /// Range of positions, in tokens.
    pub connector_rope_base_seq_len: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether rotary frequencies are computed in f64: true.
    pub rope_double_precision: bool,
    /// Which channels of a head rotate as a pair.
    pub rope_type: RopeType,
    /// Whether video and audio have separate projections (2.3) or share one (2.0).
    pub per_modality_projections: bool,
    /// Output channels of the video projection, if separate.
    pub video_hidden_dim: usize,
    /// Output channels of the audio projection, if separate.
    pub audio_hidden_dim: usize,
    /// Whether the projections have a bias.
    pub proj_bias: bool,
}

impl Default for Config {
    /// The class's defaults: nearly those of 2.0.
    fn default() -> Self {
        Self {
            caption_channels: 3840,
            text_proj_in_factor: 49,
            video_connector_num_attention_heads: 30,
            video_connector_attention_head_dim: 128,
            video_connector_num_layers: 2,
            video_connector_num_learnable_registers: Some(128),
            video_gated_attn: false,
            audio_connector_num_attention_heads: 30,
            audio_connector_attention_head_dim: 128,
            audio_connector_num_layers: 2,
            audio_connector_num_learnable_registers: Some(128),
            audio_gated_attn: false,
            connector_rope_base_seq_len: 4096,
            rope_theta: 10_000.0,
            rope_double_precision: true,
            rope_type: RopeType::Interleaved,
            per_modality_projections: false,
            video_hidden_dim: 4096,
            audio_hidden_dim: 2048,
            proj_bias: false,
        }
    }
}

/// Far above every released connector.
const MOST_LAYERS: usize = 1 << 10;

/// The sizes of one connector.
#[derive(Debug, Clone, Copy)]
pub(in crate::families::ltx) struct Connector {
    pub heads: usize,
    pub head_dim: usize,
    pub layers: usize,
    pub registers: usize,
    pub gated: bool,
    pub rope: RopeShape,
    pub base: usize,
}

impl Connector {
    pub(super) fn dim(&self) -> usize {
        self.heads * self.head_dim
    }
}

impl Config {
    pub(in crate::families::ltx) fn video(&self) -> Connector {
        let (heads, head_dim) = (self.video_connector_num_attention_heads, self.video_connector_attention_head_dim);
        Connector {
            heads,
            head_dim,
            layers: self.video_connector_num_layers,
            registers: self.video_connector_num_learnable_registers.unwrap_or(0),
            gated: self.video_gated_attn,
            rope: self.rope(heads, head_dim),
            base: self.connector_rope_base_seq_len,
        }
    }

    pub(in crate::families::ltx) fn audio(&self) -> Connector {
        let (heads, head_dim) = (self.audio_connector_num_attention_heads, self.audio_connector_attention_head_dim);
        Connector {
            heads,
            head_dim,
            layers: self.audio_connector_num_layers,
            registers: self.audio_connector_num_learnable_registers.unwrap_or(0),
            gated: self.audio_gated_attn,
            rope: self.rope(heads, head_dim),
            base: self.connector_rope_base_seq_len,
        }
    }

    fn rope(&self, heads: usize, head_dim: usize) -> RopeShape {
        RopeShape { width: heads * head_dim, heads, theta: self.rope_theta, kind: self.rope_type }
    }

    /// Channels of the text embeddings for the video.
    pub fn video_dim(&self) -> usize {
        self.video().dim()
    }

    /// Channels of the text embeddings for the audio.
    pub fn audio_dim(&self) -> usize {
        self.audio().dim()
    }

    /// Refuses sizes that no connectors have, before anything is allocated for them.
    ///
    /// # Errors
    /// The field, what it must be, and its value.
    pub fn check(&self) -> Result<()> {
        let registers = |number: Option<usize>| number.unwrap_or(0);
        let sizes = [
            ("caption_channels", self.caption_channels, 1 << 16),
            ("text_proj_in_factor", self.text_proj_in_factor, 1 << 10),
            ("video_connector_num_attention_heads", self.video_connector_num_attention_heads, 1 << 10),
            ("video_connector_attention_head_dim", self.video_connector_attention_head_dim, 1 << 10),
            (
                "video_connector_num_learnable_registers",
                registers(self.video_connector_num_learnable_registers),
                1 << 12,
            ),
            ("audio_connector_num_attention_heads", self.audio_connector_num_attention_heads, 1 << 10),
            ("audio_connector_attention_head_dim", self.audio_connector_attention_head_dim, 1 << 10),
            (
                "audio_connector_num_learnable_registers",
                registers(self.audio_connector_num_learnable_registers),
                1 << 12,
            ),
            ("connector_rope_base_seq_len", self.connector_rope_base_seq_len, 1 << 24),
            ("video_hidden_dim", self.video_hidden_dim, 1 << 16),
            ("audio_hidden_dim", self.audio_hidden_dim, 1 << 16),
        ];
        sizes.into_iter().try_for_each(|(name, size, most)| CHECK.within(name, size, 1..=most))?;
        CHECK.within("video_connector_num_layers", self.video_connector_num_layers, 0..=MOST_LAYERS)?;
        CHECK.within("audio_connector_num_layers", self.audio_connector_num_layers, 0..=MOST_LAYERS)?;
        CHECK.exactly("rope_double_precision", self.rope_double_precision, true)?;
        CHECK.within("rope_theta", self.rope_theta, 1.0..=1e12)?;
        self.check_widths()
    }

    /// Refuses projections whose output is not the connectors' input.
    fn check_widths(&self) -> Result<()> {
        let own = self.per_modality_projections;
        let made = |dim: usize| if own { dim } else { self.caption_channels };
        let parts = [
            ("video", self.video_connector_attention_head_dim, self.video_dim(), made(self.video_hidden_dim)),
            ("audio", self.audio_connector_attention_head_dim, self.audio_dim(), made(self.audio_hidden_dim)),
        ];
        for (name, head_dim, takes, makes) in parts {
            if !head_dim.is_multiple_of(2) {
                return Err(CHECK.must(&format!("{name}_connector_attention_head_dim"), "even", head_dim));
            }
            if takes != makes {
                return Err(CHECK
                    .wrong(format!("the {name} connector takes {takes} channels, and its projection makes {makes}")));
            }
        }
        Ok(())
    }

    /// Refuses a text encoder whose hidden states the projections were not trained on.
    ///
    /// # Errors
    /// Another number of layers or of channels: both sizes.
    pub fn check_encoder(&self, encoder: &gemma3::Config) -> Result<()> {
        let (layers, channels) = (encoder.layer_types.len(), encoder.hidden_size);
        let wanted = (self.text_proj_in_factor.saturating_sub(1), self.caption_channels);
        if (layers, channels) == wanted {
            return Ok(());
        }
        Err(Error::failed(format!(
            "the text encoder is {}, and this model's connectors read {}",
            size(layers, channels),
            size(wanted.0, wanted.1)
        ))
        .hint("take the text encoder that the model was released with, or give another with `--text-encoder`"))
    }
}

/// The size of a Gemma 3, with its name if released.
fn size(layers: usize, channels: usize) -> String {
    let name = match (layers, channels) {
        (26, 1152) => " (Gemma 3 1B)",
        (34, 2560) => " (Gemma 3 4B)",
        (48, 3840) => " (Gemma 3 12B)",
        (62, 5376) => " (Gemma 3 27B)",
        _ => "",
    };
    format!("one of {layers} layers of {channels} channels{name}")
}
