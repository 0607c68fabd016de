//! How strongly a prediction is driven away from others.

use serde::{Deserialize, Serialize};

/// The scales of a step's guidance, for the pictures or for the sound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scales {
    /// Away from the negative prompt. 1 and less mean: not at all.
    pub text: f64,
    /// Away from what perturbed attention predicts (spatio-temporal guidance). 0 means: not at all.
    pub stg: f64,
    /// Away from what is predicted where pictures and sound do not see each other. 1 means: not at all.
    pub modality: f64,
    /// How far the mixture goes back to the deviation of the plain prediction, 0 to 1.
    pub rescale: f64,
}

impl Scales {
    /// Guidance by a negative prompt only.
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

    /// Whether the prediction without pictures and sound seeing each other is needed.
    pub fn uses_modality(&self) -> bool {
        self.modality > 1.0
    }

    /// How often the difference to the prediction with the negative prompt counts.
    pub fn of_text(&self) -> f64 {
        self.text - 1.0
    }

    /// How often the difference to the prediction with perturbed attention counts.
    pub fn of_stg(&self) -> f64 {
        self.stg
    }

    /// How often the difference to the prediction without pictures and sound seeing each other counts.
    pub fn of_modality(&self) -> f64 {
        self.modality - 1.0
    }
}
