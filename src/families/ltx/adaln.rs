//! What a timestep does to the tokens: a set of vectors for each purpose.

use candle_core::{Device, Result};

use crate::nn::Linear;
use crate::nn::activation::silu;
use crate::nn::embed::sinusoid;
use crate::nn::modulation::{Modulation, Runs};
use crate::weights::Weights;

/// Width of the sinusoid of a timestep.
const SINUSOID: usize = 256;

/// diffusers' `LTX2AdaLayerNormSingle`: "adaLN-single" (Chen et al., 2023, arXiv:2310.00426, §2.3).
pub(super) struct TimeEmbedding {
    embedder: [Linear; 2],
    linear: Linear,
    vectors: usize,
    dim: usize,
}

impl TimeEmbedding {
    /// One that makes `vectors` vectors of `dim` channels.
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

    /// The embedding of each run's time itself, (runs, 1, dim), and the vectors, (runs, vectors, dim), both f32.
    pub(super) fn forward(&self, runs: &Runs, device: &Device) -> Result<(Modulation, Modulation)> {
        let temb = sinusoid(&runs.values, SINUSOID, device)?;
        let temb = self.embedder[1].forward(&silu(&self.embedder[0].forward(&temb)?)?)?; // (runs, dim)
        let vectors = self.linear.forward(&silu(&temb)?)?.reshape((runs.values.len(), self.vectors, self.dim))?;
        Ok((Modulation::new(runs, temb.unsqueeze(1)?), Modulation::new(runs, vectors)))
    }
}

/// What modulates one stream at one step.
pub(super) struct Times {
    /// The time itself, for the end of the network: k = 1.
    pub embedded: Modulation,
    /// Shift, scale and gate of the self-attention, of the feed-forward layers, and of the attention to the text where
    /// time modulates it: k = 6 or 9.
    pub block: Modulation,
    /// Shift and scale of the text: k = 2.
    pub prompt: Option<Modulation>,
    /// Scale and shift of this stream where the video attends to the audio, then where the audio attends to the video:
    /// k = 4.
    pub cross: Modulation,
    /// The gate of what this stream gathers from the other one: k = 1.
    pub gate: Modulation,
}

/// The layers that make a stream's [`Times`].
pub(super) struct Clock {
    pub time: TimeEmbedding,
    pub prompt: Option<TimeEmbedding>,
    pub cross: TimeEmbedding,
    pub gate: TimeEmbedding,
    /// What a timestep is multiplied by before it makes the gate.
    pub gate_scale: f64,
}

impl Clock {
    /// `own` are the timesteps of the stream's tokens, `cross` those that modulate its side of the attention between video
    /// and audio, `sigma` the one that modulates the text.
    pub(super) fn forward(&self, own: &Runs, cross: &Runs, sigma: f64, device: &Device) -> Result<Times> {
        // A text is modulated as a whole, however many rows it has.
        let prompt =
            |layer: &TimeEmbedding| Ok::<_, candle_core::Error>(layer.forward(&Runs::new(&[sigma], 1), device)?.1);
        let (embedded, block) = self.time.forward(own, device)?;
        // The reference multiplies in f32.
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
