//! Configuration of a Gemma 3 text encoder: `text_encoder/config.json`.

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::families::check::Check;

/// The text part of `Gemma3ForConditionalGeneration`'s configuration, or a text model's, with transformers'
/// defaults resolved. Fields that do not change the hidden states are not read.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Channels of a token.
    pub hidden_size: usize,
    /// Inner width of the feed-forward layers.
    pub intermediate_size: usize,
    /// Query heads; `num_attention_heads · head_dim` may differ from `hidden_size`.
    pub num_attention_heads: usize,
    /// Key and value heads, each shared by a group of query heads (grouped-query attention).
    pub num_key_value_heads: usize,
    /// Channels per head.
    pub head_dim: usize,
    /// Epsilon of the norms.
    pub rms_norm_eps: f64,
    /// Attention scores are divided by its square root.
    pub query_pre_attn_scalar: f64,
    /// Tokens that a local layer attends to, including the token itself.
    pub sliding_window: usize,
    /// Local or global, for each layer.
    pub layer_types: Vec<LayerType>,
    /// Rotary embedding of the local layers.
    pub local: Positions,
    /// Rotary embedding of the global layers.
    pub global: Positions,
}

/// Attention span of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum LayerType {
    /// The last [`Config::sliding_window`] tokens.
    #[serde(rename = "sliding_attention")]
    Local,
    /// All previous tokens.
    #[serde(rename = "full_attention")]
    Global,
}

/// A rotary embedding (Su et al., 2021).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Positions {
    /// The base of the wavelengths.
    pub theta: f64,
    /// Divisor of positions: linear scaling (Chen et al., 2023).
    pub factor: f64,
}

/// The file as transformers 4 or 5 writes it, with the defaults of `Gemma3TextConfig`.
#[derive(Deserialize)]
#[serde(default)]
struct Written {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    rms_norm_eps: f64,
    query_pre_attn_scalar: f64,
    sliding_window: Option<usize>,
    layer_types: Option<Vec<LayerType>>,
    sliding_window_pattern: usize,
    hidden_activation: String,
    attention_bias: bool,
    use_bidirectional_attention: Option<bool>,
    rope_theta: f64,
    rope_local_base_freq: f64,
    rope_scaling: Option<Scaling>,
    rope_parameters: Option<ScalingByLayer>,
}

#[derive(Default, Clone, Deserialize)]
#[serde(default)]
struct Scaling {
    rope_type: Option<String>,
    /// The old name of `rope_type`; some files have both.
    r#type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    partial_rotary_factor: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ScalingByLayer {
    full_attention: Option<Scaling>,
    sliding_attention: Option<Scaling>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            vocab_size: 262_208,
            hidden_size: 2304,
            intermediate_size: 9216,
            num_hidden_layers: 26,
            num_attention_heads: 8,
            num_key_value_heads: 4,
            head_dim: 256,
            rms_norm_eps: 1e-6,
            query_pre_attn_scalar: 256.0,
            sliding_window: Some(4096),
            layer_types: None,
            sliding_window_pattern: 6,
            hidden_activation: "gelu_pytorch_tanh".to_owned(),
            attention_bias: false,
            use_bidirectional_attention: None,
            rope_theta: 1e6,
            rope_local_base_freq: 1e4,
            rope_scaling: None,
            rope_parameters: None,
        }
    }
}

const CHECK: Check = Check {
    network: "text encoder",
    hint: "LTX-2 needs Gemma 3 12B: take the folder `text_encoder` from the model's own repository",
};

impl Config {
    /// Parses the configuration of a `Gemma3ForConditionalGeneration`, of which only the text part is read,
    /// or of a text model.
    ///
    /// # Errors
    /// Another model's configuration, or sizes that no model has: the field, what it must be, and its value.
    pub fn from_json(json: &Value) -> Result<Self> {
        let text = json.get("text_config").unwrap_or(json);
        let name = text.get("model_type").and_then(Value::as_str).unwrap_or("gemma3_text");
        if name != "gemma3_text" {
            return Err(Error::failed(format!("the text encoder is a `{name}`, not a `gemma3_text`")).hint(CHECK.hint));
        }
        let none = || Error::failed("the text encoder's config.json is not that of a Gemma 3").hint(CHECK.hint);
        if !text.is_object() {
            return Err(none());
        }
        let written = Written::deserialize(text).map_err(|cause| none().because(cause))?;
        written.check()?;
        written.resolve()
    }
}

impl Written {
    /// Refuses features that this encoder lacks, and sizes that no encoder has, before they are used.
    fn check(&self) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 16),
            ("intermediate_size", self.intermediate_size, 1 << 18),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 10),
            ("num_key_value_heads", self.num_key_value_heads, self.num_attention_heads),
            ("head_dim", self.head_dim, 1 << 12),
            ("sliding_window", self.sliding_window.unwrap_or(0), 1 << 24),
            ("sliding_window_pattern", self.sliding_window_pattern, 1 << 10),
        ];
        sizes.into_iter().try_for_each(|(name, size, most)| CHECK.within(name, size, 1..=most))?;
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let wanted = format!("a divisor of `num_attention_heads`, {}", self.num_attention_heads);
            return Err(CHECK.must("num_key_value_heads", wanted, self.num_key_value_heads));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(CHECK.must("head_dim", "even", self.head_dim));
        }
        CHECK.epsilon("rms_norm_eps", self.rms_norm_eps)?;
        if !(self.query_pre_attn_scalar > 0.0 && self.query_pre_attn_scalar < 1e6) {
            return Err(CHECK.must("query_pre_attn_scalar", "above 0 and below 1e6", self.query_pre_attn_scalar));
        }
        CHECK.exactly("hidden_activation", self.hidden_activation.as_str(), "gelu_pytorch_tanh")?;
        CHECK.exactly("attention_bias", self.attention_bias, false)?;
        CHECK.exactly("use_bidirectional_attention", self.use_bidirectional_attention.unwrap_or(false), false)
    }

    fn resolve(self) -> Result<Config> {
        let layers = self.num_hidden_layers;
        let pattern = self.sliding_window_pattern;
        let every =
            |index: usize| if (index + 1).is_multiple_of(pattern) { LayerType::Global } else { LayerType::Local };
        let layer_types = self.layer_types.unwrap_or_else(|| (0..layers).map(every).collect());
        CHECK.exactly("layer_types' length", layer_types.len(), layers)?;
        let written = self.rope_parameters.unwrap_or_default();
        let mut global = written.full_attention.unwrap_or_default();
        if let Some(scaling) = self.rope_scaling {
            global.rope_type = scaling.rope_type.or(scaling.r#type).or(global.rope_type);
            global.rope_theta = scaling.rope_theta.or(global.rope_theta);
            global.factor = scaling.factor.or(global.factor);
            global.partial_rotary_factor = scaling.partial_rotary_factor.or(global.partial_rotary_factor);
        }
        let local = written.sliding_attention.unwrap_or_default();
        Ok(Config {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            rms_norm_eps: self.rms_norm_eps,
            query_pre_attn_scalar: self.query_pre_attn_scalar,
            sliding_window: self.sliding_window.unwrap_or_default(),
            layer_types,
            local: local.positions(self.rope_local_base_freq)?,
            global: global.positions(self.rope_theta)?,
        })
    }
}

impl Scaling {
    fn positions(&self, theta: f64) -> Result<Positions> {
        let factor = match self.rope_type.as_deref().or(self.r#type.as_deref()) {
            None | Some("default") => 1.0,
            Some("linear") => self.factor.unwrap_or(0.0),
            Some(other) => return Err(CHECK.must("rope_type", "\"default\" or \"linear\"", other)),
        };
        if !(factor > 0.0 && factor < 1e6) {
            return Err(CHECK.must("factor", "above 0 and below 1e6", factor));
        }
        let theta = self.rope_theta.unwrap_or(theta);
        CHECK.within("rope_theta", theta, 1.0..=1e12)?;
        CHECK.exactly("partial_rotary_factor", self.partial_rotary_factor.unwrap_or(1.0), 1.0)?;
        Ok(Positions { theta, factor })
    }
}
