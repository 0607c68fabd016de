//! One-dimensional convolutions along time. Signals are (time, channels): the values under a kernel lie side
//! by side, and a convolution is one matrix product, on a CPU without unrolling.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::weights::Weights;

/// A one-dimensional convolution, zero-padded, stride 1.
#[derive(Debug, Clone)]
pub struct Conv1d {
    /// (kernel·in, out), contiguous, the earliest tap first.
    weight: Tensor,
    /// (out)
    bias: Option<Tensor>,
    kernel: usize,
    dilation: usize,
    /// Zeros before and after the signal.
    padding: (usize, usize),
    plain: bool,
    /// Most values that are unrolled (im2col) at a time, on devices that need it.
    unrolled: usize,
}

/// 256 MiB in f32.
const UNROLLED: usize = 1 << 26;

impl Conv1d {
    /// Takes `weight` (out, in, kernel) and `bias` (out) from `weights`. Dilation 1, padded to keep the
    /// length.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn load(weights: &Weights, inputs: usize, outputs: usize, kernel: usize) -> crate::error::Result<Self> {
        let bias = weights.compute("bias", outputs)?;
        Ok(Self { bias: Some(bias), ..Self::without_bias(weights, inputs, outputs, kernel)? })
    }

    /// The same without a bias.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn without_bias(weights: &Weights, inputs: usize, outputs: usize, kernel: usize) -> crate::error::Result<Self> {
        Ok(Self::new(&weights.compute("weight", (outputs, inputs, kernel))?, None)?)
    }

    /// A convolution with `weight` (out, in, kernel) and `bias` (out).
    pub fn new(weight: &Tensor, bias: Option<Tensor>) -> Result<Self> {
        let (outputs, inputs, kernel) = weight.dims3()?;
        let weight = weight.permute((2, 1, 0))?.contiguous()?.reshape((kernel * inputs, outputs))?;
        let conv = Self { weight, bias, kernel, dilation: 1, padding: (0, 0), plain: false, unrolled: UNROLLED };
        Ok(conv.dilation(1))
    }

    /// Sets the dilation, and the padding that keeps the length; where that is odd, the greater part comes
    /// after the end.
    #[must_use]
    pub fn dilation(self, dilation: usize) -> Self {
        let total = (self.kernel - 1) * dilation;
        Self { dilation, padding: (total / 2, total - total / 2), ..self }
    }

    /// Sets the zero padding before and after the signal.
    #[must_use]
    pub fn padding(self, before: usize, after: usize) -> Self {
        Self { padding: (before, after), ..self }
    }

    /// The same convolution by candle's operations only, on every device, unrolling at most `unrolled` values
    /// at a time.
    #[must_use]
    pub fn plain(self, unrolled: usize) -> Self {
        Self { plain: true, unrolled, ..self }
    }

    /// Receptive field to one side, in samples: the greater of before and after.
    pub fn reach(&self) -> usize {
        let (before, after) = self.padding;
        before.max(((self.kernel - 1) * self.dilation).saturating_sub(before)).max(after)
    }

    /// # Shapes
    /// - `xs`: (t, in)
    /// - output: (t', out) where t' = t + padding − (kernel − 1)·dilation
    ///
    /// # Errors
    /// Other channels, or fewer samples than the kernel covers.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (length, inputs) = xs.dims2()?;
        let covered = (self.kernel - 1) * self.dilation;
        let padded = length + self.padding.0 + self.padding.1;
        if padded <= covered || inputs * self.kernel != self.weight.dim(0)? {
            let (given, kernel) = (xs.dims(), self.weight.dims());
            candle_core::bail!("a one-dimensional convolution of {kernel:?} cannot take {given:?}");
        }
        // Accelerate's product does not take a matrix whose rows overlap.
        let fast = !self.plain && !cfg!(feature = "accelerate");
        if fast && xs.device().is_cpu() && xs.dtype() == DType::F32 {
            let bias = self.bias.as_ref().map(Tensor::to_vec1).transpose()?;
            let op = OnCpu { conv: self, bias, outputs: padded - covered };
            return xs.contiguous()?.apply_op2_no_bwd(&self.weight, &op);
        }
        let ys = self.unroll(&xs.pad_with_zeros(0, self.padding.0, self.padding.1)?, padded - covered)?;
        match &self.bias {
            Some(bias) => ys.broadcast_add(bias),
            None => Ok(ys),
        }
    }

    /// The convolution by im2col and a matrix product, some samples at a time.
    fn unroll(&self, xs: &Tensor, outputs: usize) -> Result<Tensor> {
        let rows = (self.unrolled / self.weight.dim(0)?).max(1);
        let bands = (0..outputs).step_by(rows).map(|first| {
            let rows = rows.min(outputs - first);
            let taps = (0..self.kernel).map(|tap| xs.narrow(0, first + tap * self.dilation, rows));
            Tensor::cat(&taps.collect::<Result<Vec<_>>>()?, 1)?.matmul(&self.weight)
        });
        Tensor::cat(&bands.collect::<Result<Vec<_>>>()?, 0)
    }
}

/// [`Conv1d::forward`] on a CPU.
struct OnCpu<'a> {
    conv: &'a Conv1d,
    bias: Option<Vec<f32>>,
    /// Output samples.
    outputs: usize,
}

impl CustomOp2 for OnCpu<'_> {
    fn name(&self) -> &'static str {
        "conv1d-time-first"
    }

    /// With a dilation of d, every d-th sample forms a separate signal, to which a dense kernel applies. In
    /// each, the rows of the im2col matrix are the signal itself, each row one sample later than the one
    /// before.
    fn cpu_fwd(&self, xs: &CpuStorage, l1: &Layout, weight: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(values), Some((start, end))) = (xs, l1.contiguous_offsets()) else {
            candle_core::bail!("a one-dimensional convolution takes contiguous f32 only");
        };
        let Conv1d { kernel, dilation, .. } = *self.conv;
        let (covered, channels) = (l2.dims()[0], l2.dims()[1]);
        let rows = self.outputs.div_ceil(dilation);
        let signals = CpuStorage::F32(self.signals(&values[start..end], covered / kernel, rows + kernel - 1));
        let stride = (rows + kernel - 1) * (covered / kernel);
        // candle takes signals of one row each as the rows of one matrix, and reads the distance between
        // them.
        let row = if rows == 1 { stride } else { covered / kernel };
        let unrolled = Layout::new((dilation, rows, covered).into(), vec![stride, row, 1], 0);
        let weights = Layout::new((dilation, covered, channels).into(), vec![0, channels, 1], l2.start_offset());
        let products = signals.matmul(weight, (dilation, rows, channels, covered), &unrolled, &weights)?;
        let CpuStorage::F32(products) = products else { candle_core::bail!("a product of f32 is f32") };
        Ok((CpuStorage::F32(self.together(products, channels, rows)), (self.outputs, channels).into()))
    }
}

impl OnCpu<'_> {
    /// Every d-th sample of `xs`, with zeros around: (d, length, channels).
    fn signals(&self, xs: &[f32], channels: usize, length: usize) -> Vec<f32> {
        let (step, before) = (self.conv.dilation, self.conv.padding.0);
        let mut signals = vec![0f32; step * length * channels];
        if step == 1 {
            signals[before * channels..][..xs.len()].copy_from_slice(xs);
            return signals;
        }
        for (at, sample) in xs.chunks_exact(channels).enumerate() {
            let place = (at + before) % step * length + (at + before) / step;
            signals[place * channels..][..channels].copy_from_slice(sample);
        }
        signals
    }

    /// The signals' outputs (d, rows, channels) in the order of time, with the bias.
    fn together(&self, products: Vec<f32>, channels: usize, rows: usize) -> Vec<f32> {
        let step = self.conv.dilation;
        let mut ys = if step == 1 { products } else { self.interleaved(&products, channels, rows) };
        if let Some(bias) = &self.bias {
            ys.par_chunks_mut(channels).with_min_len(256).for_each(|ys| {
                ys.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
            });
        }
        ys
    }

    /// (d, rows, channels) in the order of time.
    fn interleaved(&self, signals: &[f32], channels: usize, rows: usize) -> Vec<f32> {
        let step = self.conv.dilation;
        let mut ys = vec![0f32; self.outputs * channels];
        ys.par_chunks_mut(channels).enumerate().with_min_len(256).for_each(|(at, ys)| {
            ys.copy_from_slice(&signals[(at % step * rows + at / step) * channels..][..channels]);
        });
        ys
    }
}

/// A transposed one-dimensional convolution: each sample becomes `stride` samples.
///
/// Computed as a dense convolution whose outputs hold `stride` samples each: taps `stride` apart belong to
/// the same place within them.
#[derive(Debug, Clone)]
pub struct ConvTranspose1d {
    /// From `in` to `stride·out` channels.
    conv: Conv1d,
    kernel: usize,
    stride: usize,
    /// Samples cut off at both ends.
    padding: usize,
}

impl ConvTranspose1d {
    /// Takes `weight` (in, out, kernel) and `bias` (out) from `weights`. `padding` samples are cut off at both
    /// ends.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn load(
        weights: &Weights,
        (inputs, outputs): (usize, usize),
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> crate::error::Result<Self> {
        let weight = weights.compute("weight", (inputs, outputs, kernel))?;
        Ok(Self::new(&weight, &weights.compute("bias", outputs)?, stride, padding)?)
    }

    /// A transposed convolution with `weight` (in, out, kernel) and `bias` (out).
    pub fn new(weight: &Tensor, bias: &Tensor, stride: usize, padding: usize) -> Result<Self> {
        let (inputs, outputs, kernel) = weight.dims3()?;
        let taps = kernel.div_ceil(stride);
        // Tap j of the dense kernel looks j samples back, so the last one comes first.
        let weight = weight.pad_with_zeros(2, 0, taps * stride - kernel)?.reshape((inputs, outputs, taps, stride))?;
        let weight = weight.flip(&[2])?.permute((3, 1, 0, 2))?.contiguous()?;
        let weight = weight.reshape((stride * outputs, inputs, taps))?;
        let bias = Tensor::cat(&vec![bias; stride], 0)?;
        let conv = Conv1d::new(&weight, Some(bias))?.padding(taps - 1, taps - 1);
        Ok(Self { conv, kernel, stride, padding })
    }

    /// The same by candle's operations only: see [`Conv1d::plain`].
    #[must_use]
    pub fn plain(self, unrolled: usize) -> Self {
        Self { conv: self.conv.plain(unrolled), ..self }
    }

    /// Receptive field to one side, in input samples, of the output within `reach` samples around one input
    /// sample's own.
    pub fn reach(&self, reach: usize) -> usize {
        let (back, ahead) = ((self.kernel - 1).saturating_sub(self.padding), self.padding + self.stride - 1);
        (reach + back.max(ahead)).div_ceil(self.stride)
    }

    /// # Shapes
    /// - `xs`: (t, in), t at least 1
    /// - output: ((t − 1)·stride + kernel − 2·padding, out)
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let ys = self.conv.forward(xs)?;
        let (places, channels) = ys.dims2()?;
        let ys = ys.reshape((places * self.stride, channels / self.stride))?;
        let length = ((xs.dim(0)? - 1) * self.stride + self.kernel).saturating_sub(2 * self.padding);
        ys.narrow(0, self.padding, length)
    }
}
