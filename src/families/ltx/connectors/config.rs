//! The shape of the connectors, as `connectors/config.json` says it.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::families::ltx::rope::{RopeShape, RopeType};
use crate::families::text::gemma3;

/// `config.json` of diffusers' `LTX2TextConnectors`. Fields that do not change the result are not read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the file's own fields")]
pub struct Config {
    /// Channels of a hidden state of the text encoder.
    pub caption_channels: usize,
    /// Hidden states of the text encoder: its layers and the embeddings.
    pub text_proj_in_factor: usize,
    /// Heads of the connector to the pictures.
    pub video_connector_num_attention_heads: usize,
    /// Channels of each of them.
    pub video_connector_attention_head_dim: usize,
    /// Its blocks.
    pub video_connector_num_layers: usize,
    /// Its registers, which take the places of the padding.
    pub video_connector_num_learnable_registers: Option<usize>,
    /// Whether its heads are gated.
    pub video_gated_attn: bool,
    /// Heads of the connector to the sound.
    pub audio_connector_num_attention_heads: usize,
    /// Channels of each of them.
    pub audio_connector_attention_head_dim: usize,
    /// Its blocks.
    pub audio_connector_num_layers: usize,
    /// Its registers.
    pub audio_connector_num_learnable_registers: Option<usize>,
    /// Whether its heads are gated.
    pub audio_gated_attn: bool,
    /// Tokens that the range of positions has.
    pub connector_rope_base_seq_len: usize,
    /// The highest frequency of the positions.
    pub rope_theta: f64,
    /// Whether the frequencies are computed in f64.
    pub rope_double_precision: bool,
    /// Which channels of a head turn together.
    pub rope_type: RopeType,
    /// Whether pictures and sound each have a projection of their own (2.3), or share one (2.0).
    pub per_modality_projections: bool,
    /// Channels that the projection for the pictures makes, where it is its own.
    pub video_hidden_dim: usize,
    /// Channels that the projection for the sound makes, where it is its own.
    pub audio_hidden_dim: usize,
    /// Whether the projections have a bias.
    pub proj_bias: bool,
}

impl Default for Config {
    /// The defaults of the class, which are nearly those of 2.0.
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

/// Far more blocks than any connector has.
const MOST_LAYERS: usize = 1 << 10;

/// The shape of one connector.
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
        self.connector(
            [
                self.video_connector_num_attention_heads,
                self.video_connector_attention_head_dim,
                self.video_connector_num_layers,
                self.video_connector_num_learnable_registers.unwrap_or(0),
            ],
            self.video_gated_attn,
        )
    }

    pub(in crate::families::ltx) fn audio(&self) -> Connector {
        self.connector(
            [
                self.audio_connector_num_attention_heads,
                self.audio_connector_attention_head_dim,
                self.audio_connector_num_layers,
                self.audio_connector_num_learnable_registers.unwrap_or(0),
            ],
            self.audio_gated_attn,
        )
    }

    fn connector(&self, [heads, head_dim, layers, registers]: [usize; 4], gated: bool) -> Connector {
        let rope = RopeShape { width: heads * head_dim, heads, theta: self.rope_theta, kind: self.rope_type };
        Connector { heads, head_dim, layers, registers, gated, rope, base: self.connector_rope_base_seq_len }
    }

    /// Channels of the embeddings for the pictures.
    pub fn video_dim(&self) -> usize {
        self.video().dim()
    }

    /// Channels of the embeddings for the sound.
    pub fn audio_dim(&self) -> usize {
        self.audio().dim()
    }

    /// Refuses a shape that no connectors have, before anything is allocated for it.
    ///
    /// # Errors
    /// The field, its value and what belongs there.
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
        if let Some((name, size, most)) = sizes.into_iter().find(|&(_, size, most)| size == 0 || size > most) {
            return Err(refuse(name, size, format!("1 to {most}")));
        }
        // A connector may be its registers and its norm alone.
        let layers = [
            ("video_connector_num_layers", self.video_connector_num_layers),
            ("audio_connector_num_layers", self.audio_connector_num_layers),
        ];
        if let Some((name, layers)) = layers.into_iter().find(|&(_, layers)| layers > MOST_LAYERS) {
            return Err(refuse(name, layers, format!("0 to {MOST_LAYERS}")));
        }
        if !self.rope_double_precision {
            return Err(refuse("rope_double_precision", false, true));
        }
        if !(1.0..1e12).contains(&self.rope_theta) {
            return Err(refuse("rope_theta", self.rope_theta, "10000"));
        }
        self.check_widths()
    }

    /// Whether what the projections make is what the connectors take.
    fn check_widths(&self) -> Result<()> {
        let own = self.per_modality_projections;
        let made = |dim: usize| if own { dim } else { self.caption_channels };
        let parts = [
            ("video", self.video_connector_attention_head_dim, self.video_dim(), made(self.video_hidden_dim)),
            ("audio", self.audio_connector_attention_head_dim, self.audio_dim(), made(self.audio_hidden_dim)),
        ];
        for (name, head_dim, takes, makes) in parts {
            if !head_dim.is_multiple_of(2) {
                return Err(refuse(&format!("{name}_connector_attention_head_dim"), head_dim, "an even number"));
            }
            if takes != makes {
                return Err(Error::failed(format!(
                    "the connectors' config.json contradicts itself: the {name} connector takes {takes} channels, and its \
                     projection makes {makes}"
                ))
                .hint(FETCH));
            }
        }
        Ok(())
    }

    /// Whether the hidden states of a text encoder are those that the projections were trained on.
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

/// What a Gemma 3 of some layers and channels is called.
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

const FETCH: &str = "the folder `connectors` is of another model, or its config.json is damaged: fetch it again";

fn refuse(field: &str, value: impl std::fmt::Display, wanted: impl std::fmt::Display) -> Error {
    Error::failed(format!("the connectors' config.json says `{field}` = {value}, where {wanted} belongs")).hint(FETCH)
}
