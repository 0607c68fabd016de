//! The linear layer of all networks.

use candle_core::{D, DType, Result, Tensor};

use super::activation::gelu_tanh;
#[cfg(feature = "cuda")]
use crate::compute::kernels::cuda;
use crate::compute::kernels::{cpu, product};
use crate::weights::{Matrix, Weights};

/// Linear layer: `y = x·Wᵀ + b`. The weight keeps its stored type in memory and widens to the type of `x` in
/// use.
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
    pub fn load(weights: &Weights, inputs: usize, outputs: usize) -> crate::error::Result<Self> {
        Ok(Self { bias: Some(weights.stored("bias", outputs)?), ..Self::without_bias(weights, inputs, outputs)? })
    }

    /// Takes `weight` (out, in) from `weights`, and no bias.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn without_bias(weights: &Weights, inputs: usize, outputs: usize) -> crate::error::Result<Self> {
        Ok(Self { weight: weights.matrix("weight", (outputs, inputs))?, bias: None })
    }

    /// A layer with `weight` (out, in) and `bias` (out).
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight: Matrix::Dense(weight), bias }
    }

    /// # Shapes
    /// - `xs`: (…, in)
    /// - output: (…, out), in the type of `xs`
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.with_epilogue(xs, false)
    }

    /// The layer followed by [`gelu_tanh`].
    pub fn forward_gelu(&self, xs: &Tensor) -> Result<Tensor> {
        self.with_epilogue(xs, true)
    }

    fn with_epilogue(&self, xs: &Tensor, gelu: bool) -> Result<Tensor> {
        let (outputs, inputs) = match &self.weight {
            Matrix::Dense(weight) => weight.dims2()?,
            Matrix::Packed(weight, _) => weight.dims(),
        };
        let mut dims = xs.dims().to_vec();
        dims[xs.rank() - 1] = outputs;
        let rows = xs.elem_count() / xs.dim(D::Minus1)?;
        let xs = xs.contiguous()?.reshape((rows, inputs))?;
        #[cfg(feature = "cuda")]
        if cuda::takes(&xs)
            && let Some(ys) = self.on_cuda(&xs, gelu)?
        {
            return ys.reshape(dims);
        }
        let ys = match cpu::takes(&xs).then(|| self.on_cpu(&xs, (rows, inputs, outputs))).transpose()?.flatten() {
            Some(ys) => ys,
            None => self.plain(&xs)?,
        };
        let ys = ys.reshape(dims)?;
        if gelu { gelu_tanh(&ys) } else { Ok(ys) }
    }

    /// The layer by candle's operations: (n, in) to (n, out).
    fn plain(&self, xs: &Tensor) -> Result<Tensor> {
        let ys = match &self.weight {
            Matrix::Dense(weight) => xs.matmul(&widen(weight, xs.dtype())?.t()?)?,
            Matrix::Packed(weight, changes) => {
                changes.iter().try_fold(weight.multiply(xs)?, |ys, change| ys + change.branch(xs)?)?
            }
        };
        match &self.bias {
            Some(bias) => ys.broadcast_add(&widen(bias, xs.dtype())?),
            None => Ok(ys),
        }
    }

    /// The layer and GELU fused into one product, in half types, if no LoRA adds to it.
    #[cfg(feature = "cuda")]
    fn on_cuda(&self, xs: &Tensor, gelu: bool) -> Result<Option<Tensor>> {
        let bias = self.bias.as_ref().map(|bias| widen(bias, xs.dtype())).transpose()?;
        match &self.weight {
            _ if xs.dtype() == DType::F32 => Ok(None),
            Matrix::Dense(weight) => cuda::product::multiply(xs, &widen(weight, xs.dtype())?, bias.as_ref(), gelu),
            Matrix::Packed(weight, changes) if changes.is_empty() => weight.multiply_on_cuda(xs, bias.as_ref(), gelu),
            Matrix::Packed(..) => Ok(None),
        }
    }

    /// The layer on a CPU, if the weight is f32 or packed: products are added to the bias.
    fn on_cpu(&self, xs: &Tensor, (rows, inputs, outputs): (usize, usize, usize)) -> Result<Option<Tensor>> {
        let bias = self.bias.as_ref().map(|bias| bias.to_dtype(DType::F32)?.to_vec1::<f32>()).transpose()?;
        let mut ys = product::place(rows, outputs, bias.as_deref());
        match &self.weight {
            Matrix::Dense(weight) if cpu::takes(weight) && weight.is_contiguous() => {
                cpu::with_values(&[xs, weight], |values| {
                    let weight = product::Matrix::plain(values[1], outputs, inputs);
                    let xs = product::Matrix::plain(values[0], rows, inputs);
                    let output = product::Output { values: &mut ys, stride: outputs, add: bias.is_some() };
                    product::multiply(xs, weight.t(), 1.0, output, true)
                })?;
            }
            Matrix::Packed(weight, _) => {
                cpu::with_values(&[xs], |values| weight.add_products(values[0], bias.is_some(), &mut ys))?;
            }
            Matrix::Dense(_) => return Ok(None),
        }
        let ys = Tensor::from_vec(ys, (rows, outputs), xs.device())?;
        match &self.weight {
            Matrix::Packed(_, changes) => changes.iter().try_fold(ys, |ys, change| ys + change.branch(xs)?).map(Some),
            Matrix::Dense(_) => Ok(Some(ys)),
        }
    }
}

/// The tensor itself if it has the type already, else a temporary copy in it.
fn widen(tensor: &Tensor, dtype: DType) -> Result<Tensor> {
    tensor.to_dtype(dtype)
}
