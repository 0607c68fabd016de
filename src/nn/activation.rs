//! Activations, as the reference implementations name them.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

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

/// The positive part, and `slope` times the negative one (Maas et al., 2013).
///
/// # Errors
/// Those of candle.
pub fn leaky_relu(xs: &Tensor, slope: f64) -> Result<Tensor> {
    if xs.device().is_cpu() && xs.dtype() == DType::F32 {
        return xs.contiguous()?.apply_op1_no_bwd(&LeakyRelu(slope as f32));
    }
    candle_nn::ops::leaky_relu(xs, slope)
}

/// Values that a core takes at one time: what fits the nearest cache.
const BLOCK: usize = 1 << 12;

/// [`leaky_relu`] on a CPU: one pass on all cores, where candle makes three on one.
struct LeakyRelu(f32);

impl CustomOp1 for LeakyRelu {
    fn name(&self) -> &'static str {
        "leaky-relu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("a rectifier wants contiguous f32");
        };
        let mut ys = vec![0f32; end - start];
        ys.par_chunks_mut(BLOCK).zip(values[start..end].par_chunks(BLOCK)).for_each(|(ys, xs)| {
            ys.iter_mut().zip(xs).for_each(|(y, x)| *y = if *x > 0.0 { *x } else { x * self.0 });
        });
        Ok((CpuStorage::F32(ys), layout.shape().clone()))
    }
}
