//! Convolutions in two dimensions (rows, columns) and three (time, rows, columns).

mod winograd;

use candle_core::{Result, Tensor};

use crate::compute::kernels::cpu;
#[cfg(feature = "cudnn")]
use crate::compute::kernels::cuda::{self, cudnn::convolution};
use crate::weights::Weights;

/// Padding mode: the values that a convolution reads beyond the edges of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Edges {
    /// Zeros.
    #[default]
    Zeros,
    /// The image mirrored at its outermost pixels. Each side has to be larger than the padding.
    Reflect,
}

impl Edges {
    /// The fewest rows or columns that a 3×3 convolution takes: a mirror needs two.
    pub fn least_side(self) -> usize {
        if self == Self::Reflect { 2 } else { 1 }
    }
}

/// A two-dimensional convolution.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// (out, in, kernel, kernel), contiguous: candle convolves wrongly with a view on some devices.
    weight: Tensor,
    /// (1, out, 1, 1)
    bias: Tensor,
    stride: usize,
    padding: usize,
    edges: Edges,
    plain: bool,
    /// Most values that candle unrolls (im2col) at a time.
    unrolled: usize,
}

/// Scratch bytes of a 3×3 convolution of an image of `pixels` on a CPU, besides input and output.
pub fn scratch(inputs: usize, outputs: usize, pixels: usize) -> usize {
    winograd::scratch(inputs, outputs, pixels)
}

/// 512 MiB in bf16.
const UNROLLED: usize = 1 << 28;

impl Conv2d {
    /// Takes `weight` (out, in, kernel, kernel) and `bias` (out) from `weights`. Stride 1, no padding.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn load(weights: &Weights, inputs: usize, outputs: usize, kernel: usize) -> crate::error::Result<Self> {
        let weight = weights.compute("weight", (outputs, inputs, kernel, kernel))?;
        Self::new(weight, weights.compute("bias", outputs)?)
    }

    /// A convolution with `weight` (out, in, rows, columns) and `bias` (out).
    pub fn new(weight: Tensor, bias: Tensor) -> crate::error::Result<Self> {
        let bias = bias.reshape((1, (), 1, 1))?;
        let (weight, edges) = (weight.contiguous()?, Edges::Zeros);
        Ok(Self { weight, bias, stride: 1, padding: 0, edges, plain: false, unrolled: UNROLLED })
    }

    /// Sets the stride of rows and columns.
    #[must_use]
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// Sets the padding of every side, in rows and columns: zeros, unless [`Conv2d::edges`] sets another
    /// mode.
    #[must_use]
    pub fn padding(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    /// Sets the padding mode.
    #[must_use]
    pub fn edges(self, edges: Edges) -> Self {
        Self { edges, ..self }
    }

    /// The same convolution by candle's operation only, on every device, unrolling at most `unrolled` values
    /// at a time.
    #[must_use]
    pub fn plain(self, unrolled: usize) -> Self {
        Self { plain: true, unrolled, ..self }
    }

    /// # Shapes
    /// - `xs`: (1, in, h, w)
    /// - output: (1, out, h', w') where h' = (h + 2·padding − kernel) / stride + 1
    ///
    /// # Errors
    /// An image too small for its mirror.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.stacked(std::slice::from_ref(xs))
    }

    /// The convolution of images concatenated along the channels. If they are fewer than the kernel's input
    /// channels, they are the last ones.
    fn stacked(&self, images: &[Tensor]) -> Result<Tensor> {
        let (_, inputs, rows, columns) = self.weight.dims4()?;
        let known = images.iter().map(|image| image.dim(1)).sum::<Result<usize>>()?;
        let missing = inputs
            .checked_sub(known)
            .ok_or_else(|| candle_core::Error::msg("more images than the kernel has channels for"))?;
        if self.edges == Edges::Reflect
            && images.iter().any(|image| image.dims()[2..].iter().min() <= Some(&self.padding))
        {
            candle_core::bail!("an image of {:?} cannot be mirrored {} pixels deep", images[0].shape(), self.padding);
        }
        let kernel = (rows, columns, self.stride, self.padding);
        if kernel == (3, 3, 1, 1) && !self.plain && images.iter().chain([&self.weight]).all(cpu::takes) {
            let images = images.iter().map(Tensor::contiguous).collect::<Result<Vec<_>>>()?;
            return winograd::convolve(&images, &self.weight, &self.bias, self.edges);
        }
        let xs = if let [image] = images { image.clone() } else { Tensor::cat(images, 1)? };
        let weight = self.weight.narrow(1, missing, known)?.contiguous()?;
        if kernel == (1, 1, 1, 0) {
            return self.pointwise(&weight, &xs);
        }
        let (xs, padding) = match self.edges {
            Edges::Zeros => (xs, self.padding),
            Edges::Reflect => (mirrored(&mirrored(&xs, 2, self.padding)?, 3, self.padding)?, 0),
        };
        #[cfg(feature = "cudnn")]
        if !self.plain
            && cuda::takes(&xs)
            && let Some(ys) = convolution::convolve(&xs, &weight, &self.bias, self.stride, padding)?
        {
            return Ok(ys);
        }
        self.in_bands(&weight, &xs, padding)?.broadcast_add(&self.bias)
    }

    /// The convolution in bands of rows where the image is large: on a GPU without cuDNN candle unrolls the
    /// image (im2col) and computes nonsense beyond 2³¹ values.
    fn in_bands(&self, weight: &Tensor, xs: &Tensor, padding: usize) -> Result<Tensor> {
        let (_, inputs, kernel, columns) = weight.dims4()?;
        let (_, _, h, w) = xs.dims4()?;
        let out = |length: usize| (length + 2 * padding).saturating_sub(kernel) / self.stride + 1;
        let rows = (self.unrolled / (inputs * kernel * columns * out(w))).max(1);
        if rows >= out(h) {
            return xs.conv2d(weight, padding, self.stride, 1, 1);
        }
        let xs = xs.pad_with_zeros(2, padding, padding)?.pad_with_zeros(3, padding, padding)?;
        let bands = (0..out(h)).step_by(rows).map(|first| {
            let rows = rows.min(out(h) - first);
            let band = xs.narrow(2, first * self.stride, (rows - 1) * self.stride + kernel)?;
            band.contiguous()?.conv2d(weight, 0, self.stride, 1, 1)
        });
        Tensor::cat(&bands.collect::<Result<Vec<_>>>()?, 2)
    }

    /// A 1×1 convolution, as a matrix product.
    fn pointwise(&self, weight: &Tensor, xs: &Tensor) -> Result<Tensor> {
        let (_, inputs, h, w) = xs.dims4()?;
        let weight = weight.reshape(((), inputs))?;
        let ys = weight.matmul(&xs.contiguous()?.reshape((inputs, h * w))?)?;
        ys.reshape((1, (), h, w))?.broadcast_add(&self.bias)
    }
}

/// Reflection padding: `padding` entries at both ends of `axis`, mirrored at the first and the last.
fn mirrored(xs: &Tensor, axis: usize, padding: usize) -> Result<Tensor> {
    if padding == 0 {
        return Ok(xs.clone());
    }
    let length = xs.dim(axis)?;
    let before = (1..=padding).rev();
    let after = (1..=padding).map(|i| length - 1 - i);
    let ids: Vec<u32> = before.chain(0..length).chain(after).map(|i| i as u32).collect();
    xs.contiguous()?.index_select(&Tensor::new(ids, xs.device())?, axis)
}

/// A three-dimensional convolution of a window of frames that the caller chooses: frames up to the output
/// frame make it causal, frames on both sides symmetric.
///
/// The kernel's frames lie side by side as input channels, so that one output frame is one [`Conv2d`] with
/// one accumulation.
#[derive(Debug, Clone)]
pub struct Conv3d {
    /// Its weight is (out, frames·in, rows, columns), oldest frame first.
    conv: Conv2d,
    frames: usize,
}

impl Conv3d {
    /// Takes `weight` (out, in, frames, rows, columns) and `bias` (out) from `weights`. `kernel` is (frames,
    /// rows, columns); rows and columns are odd and equal, and padded to keep the size.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn load(weights: &Weights, inputs: usize, outputs: usize, kernel: [usize; 3]) -> crate::error::Result<Self> {
        let [frames, rows, columns] = kernel;
        let weight = weights.compute("weight", (outputs, inputs, frames, rows, columns))?;
        let weight = weight.transpose(1, 2)?.contiguous()?.reshape((outputs, frames * inputs, rows, columns))?;
        let conv = Conv2d::new(weight, weights.compute("bias", outputs)?)?.padding(rows / 2);
        Ok(Self { conv, frames })
    }

    /// Sets the padding mode of rows and columns.
    #[must_use]
    pub fn edges(self, edges: Edges) -> Self {
        Self { conv: self.conv.edges(edges), ..self }
    }

    /// Frames of the kernel: how many input frames an output frame depends on.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// One frame of output.
    ///
    /// # Shapes
    /// - `window`: 1 to [`Conv3d::frames`] frames of (1, in, h, w), the newest last; missing ones before the
    ///   first count as zeros
    /// - output: (1, out, h, w)
    ///
    /// # Errors
    /// No frame, more than the kernel has, or one of another shape.
    pub fn forward(&self, window: &[Tensor]) -> Result<Tensor> {
        // Zeros before the first frame add nothing: their part of the kernel is left out.
        self.conv.stacked(window)
    }

    /// The same convolution by candle's operation only: see [`Conv2d::plain`].
    #[must_use]
    pub fn plain(self, unrolled: usize) -> Self {
        Self { conv: self.conv.plain(unrolled), ..self }
    }
}
