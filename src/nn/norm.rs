//! Normalisations. All compute in f32 for every type of input, as the references do.

use candle_core::{D, DType, Result, Tensor};

use crate::compute::kernels::cpu::{self, sum, wide};
#[cfg(feature = "cuda")]
use crate::compute::kernels::cuda::{self, kernels};
use crate::weights::Weights;

/// Layer normalisation over the last dimension (Ba et al., 2016), with or without an affine part.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    /// Takes `weight` and `bias` (dim) from `weights`.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn load(weights: &Weights, dim: usize, eps: f64) -> crate::error::Result<Self> {
        Ok(Self { weight: weights.f32("weight", dim)?, bias: weights.f32("bias", dim)?, eps: eps as f32 })
    }

    /// A layer normalisation without learned parameters.
    pub fn plain(weights: &Weights, dim: usize, eps: f64) -> crate::error::Result<Self> {
        let weight = Tensor::ones(dim, DType::F32, weights.device())?;
        Ok(Self { bias: weight.zeros_like()?, weight, eps: eps as f32 })
    }

    /// # Shapes
    /// - `xs`: (…, dim), of any float type
    /// - output: (…, dim), f32
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        candle_nn::ops::layer_norm(&xs.to_dtype(DType::F32)?.contiguous()?, &self.weight, &self.bias, self.eps)
    }

    /// # Shapes
    /// - `xs`: (…, dim), of any float type
    /// - output: (…, dim), in the type of `xs`
    pub fn forward_same(&self, xs: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if cuda::takes(xs) && xs.dim(D::Minus1)? == self.weight.elem_count() {
            return kernels::norm(xs, (f64::from(self.eps), true), &self.weight, Some(&self.bias));
        }
        self.forward(xs)?.to_dtype(xs.dtype())
    }
}

/// A normalisation without learned parameters, as before a modulation.
#[derive(Debug, Clone, Copy)]
pub enum Plain<'a> {
    /// Layer normalisation, made by [`LayerNorm::plain`].
    Layer(&'a LayerNorm),
    /// RMS normalisation with this epsilon.
    Rms(f64),
}

impl Plain<'_> {
    /// # Shapes
    /// - `xs`: (…, dim), of any float type
    /// - output: (…, dim), f32
    pub fn forward(self, xs: &Tensor) -> Result<Tensor> {
        match self {
            Self::Layer(norm) => norm.forward(xs),
            Self::Rms(eps) => rms_norm(xs, eps),
        }
    }

    /// Epsilon, and whether the mean is subtracted.
    #[cfg(feature = "cuda")]
    pub(super) fn kind(self) -> (f64, bool) {
        match self {
            Self::Layer(norm) => (f64::from(norm.eps), true),
            Self::Rms(eps) => (eps, false),
        }
    }
}

/// Root-mean-square normalisation over the last dimension (Zhang and Sennrich, 2019), with a learned scale.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// Takes `weight` (dim) from `weights`.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn load(weights: &Weights, dim: usize, eps: f64) -> crate::error::Result<Self> {
        Ok(Self { weight: weights.f32("weight", dim)?, eps })
    }

    /// A normalisation that scales by `1 + weight`, as in Gemma.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn centred(weights: &Weights, dim: usize, eps: f64) -> crate::error::Result<Self> {
        Ok(Self { weight: (weights.f32("weight", dim)? + 1.0)?, eps })
    }

    /// The scale, (dim) in f32, and the epsilon.
    #[cfg(feature = "cuda")]
    pub(crate) fn parameters(&self) -> (&Tensor, f64) {
        (&self.weight, self.eps)
    }

    /// # Shapes
    /// - `xs`: (…, dim)
    /// - output: (…, dim), in the type of `xs`
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        if cpu::takes(xs) && xs.dim(D::Minus1)? == self.weight.elem_count() {
            let weight = self.weight.to_vec1::<f32>()?;
            return cpu::rows(xs, |_, xs, ys| scaled(xs, ys, self.eps as f32, &weight));
        }
        #[cfg(feature = "cuda")]
        if cuda::takes(xs) && xs.dim(D::Minus1)? == self.weight.elem_count() {
            return kernels::norm(xs, (self.eps, false), &self.weight, None);
        }
        rms_norm(xs, self.eps)?.broadcast_mul(&self.weight)?.to_dtype(xs.dtype())
    }
}

/// Root-mean-square normalisation over the last dimension, without learned parameters.
///
/// # Shapes
/// - `xs`: (…, dim), of any float type
/// - output: (…, dim), f32
pub fn rms_norm(xs: &Tensor, eps: f64) -> Result<Tensor> {
    if cpu::takes(xs) {
        return cpu::rows(xs, |_, xs, ys| scaled(xs, ys, eps as f32, &[]));
    }
    let wide = xs.to_dtype(DType::F32)?;
    let mean = wide.sqr()?.mean_keepdim(D::Minus1)?;
    let scale = (mean + eps)?.sqrt()?.recip()?;
    wide.broadcast_mul(&scale)
}

wide! {
    /// A row divided by its root mean square, times `scale` per number; an empty `scale` is 1.
    fn scaled(xs: &[f32], ys: &mut [f32], eps: f32, scale: &[f32]) {
        let inverse = 1.0 / (sum(xs, |x| x * x) / xs.len() as f32 + eps).sqrt();
        match scale {
            [] => ys.iter_mut().zip(xs).for_each(|(y, x)| *y = x * inverse),
            scale => ys.iter_mut().zip(xs).zip(scale).for_each(|((y, x), scale)| *y = x * inverse * scale),
        }
    }
}

/// Group normalisation (Wu and He, 2018), over the channels of a group and all axes after them.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Takes `weight` and `bias` (dim) from `weights`. `groups` divides `dim`.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn load(weights: &Weights, groups: usize, dim: usize, eps: f64) -> crate::error::Result<Self> {
        Ok(Self { weight: weights.f32("weight", dim)?, bias: weights.f32("bias", dim)?, groups, eps })
    }

    /// # Shapes
    /// - `xs`: (1, dim, …)
    /// - output: the same, in the type of `xs`
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let dim = xs.dim(1)?;
        let wide = xs.to_dtype(DType::F32)?.contiguous()?.reshape((self.groups, ()))?;
        let wide = wide.broadcast_sub(&wide.mean_keepdim(1)?)?;
        let deviation = (wide.sqr()?.mean_keepdim(1)? + self.eps)?.sqrt()?;
        let ys = wide.broadcast_div(&deviation)?.reshape((dim, ()))?;
        let ys = ys.broadcast_mul(&self.weight.reshape((dim, 1))?)?.broadcast_add(&self.bias.reshape((dim, 1))?)?;
        ys.reshape(xs.dims())?.to_dtype(xs.dtype())
    }
}
