//! Configuration of a Wan transformer: `transformer/config.json`.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::families::check::Check;

const CHECK: Check = Check {
    network: "transformer",
    hint: "the folder is of another family, or its config.json is damaged: fetch it again",
};

/// `config.json` of diffusers' `WanTransformer3DModel`. Fields that do not change the result are not read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Latent frames, rows and columns per token.
    pub patch_size: [usize; 3],
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Channels per head.
    pub attention_head_dim: usize,
    /// Input channels: the latents', and for image to video the mask's and the image's.
    pub in_channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Width of the text embeddings.
    pub text_dim: usize,
    /// Width of the sinusoidal timestep embedding.
    pub freq_dim: usize,
    /// Inner width of the feed-forward layers.
    pub ffn_dim: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Whether a norm with parameters precedes the cross-attention to the text.
    pub cross_attn_norm: bool,
    /// Normalisation of queries and keys: `rms_norm_across_heads`.
    pub qk_norm: Option<String>,
    /// Epsilon of the norms.
    pub eps: f64,
    /// Width of the CLIP image embeddings of Wan 2.1 image to video.
    pub image_dim: Option<usize>,
    /// Width of the additional keys and values of Wan 2.1 image to video.
    pub added_kv_proj_dim: Option<usize>,
    /// Positions per axis: the longest side in tokens.
    pub rope_max_seq_len: usize,
}

impl Default for Config {
    /// The class's defaults: the 14B model.
    fn default() -> Self {
        Self {
            patch_size: [1, 2, 2],
            num_attention_heads: 40,
            attention_head_dim: 128,
            in_channels: 16,
            out_channels: 16,
            text_dim: 4096,
            freq_dim: 256,
            ffn_dim: 13824,
            num_layers: 40,
            cross_attn_norm: true,
            qk_norm: Some("rms_norm_across_heads".into()),
            eps: 1e-6,
            image_dim: None,
            added_kv_proj_dim: None,
            rope_max_seq_len: 1024,
        }
    }
}

impl Config {
    /// Width of the network.
    pub fn dim(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Rotary channels of a head for the frame, the row and the column.
    pub fn rope_dims(&self) -> [usize; 3] {
        let side = 2 * (self.attention_head_dim / 6);
        [self.attention_head_dim - 2 * side, side, side]
    }

    /// Number of parameters.
    pub fn parameters(&self) -> u64 {
        let [dim, ffn, text, freq] = [self.dim(), self.ffn_dim, self.text_dim, self.freq_dim].map(|n| n as u64);
        let patch = self.patch_size.iter().product::<usize>() as u64;
        let attention = 4 * (dim * dim + dim) + 2 * dim;
        let norm = if self.cross_attn_norm { 2 * dim } else { 0 };
        let block = 2 * attention + norm + 2 * dim * ffn + ffn + dim + 6 * dim;
        let embedders = (freq * dim + dim) + 2 * (dim * dim + dim) + (text * dim + dim) + 6 * (dim * dim + dim);
        let ends = (self.in_channels as u64 * patch + 1) * dim + (dim + 1) * patch * self.out_channels as u64 + 2 * dim;
        self.num_layers as u64 * block + embedders + ends
    }

    /// Refuses sizes that no network of this family has, before anything is allocated for them.
    ///
    /// # Errors
    /// The field, what it must be, and its value.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("num_attention_heads", self.num_attention_heads, 1, 1 << 10),
            ("attention_head_dim", self.attention_head_dim, 6, 1 << 10),
            ("in_channels", self.in_channels, 1, 1 << 12),
            ("out_channels", self.out_channels, 1, 1 << 12),
            ("text_dim", self.text_dim, 1, 1 << 16),
            ("freq_dim", self.freq_dim, 2, 1 << 16),
            ("ffn_dim", self.ffn_dim, 1, 1 << 20),
            ("num_layers", self.num_layers, 1, 1 << 10),
        ];
        for (name, value, low, high) in sizes {
            CHECK.within(name, value, low..=high)?;
        }
        if !self.attention_head_dim.is_multiple_of(2) {
            return Err(CHECK.must("attention_head_dim", "even", self.attention_head_dim));
        }
        if self.patch_size[0] != 1 || self.patch_size[1..].iter().any(|side| !(1..=8).contains(side)) {
            return Err(CHECK.must("patch_size", "[1, 2, 2]", format!("{:?}", self.patch_size)));
        }
        CHECK.epsilon("eps", self.eps)?;
        CHECK.exactly("qk_norm", self.qk_norm.as_deref().unwrap_or("null"), "rms_norm_across_heads")?;
        if self.image_dim.is_some() || self.added_kv_proj_dim.is_some() {
            return Err(Error::failed("this is a Wan 2.1 image-to-video transformer, which reads images through CLIP")
                .hint("talkie runs image to video with Wan 2.2: `-m wan2.2-i2v-a14b` or `-m wan2.2-ti2v-5b`"));
        }
        Ok(())
    }
}
