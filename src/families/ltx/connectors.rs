//! Text connectors: project the text encoder's hidden states and pass them through one small transformer for
//! the video stream and one for the audio stream (LTX-2, Lightricks, 2026).

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

/// The projections and the two connectors. Weights stay in memory in their stored type.
pub struct Connectors {
    projections: Projections,
    video: Connector,
    audio: Connector,
}

/// Text embeddings of a prompt. Registers follow the prompt, so every row is valid and nothing is masked.
#[derive(Debug, Clone)]
pub struct Embeddings {
    /// (1, length, video_dim)
    pub video: Tensor,
    /// (1, length, audio_dim)
    pub audio: Tensor,
}

enum Projections {
    /// One for both streams: 2.0.
    Shared(Projection),
    /// One for the video, one for the audio: 2.3.
    Own(Projection, Projection),
}

impl Connectors {
    /// Loads the connectors, under the names of diffusers' `LTX2TextConnectors`.
    ///
    /// # Errors
    /// The refusals of [`Config::check`]; a tensor that is missing, of another shape, or left over.
    pub fn load(weights: &Weights, config: &Config) -> Result<Self> {
        config.check()?;
        let projection = |name: &str, dim: usize, scale: f64| Projection::load(&weights.pp(name), config, dim, scale);
        // https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/pipelines/ltx2/connectors.py#L440-L443
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
    /// - `packed`: (1, tokens, channels · states), from [`Packer::finish`]
    /// - `length`: rows of the embeddings: at least the tokens, and a multiple of the registers
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
