//! Activations, as the reference implementations name them.

use candle_core::{Result, Tensor};

use crate::compute::kernels::cpu::{self, exp, wide};

/// SiLU: `x · sigmoid(x)` (Elfwing et al., 2017).
pub fn silu(xs: &Tensor) -> Result<Tensor> {
    if cpu::takes(xs) {
        return cpu::map(xs, silu_of);
    }
    candle_nn::ops::silu(xs)
}

/// GELU, tanh approximation (Hendrycks and Gimpel, 2016): `gelu-approximate` in diffusers, `gelu_new` in T5.
pub fn gelu_tanh(xs: &Tensor) -> Result<Tensor> {
    if cpu::takes(xs) {
        return cpu::map(xs, gelu_of);
    }
    xs.gelu()
}

/// Leaky ReLU: `x` where positive, else `slope·x` (Maas et al., 2013).
pub fn leaky_relu(xs: &Tensor, slope: f64) -> Result<Tensor> {
    if cpu::takes(xs) {
        let slope = slope as f32;
        return cpu::map(xs, |xs, ys| rectified(xs, ys, slope));
    }
    candle_nn::ops::leaky_relu(xs, slope)
}

wide! {
    fn silu_of(xs: &[f32], ys: &mut [f32]) {
        ys.iter_mut().zip(xs).for_each(|(y, &x)| *y = x / (1.0 + exp(-x)));
    }
}

wide! {
    /// `x/2·(1 + tanh u)` is `x·sigmoid 2u`.
    fn gelu_of(xs: &[f32], ys: &mut [f32]) {
        // √(8/π), of which half is in the paper: u is doubled.
        const SCALE: f32 = 1.595_769;
        ys.iter_mut().zip(xs).for_each(|(y, &x)| *y = x / (1.0 + exp(-SCALE * x * (1.0 + 0.044_715 * x * x))));
    }
}

wide! {
    fn rectified(xs: &[f32], ys: &mut [f32], slope: f32) {
        ys.iter_mut().zip(xs).for_each(|(y, &x)| *y = if x > 0.0 { x } else { x * slope });
    }
}
