//! AdaLN: the modulation vectors (shift, scale, gate) that a timestep gives to each part of a stream.

use candle_core::{Device, Result};

use crate::nn::Linear;
use crate::nn::activation::silu;
use crate::nn::embed::sinusoid;
use crate::nn::modulation::{Modulation, Runs};
use crate::weights::Weights;

/// Width of the sinusoidal timestep embedding.
const SINUSOID: usize = 256;

/// diffusers' `LTX2AdaLayerNormSingle`: "adaLN-single" (Chen et al., 2023, arXiv:2310.00426, §2.3).
pub(super) struct TimeEmbedding {
    embedder: [Linear; 2],
    linear: Linear,
    vectors: usize,
    dim: usize,
}

impl TimeEmbedding {
    /// Loads the layers for `vectors` modulation vectors of `dim` channels.
    pub(super) fn load(weights: &Weights, dim: usize, vectors: usize) -> crate::error::Result<Self> {
        let embedder = weights.pp("emb.timestep_embedder");
        Ok(Self {
            embedder: [
                Linear::load(&embedder.pp("linear_1"), SINUSOID, dim)?,
                Linear::load(&embedder.pp("linear_2"), dim, dim)?,
            ],
            linear: Linear::load(&weights.pp("linear"), dim, vectors * dim)?,
            vectors,
            dim,
        })
    }

    /// The timestep embedding of each run, (runs, 1, dim), and its modulation vectors, (runs, vectors, dim),
    /// both f32.
    pub(super) fn forward(&self, runs: &Runs, device: &Device) -> Result<(Modulation, Modulation)> {
        let temb = sinusoid(&runs.values, SINUSOID, device)?;
        let temb = self.embedder[1].forward(&silu(&self.embedder[0].forward(&temb)?)?)?; // (runs, dim)
        let vectors = self.linear.forward(&silu(&temb)?)?.reshape((runs.values.len(), self.vectors, self.dim))?;
        Ok((Modulation::new(runs, temb.unsqueeze(1)?), Modulation::new(runs, vectors)))
    }
}

/// The modulation of one stream at one step. k is the number of vectors.
pub(super) struct Times {
    /// Timestep embedding, for the output layer: k = 1.
    pub embedded: Modulation,
    /// Shift, scale and gate of the self-attention, the feed-forward layers and, if modulated, the
    /// cross-attention to the text: k = 6 or 9.
    pub block: Modulation,
    /// Shift and scale of the text: k = 2.
    pub prompt: Option<Modulation>,
    /// Scale and shift of this stream for the audio-to-video attention (video queries), then for the
    /// video-to-audio attention: k = 4.
    pub cross: Modulation,
    /// Gate of this stream's cross-attention to the other: k = 1.
    pub gate: Modulation,
}

/// The layers that compute a stream's [`Times`].
pub(super) struct TimeEmbeddings {
    pub time: TimeEmbedding,
    pub prompt: Option<TimeEmbedding>,
    pub cross: TimeEmbedding,
    pub gate: TimeEmbedding,
    /// Factor on the timestep for the gate.
    pub gate_scale: f64,
}

impl TimeEmbeddings {
    /// - `own`: timesteps of the stream's tokens
    /// - `cross`: timesteps that modulate its side of the cross-attention between video and audio
    /// - `sigma`: the timestep that modulates the text
    pub(super) fn forward(&self, own: &Runs, cross: &Runs, sigma: f64, device: &Device) -> Result<Times> {
        // One run: all rows of the text have the same modulation.
        let prompt =
            |layer: &TimeEmbedding| Ok::<_, candle_core::Error>(layer.forward(&Runs::new(&[sigma], 1), device)?.1);
        let (embedded, block) = self.time.forward(own, device)?;
        // The reference multiplies in f32:
        // https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/transformers/transformer_ltx2.py#L1556-L1557
        let scale = |value: &f64| f64::from(*value as f32 * self.gate_scale as f32);
        let gates = Runs { values: cross.values.iter().map(scale).collect(), tokens: cross.tokens.clone() };
        Ok(Times {
            embedded,
            block,
            prompt: self.prompt.as_ref().map(prompt).transpose()?,
            cross: self.cross.forward(cross, device)?.1,
            gate: self.gate.forward(&gates, device)?.1,
        })
    }
}
