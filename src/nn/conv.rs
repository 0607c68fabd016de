//! Convolutions over rows and columns, and over time as well.

use candle_core::{Result, Tensor};

use crate::weights::Weights;

/// A convolution over rows and columns, with zeros beyond the edges.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// (out, in, kernel, kernel), contiguous: candle convolves wrongly with a view on some devices.
    weight: Tensor,
    /// (1, out, 1, 1)
    bias: Tensor,
    stride: usize,
    padding: usize,
}

impl Conv2d {
    /// Takes `weight` (out, in, kernel, kernel) and `bias` (out) from `weights`. Stride 1, and no padding.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn load(weights: &Weights, inputs: usize, outputs: usize, kernel: usize) -> crate::Result<Self> {
        let weight = weights.compute("weight", (outputs, inputs, kernel, kernel))?;
        Self::new(weight, weights.compute("bias", outputs)?)
    }

    /// A convolution of the tensors given: `weight` (out, in, rows, columns), `bias` (out).
    ///
    /// # Errors
    /// Those of candle.
    pub fn new(weight: Tensor, bias: Tensor) -> crate::Result<Self> {
        let bias = bias.reshape((1, (), 1, 1))?;
        Ok(Self { weight: weight.contiguous()?, bias, stride: 1, padding: 0 })
    }

    /// The same convolution that moves by `stride` rows and columns.
    #[must_use]
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// The same convolution with `padding` rows and columns of zeros on every side.
    #[must_use]
    pub fn padding(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    /// # Shapes
    /// - `xs`: (1, in, h, w)
    /// - output: (1, out, h', w') where h' = (h + 2·padding − kernel) / stride + 1
    ///
    /// # Errors
    /// Those of candle.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (_, inputs, rows, columns) = self.weight.dims4()?;
        if (rows, columns, self.stride, self.padding) == (1, 1, 1, 0) {
            return self.pointwise(xs, inputs);
        }
        xs.conv2d(&self.weight, self.padding, self.stride, 1, 1)?.broadcast_add(&self.bias)
    }

    /// A kernel of one pixel is a matrix product.
    fn pointwise(&self, xs: &Tensor, inputs: usize) -> Result<Tensor> {
        let (_, _, h, w) = xs.dims4()?;
        let weight = self.weight.reshape(((), inputs))?;
        let ys = weight.matmul(&xs.contiguous()?.reshape((inputs, h * w))?)?;
        ys.reshape((1, (), h, w))?.broadcast_add(&self.bias)
    }
}

/// A convolution over time, rows and columns that sees no future: an output frame depends on the input frame at its own
/// place in time and on those before it.
///
/// The kernel's frames lie side by side as input channels, so that one frame of output is one convolution in two
/// dimensions, with one accumulation.
#[derive(Debug, Clone)]
pub struct CausalConv3d {
    /// Its weight is (out, frames·in, rows, columns), oldest frame first.
    conv: Conv2d,
    frames: usize,
}

impl CausalConv3d {
    /// Takes `weight` (out, in, frames, rows, columns) and `bias` (out) from `weights`. `kernel` is (frames, rows,
    /// columns), with as much padding in rows and columns as keeps the size; rows and columns are odd and equal.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn load(weights: &Weights, inputs: usize, outputs: usize, kernel: [usize; 3]) -> crate::Result<Self> {
        let [frames, rows, columns] = kernel;
        let weight = weights.compute("weight", (outputs, inputs, frames, rows, columns))?;
        let weight = weight.transpose(1, 2)?.contiguous()?.reshape((outputs, frames * inputs, rows, columns))?;
        let conv = Conv2d::new(weight, weights.compute("bias", outputs)?)?.padding(rows / 2);
        Ok(Self { conv, frames })
    }

    /// How many frames one output frame depends on.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// One frame of output.
    ///
    /// # Shapes
    /// - `window`: from 1 to [`CausalConv3d::frames`] frames of (1, in, h, w), the newest last; those that are missing
    ///   before the first are zeros
    /// - output: (1, out, h, w)
    ///
    /// # Errors
    /// Those of candle: no frame at all, more than the kernel has, or one of another shape.
    pub fn forward(&self, window: &[Tensor]) -> Result<Tensor> {
        let xs = if let [frame] = window { frame.clone() } else { Tensor::cat(window, 1)? };
        let (stacked, known) = (self.conv.weight.dim(1)?, xs.dim(1)?);
        if known == stacked {
            return self.conv.forward(&xs);
        }
        // Zeros before the beginning add nothing: their part of the kernel is left out.
        let missing = stacked.checked_sub(known).ok_or_else(|| candle_core::Error::msg("more frames than kernel"))?;
        let weight = self.conv.weight.narrow(1, missing, known)?.contiguous()?;
        Conv2d { weight, ..self.conv.clone() }.forward(&xs)
    }
}
