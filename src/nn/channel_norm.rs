//! RMS normalisation over the channels of an image.

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::activation::silu;
use crate::compute::kernels::cpu::{self, exp, wide};
#[cfg(feature = "cuda")]
use crate::compute::kernels::cuda::{self, kernels};
use crate::weights::Weights;

/// The least length to divide by: the default `eps` of `torch.nn.functional.normalize`.
const SHORTEST: f32 = 1e-12;

/// Each pixel's channels, divided by their length, times √channels and a learned scale.
#[derive(Debug, Clone)]
pub struct ChannelNorm {
    /// The learned scale times √channels: (1, dim, 1, 1), f32.
    scale: Tensor,
    /// Added to the sum of squares.
    added: f64,
    plain: bool,
}

impl ChannelNorm {
    /// Takes `gamma` from `weights`: `dim` values, in a shape with `axes` ones after it.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn load(weights: &Weights, dim: usize, axes: usize) -> crate::error::Result<Self> {
        let shape: Vec<usize> = std::iter::once(dim).chain(std::iter::repeat_n(1, axes)).collect();
        Ok(Self::new(&weights.f32("gamma", shape)?)?)
    }

    /// A normalisation with the scales `gamma`: one value per channel, f32, any shape.
    pub fn new(gamma: &Tensor) -> Result<Self> {
        let dim = gamma.elem_count();
        Ok(Self { scale: (gamma.reshape((1, dim, 1, 1))? * (dim as f64).sqrt())?, added: 0.0, plain: false })
    }

    /// Division of `dim` channels by √(mean of squares + `eps`), without learned parameters.
    pub fn pixel(dim: usize, eps: f64, device: &Device) -> Result<Self> {
        Ok(Self { added: eps * dim as f64, ..Self::new(&Tensor::ones(dim, DType::F32, device)?)? })
    }

    /// The same normalisation by candle's own operations only, on every device.
    #[must_use]
    pub fn plain(self) -> Self {
        Self { plain: true, ..self }
    }

    /// # Shapes
    /// - `xs`: (1, dim, h, w)
    /// - output: the same, in the type of `xs`; computed in f32
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if !self.plain && cuda::takes(xs) {
            return kernels::channel_norm(xs, &self.scale, (self.added, SHORTEST), false);
        }
        let wide = xs.to_dtype(DType::F32)?;
        let length = (wide.sqr()?.sum_keepdim(1)? + self.added)?.sqrt()?.maximum(SHORTEST)?;
        wide.broadcast_div(&length)?.broadcast_mul(&self.scale)?.to_dtype(xs.dtype())
    }

    /// The normalisation and SiLU, fused: candle's operations would write seven images of the same size.
    ///
    /// # Shapes
    /// - `xs`: (1, dim, h, w)
    /// - output: the same, in the type of `xs`
    pub fn forward_silu(&self, xs: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if !self.plain && cuda::takes(xs) {
            return kernels::channel_norm(xs, &self.scale, (self.added, SHORTEST), true);
        }
        if self.plain || !cpu::takes(xs) {
            return silu(&self.forward(xs)?);
        }
        let scale = self.scale.flatten_all()?.to_vec1()?;
        xs.contiguous()?.apply_op1_no_bwd(&NormSilu { scale, added: self.added as f32 })
    }
}

/// [`ChannelNorm::forward_silu`] on a CPU.
struct NormSilu {
    /// One per channel.
    scale: Vec<f32>,
    added: f32,
}

impl CustomOp1 for NormSilu {
    fn name(&self) -> &'static str {
        "channel-norm-silu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("a channel normalisation takes contiguous f32 only");
        };
        let values = &values[start..end];
        let pixels = values.len() / self.scale.len();
        let inverse = inverse_lengths(values, pixels, self.added);
        let mut ys = vec![0f32; values.len()];
        let planes = ys.par_chunks_mut(pixels).zip(values.par_chunks(pixels)).zip(&self.scale);
        planes.for_each(|((ys, xs), scale)| {
            scaled_silu(xs, &inverse, *scale, ys);
        });
        Ok((CpuStorage::F32(ys), layout.shape().clone()))
    }
}

/// 1 / length of each pixel's channel vector, of an image (channels, pixels); `added` goes under the root.
fn inverse_lengths(values: &[f32], pixels: usize, added: f32) -> Vec<f32> {
    // Few enough for the L1 cache, where they stay over all channels.
    const PIXELS: usize = 2048;
    let mut squares = vec![0f32; pixels];
    squares.par_chunks_mut(PIXELS).enumerate().for_each(|(i, squares)| {
        for plane in values.chunks_exact(pixels) {
            add_squares(&plane[i * PIXELS..], squares);
        }
        squares.iter_mut().for_each(|sum| *sum = 1.0 / (*sum + added).sqrt().max(SHORTEST));
    });
    squares
}

wide! {
    fn add_squares(xs: &[f32], squares: &mut [f32]) {
        squares.iter_mut().zip(xs).for_each(|(sum, x)| *sum += x * x);
    }
}

wide! {
    fn scaled_silu(xs: &[f32], inverse: &[f32], scale: f32, ys: &mut [f32]) {
        for ((y, x), inverse) in ys.iter_mut().zip(xs).zip(inverse) {
            let x = x * inverse * scale;
            *y = x / (1.0 + exp(-x));
        }
    }
}
