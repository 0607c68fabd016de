//! Blocks of the encoder and the decoder: residual block, attention, middle, output layers.

use candle_core::{Result, Tensor};

use super::cache::StreamedConv;
use crate::families::vae::cache::{Cache, Slots};
use crate::nn::attention::attend;
use crate::nn::channel_norm::ChannelNorm;
use crate::nn::conv::Conv2d;
use crate::weights::Weights;

/// A residual block (He et al., 2016): twice norm, SiLU and convolution.
#[derive(Debug)]
pub(super) struct ResidualBlock {
    norm1: ChannelNorm,
    conv1: StreamedConv,
    norm2: ChannelNorm,
    conv2: StreamedConv,
    /// 1·1 convolution, if the number of channels changes.
    shortcut: Option<Conv2d>,
}

impl ResidualBlock {
    /// Loads a block from `inputs` to `outputs` channels.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn load(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        slots: &mut Slots,
    ) -> crate::error::Result<Self> {
        let shortcut = || pointwise(&weights.pp("conv_shortcut"), inputs, outputs);
        Ok(Self {
            norm1: ChannelNorm::load(&weights.pp("norm1"), inputs, 3)?,
            conv1: StreamedConv::load(&weights.pp("conv1"), inputs, outputs, [3; 3], slots)?,
            norm2: ChannelNorm::load(&weights.pp("norm2"), outputs, 3)?,
            conv2: StreamedConv::load(&weights.pp("conv2"), outputs, outputs, [3; 3], slots)?,
            shortcut: (inputs != outputs).then(shortcut).transpose()?,
        })
    }

    /// # Shapes
    /// - `xs`: (1, inputs, h, w)
    /// - output: (1, outputs, h, w)
    pub(super) fn forward(&self, xs: &Tensor, cache: &mut Cache) -> Result<Tensor> {
        let ys = self.conv1.forward(self.norm1.forward_silu(xs)?, cache)?;
        let ys = self.conv2.forward(self.norm2.forward_silu(&ys)?, cache)?;
        match &self.shortcut {
            Some(shortcut) => ys + shortcut.forward(xs)?,
            None => ys + xs,
        }
    }
}

/// A 1·1·1 convolution, stored with five axes.
///
/// # Errors
/// A missing tensor, or one of another shape.
pub(super) fn pointwise(weights: &Weights, inputs: usize, outputs: usize) -> crate::error::Result<Conv2d> {
    let weight = weights.compute("weight", (outputs, inputs, 1, 1, 1))?.squeeze(2)?;
    Conv2d::new(weight, weights.compute("bias", outputs)?)
}

/// Single-head self-attention among the pixels of one frame, added to the input.
#[derive(Debug)]
struct Attention {
    norm: ChannelNorm,
    qkv: Conv2d,
    proj: Conv2d,
}

impl Attention {
    fn load(weights: &Weights, dim: usize) -> crate::error::Result<Self> {
        Ok(Self {
            norm: ChannelNorm::load(&weights.pp("norm"), dim, 2)?,
            qkv: Conv2d::load(&weights.pp("to_qkv"), dim, 3 * dim, 1)?,
            proj: Conv2d::load(&weights.pp("proj"), dim, dim, 1)?,
        })
    }

    /// (1, dim, h, w) to the same.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (_, dim, h, w) = xs.dims4()?;
        let qkv = self.qkv.forward(&self.norm.forward(xs)?)?.reshape((1, 3, dim, h * w))?;
        // (1, 1, pixels, dim) each
        let part = |i: usize| qkv.narrow(1, i, 1)?.transpose(2, 3);
        let ys = attend(&part(0)?, &part(1)?, &part(2)?, 1.0 / (dim as f64).sqrt(), None)?;
        let ys = ys.transpose(2, 3)?.contiguous()?.reshape((1, dim, h, w))?;
        self.proj.forward(&ys)? + xs
    }
}

/// The middle of the encoder and the decoder: two residual blocks with attention between.
#[derive(Debug)]
pub(super) struct MidBlock {
    before: ResidualBlock,
    attention: Attention,
    after: ResidualBlock,
}

impl MidBlock {
    /// Loads the middle of `dim` channels.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn load(weights: &Weights, dim: usize, slots: &mut Slots) -> crate::error::Result<Self> {
        Ok(Self {
            before: ResidualBlock::load(&weights.pp("resnets.0"), dim, dim, slots)?,
            attention: Attention::load(&weights.pp("attentions.0"), dim)?,
            after: ResidualBlock::load(&weights.pp("resnets.1"), dim, dim, slots)?,
        })
    }

    /// # Shapes
    /// - `xs`: (1, dim, h, w)
    /// - output: the same
    pub(super) fn forward(&self, xs: &Tensor, cache: &mut Cache) -> Result<Tensor> {
        let xs = self.before.forward(xs, cache)?;
        let xs = self.attention.forward(&xs)?;
        self.after.forward(&xs, cache)
    }
}

/// The output layers of the encoder and the decoder: norm, SiLU, convolution.
#[derive(Debug)]
pub(super) struct Head {
    norm: ChannelNorm,
    conv: StreamedConv,
}

impl Head {
    /// Loads `norm_out` and `conv_out` from `weights`.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn load(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        slots: &mut Slots,
    ) -> crate::error::Result<Self> {
        Ok(Self {
            norm: ChannelNorm::load(&weights.pp("norm_out"), inputs, 3)?,
            conv: StreamedConv::load(&weights.pp("conv_out"), inputs, outputs, [3; 3], slots)?,
        })
    }

    /// # Shapes
    /// - `xs`: (1, inputs, h, w)
    /// - output: (1, outputs, h, w)
    pub(super) fn forward(&self, xs: &Tensor, cache: &mut Cache) -> Result<Tensor> {
        self.conv.forward(self.norm.forward_silu(xs)?, cache)
    }
}
