//! The way from the text encoder to the two streams of the transformer: its hidden states, projected, pass through one small
//! transformer for the pictures and one for the sound (LTX-2, Lightricks, 2026).

mod config;
mod flops;
mod pack;
mod transformer;

use candle_core::Tensor;

use crate::error::Result;
use crate::weights::Weights;
pub use config::Config;
pub use pack::Packer;
use pack::Projection;
use transformer::Connector;

/// The projections and the two connectors. Their weights stay in memory as they are stored.
pub struct Connectors {
    projections: Projections,
    video: Connector,
    audio: Connector,
}

/// A prompt as the transformer reads it. Where the prompt ends, registers go on, so that every row counts and nothing is masked.
#[derive(Debug, Clone)]
pub struct Embeddings {
    /// (1, length, video_dim), for the pictures.
    pub video: Tensor,
    /// (1, length, audio_dim), for the sound.
    pub audio: Tensor,
}

enum Projections {
    /// One for both: 2.0.
    Shared(Projection),
    /// One for the pictures, one for the sound: 2.3.
    Own(Projection, Projection),
}

impl Connectors {
    /// Takes every tensor from `weights`, under the names of diffusers' `LTX2TextConnectors`.
    ///
    /// # Errors
    /// A configuration that contradicts itself, a tensor that is missing, has another shape or belongs to something else.
    pub fn load(weights: &Weights, config: &Config) -> Result<Self> {
        config.check()?;
        let projection = |name: &str, dim: usize, scale: f64| Projection::load(&weights.pp(name), config, dim, scale);
        // The states have a mean square of 1; the wider the layer that they go to, the larger it was trained to have them.
        let own = |name: &str, dim: usize| projection(name, dim, (dim as f64 / config.caption_channels as f64).sqrt());
        let projections = if config.per_modality_projections {
            Projections::Own(
                own("video_text_proj_in", config.video_hidden_dim)?,
                own("audio_text_proj_in", config.audio_hidden_dim)?,
            )
        } else {
            Projections::Shared(projection("text_proj_in", config.caption_channels, 1.0)?)
        };
        let video = Connector::load(&weights.pp("video_connector"), config.video())?;
        let audio = Connector::load(&weights.pp("audio_connector"), config.audio())?;
        weights.finish(&[])?;
        Ok(Self { projections, video, audio })
    }

    /// The embeddings of one prompt.
    ///
    /// # Shapes
    /// - `packed`: (1, tokens, channels · states), what [`Packer::finish`] answers
    /// - `length`: the rows of the embeddings, at least as many as tokens and a multiple of the registers
    ///
    /// # Errors
    /// A length that does not fit.
    pub fn embed(&self, packed: &Tensor, length: usize) -> Result<Embeddings> {
        let (video, audio) = match &self.projections {
            Projections::Shared(both) => {
                let text = both.forward(packed)?;
                (text.clone(), text)
            }
            Projections::Own(video, audio) => (video.forward(packed)?, audio.forward(packed)?),
        };
        Ok(Embeddings { video: self.video.forward(&video, length)?, audio: self.audio.forward(&audio, length)? })
    }
}
