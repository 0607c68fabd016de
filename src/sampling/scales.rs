//! Guidance scales.

use serde::{Deserialize, Serialize};

/// The guidance scales of a step, for video or audio.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scales {
    /// Classifier-free guidance: away from the negative prompt. Off at 1 and less.
    pub text: f64,
    /// Spatio-temporal guidance (STG): away from the prediction with perturbed attention. Off at 0.
    pub stg: f64,
    /// Modality guidance: away from the prediction without cross-attention of video and audio. Off at 1.
    pub modality: f64,
    /// Rescaling of the result to the standard deviation of the conditional prediction, 0 to 1.
    pub rescale: f64,
}

impl Scales {
    /// Classifier-free guidance only.
    pub fn text(text: f64) -> Self {
        Self { text, stg: 0.0, modality: 1.0, rescale: 0.0 }
    }

    /// Whether the prediction with the negative prompt is needed.
    pub fn uses_text(&self) -> bool {
        self.text > 1.0
    }

    /// Whether the prediction with perturbed attention is needed.
    pub fn uses_stg(&self) -> bool {
        self.stg > 0.0
    }

    /// Whether the prediction without cross-attention of video and audio is needed.
    pub fn uses_modality(&self) -> bool {
        self.modality > 1.0
    }

    /// Weight of (conditional − negative).
    pub fn of_text(&self) -> f64 {
        self.text - 1.0
    }

    /// Weight of (conditional − perturbed).
    pub fn of_stg(&self) -> f64 {
        self.stg
    }

    /// Weight of (conditional − isolated).
    pub fn of_modality(&self) -> f64 {
        self.modality - 1.0
    }
}
