//! The one linear layer of every network.

use candle_core::{D, DType, Result, Tensor};

use crate::weights::{Matrix, Weights};

/// `y = x·Wᵀ + b`. The weight stays in memory as it is stored in its file, and widens to the type of `x` in use.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Matrix,
    bias: Option<Tensor>,
}

impl Linear {
    /// Takes `weight` (out, in) and `bias` (out) from `weights`.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn load(weights: &Weights, inputs: usize, outputs: usize) -> crate::Result<Self> {
        Ok(Self { bias: Some(weights.stored("bias", outputs)?), ..Self::without_bias(weights, inputs, outputs)? })
    }

    /// Takes `weight` (out, in) from `weights`, and no bias.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn without_bias(weights: &Weights, inputs: usize, outputs: usize) -> crate::Result<Self> {
        Ok(Self { weight: weights.matrix("weight", (outputs, inputs))?, bias: None })
    }

    /// A layer of the tensors given: `weight` (out, in), `bias` (out).
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight: Matrix::Dense(weight), bias }
    }

    /// # Shapes
    /// - `xs`: (…, in)
    /// - output: (…, out), in the type of `xs`
    ///
    /// # Errors
    /// Those of candle.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = match &self.weight {
            Matrix::Dense(weight) => weight.dims2()?,
            Matrix::Packed(weight, _) => weight.dims(),
        };
        let mut dims = xs.dims().to_vec();
        dims[xs.rank() - 1] = outputs;
        let rows = xs.elem_count() / xs.dim(D::Minus1)?;
        let xs = xs.contiguous()?.reshape((rows, inputs))?;
        let ys = match &self.weight {
            Matrix::Dense(weight) => xs.matmul(&widen(weight, xs.dtype())?.t()?)?,
            Matrix::Packed(weight, changes) => {
                changes.iter().try_fold(weight.multiply(&xs)?, |ys, change| ys + change.branch(&xs)?)?
            }
        };
        let ys = match &self.bias {
            Some(bias) => ys.broadcast_add(&widen(bias, xs.dtype())?)?,
            None => ys,
        };
        ys.reshape(dims)
    }
}

/// The tensor itself where the type is right already, a widened copy for the moment otherwise.
fn widen(tensor: &Tensor, dtype: DType) -> Result<Tensor> {
    tensor.to_dtype(dtype)
}
