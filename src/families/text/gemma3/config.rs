//! The shape of a Gemma 3, as `text_encoder/config.json` says it.

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// What transformers makes of `config.json`: the text part of a `Gemma3ForConditionalGeneration`, or a text model's own.
/// Fields that do not change the hidden states are not read.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Channels of a token.
    pub hidden_size: usize,
    /// Channels inside the feed-forward layers.
    pub intermediate_size: usize,
    /// Heads of the queries; `num_attention_heads · head_dim` need not be `hidden_size`.
    pub num_attention_heads: usize,
    /// Heads of the keys and values, each shared by as many heads of queries as there are more of those.
    pub num_key_value_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Added to the mean square inside the norms.
    pub rms_norm_eps: f64,
    /// The scores are divided by its square root.
    pub query_pre_attn_scalar: f64,
    /// How many tokens a local layer looks back to, the token itself among them.
    pub sliding_window: usize,
    /// What each layer sees; there are as many as layers.
    pub layer_types: Vec<LayerType>,
    /// Positions of the local layers.
    pub local: Positions,
    /// Positions of the global layers.
    pub global: Positions,
}

/// What a layer's tokens see of those before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum LayerType {
    /// The last few.
    #[serde(rename = "sliding_attention")]
    Local,
    /// All.
    #[serde(rename = "full_attention")]
    Global,
}

/// How the heads turn with the position (Su et al., 2021).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Positions {
    /// The base of the wavelengths.
    pub theta: f64,
    /// By which positions are divided: linear scaling (Chen et al., 2023).
    pub factor: f64,
}

/// The file as it is written, in the manner of transformers 4 or of 5, with what it assumes of fields that are left out
/// (`Gemma3TextConfig`).
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
    /// What `rope_type` was called at first; some files have both.
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

const CONFIG: &str = "LTX-2 needs Gemma 3 12B: take the folder `text_encoder` from the model's own repository";

impl Config {
    /// Understands the configuration of a `Gemma3ForConditionalGeneration`, of which only the text part is read, or of a text
    /// model alone.
    ///
    /// # Errors
    /// The field, its value and what belongs there: another model's configuration, or numbers that no model has.
    pub fn from_json(json: &Value) -> Result<Self> {
        let text = json.get("text_config").unwrap_or(json);
        let name = text.get("model_type").and_then(Value::as_str).unwrap_or("gemma3_text");
        if name != "gemma3_text" {
            return Err(Error::failed(format!("the text encoder is a `{name}`, not a `gemma3_text`")).hint(CONFIG));
        }
        let none = || Error::failed("the text encoder's config.json is not that of a Gemma 3").hint(CONFIG);
        if !text.is_object() {
            return Err(none());
        }
        let written = Written::deserialize(text).map_err(|cause| none().because(cause))?;
        written.check()?;
        written.resolve()
    }
}

impl Written {
    /// Refuses what this encoder is not, and numbers that no encoder has, before anything is made of them.
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
        if let Some((name, size, most)) = sizes.into_iter().find(|&(_, size, most)| size == 0 || size > most) {
            return Err(refuse(name, size, format!("1 to {most}")));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let wanted = format!("a divisor of the {} heads of the queries", self.num_attention_heads);
            return Err(refuse("num_key_value_heads", self.num_key_value_heads, wanted));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(refuse("head_dim", self.head_dim, "an even number"));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return Err(refuse("rms_norm_eps", self.rms_norm_eps, "1e-6"));
        }
        if !(self.query_pre_attn_scalar > 0.0 && self.query_pre_attn_scalar < 1e6) {
            return Err(refuse("query_pre_attn_scalar", self.query_pre_attn_scalar, "256"));
        }
        if self.hidden_activation != "gelu_pytorch_tanh" {
            return Err(refuse("hidden_activation", &self.hidden_activation, "gelu_pytorch_tanh"));
        }
        if self.attention_bias {
            return Err(refuse("attention_bias", true, false));
        }
        if self.use_bidirectional_attention == Some(true) {
            return Err(refuse("use_bidirectional_attention", true, false));
        }
        Ok(())
    }

    fn resolve(self) -> Result<Config> {
        let layers = self.num_hidden_layers;
        let pattern = self.sliding_window_pattern;
        let every =
            |index: usize| if (index + 1).is_multiple_of(pattern) { LayerType::Global } else { LayerType::Local };
        let layer_types = self.layer_types.unwrap_or_else(|| (0..layers).map(every).collect());
        if layer_types.len() != layers {
            return Err(refuse("layer_types", format!("{} kinds", layer_types.len()), format!("{layers}")));
        }
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
            Some(other) => return Err(refuse("rope_type", other, "`default` or `linear`")),
        };
        if !(factor > 0.0 && factor < 1e6) {
            return Err(refuse("factor", factor, "8"));
        }
        let theta = self.rope_theta.unwrap_or(theta);
        if !(1.0..1e12).contains(&theta) {
            return Err(refuse("rope_theta", theta, "10000 or 1000000"));
        }
        match self.partial_rotary_factor {
            None | Some(1.0) => Ok(Positions { theta, factor }),
            Some(part) => Err(refuse("partial_rotary_factor", part, 1)),
        }
    }
}

fn refuse(field: &str, value: impl std::fmt::Display, wanted: impl std::fmt::Display) -> Error {
    Error::failed(format!("the text encoder's config.json says `{field}` = {value}, where {wanted} belongs"))
        .hint(CONFIG)
}
