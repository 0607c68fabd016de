//! Activations, as the reference implementations name them.

use candle_core::{Result, Tensor};

/// `x · sigmoid(x)` (Elfwing et al., 2017).
///
/// # Errors
/// Those of candle.
pub fn silu(xs: &Tensor) -> Result<Tensor> {
    candle_nn::ops::silu(xs)
}

/// GELU by its tanh approximation (Hendrycks and Gimpel, 2016): what diffusers calls `gelu-approximate`, T5 `gelu_new`.
///
/// # Errors
/// Those of candle.
pub fn gelu_tanh(xs: &Tensor) -> Result<Tensor> {
    xs.gelu()
}
