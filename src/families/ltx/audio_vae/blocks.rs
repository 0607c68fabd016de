//! The blocks of which encoder and decoder are both made. Spectra are images: rows are time, columns are bins.

use candle_core::{Result, Tensor};

use crate::nn::channel_norm::ChannelNorm;
use crate::nn::conv::Conv2d;
use crate::weights::Weights;

/// Added to the mean square of a pixel's channels.
const EPSILON: f64 = 1e-6;

/// A convolution of 3·3 that sees no later row: two rows of zeros come before the first, and none after the last.
#[derive(Debug)]
pub(super) struct CausalConv(Conv2d);

impl CausalConv {
    /// How many rows before its own an output row depends on.
    pub(super) const REACH: usize = 2;

    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn load(weights: &Weights, inputs: usize, outputs: usize) -> crate::error::Result<Self> {
        Ok(Self(Conv2d::load(&weights.pp("conv"), inputs, outputs, 3)?.padding(1)))
    }

    /// # Shapes
    /// - `xs`: (1, inputs, rows, bins)
    /// - output: (1, outputs, rows, bins)
    pub(super) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        // One of the two rows of zeros is the padding of a convolution that keeps the size.
        self.0.forward(&xs.pad_with_zeros(2, 1, 0)?)?.narrow(2, 0, xs.dim(2)?)
    }
}

/// Twice norm, SiLU and convolution, added to the input (He et al., 2016).
#[derive(Debug)]
pub(super) struct ResidualBlock {
    norm1: ChannelNorm,
    conv1: CausalConv,
    norm2: ChannelNorm,
    conv2: CausalConv,
    /// Where input and output differ in channels.
    shortcut: Option<Conv2d>,
}

impl ResidualBlock {
    /// How many rows before its own an output row depends on.
    pub(super) const REACH: usize = 2 * CausalConv::REACH;

    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn load(weights: &Weights, inputs: usize, outputs: usize) -> crate::error::Result<Self> {
        let shortcut = || Conv2d::load(&weights.pp("nin_shortcut.conv"), inputs, outputs, 1);
        Ok(Self {
            norm1: ChannelNorm::pixel(inputs, EPSILON, weights.device())?,
            conv1: CausalConv::load(&weights.pp("conv1"), inputs, outputs)?,
            norm2: ChannelNorm::pixel(outputs, EPSILON, weights.device())?,
            conv2: CausalConv::load(&weights.pp("conv2"), outputs, outputs)?,
            shortcut: (inputs != outputs).then(shortcut).transpose()?,
        })
    }

    /// # Shapes
    /// - `xs`: (1, inputs, rows, bins)
    /// - output: (1, outputs, rows, bins)
    pub(super) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let ys = self.conv1.forward(&self.norm1.forward_silu(xs)?)?;
        let ys = self.conv2.forward(&self.norm2.forward_silu(&ys)?)?;
        match &self.shortcut {
            Some(shortcut) => ys + shortcut.forward(xs)?,
            None => ys + xs,
        }
    }
}

/// Residual blocks, one after the other.
#[derive(Debug)]
pub(super) struct Blocks(Vec<ResidualBlock>);

impl Blocks {
    /// Loads one block per name, the first from `inputs` to `outputs` channels.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn load(
        weights: &Weights,
        names: impl Iterator<Item = String>,
        inputs: usize,
        outputs: usize,
    ) -> crate::error::Result<Self> {
        let blocks = names
            .enumerate()
            .map(|(i, name)| ResidualBlock::load(&weights.pp(name), if i == 0 { inputs } else { outputs }, outputs));
        Ok(Self(blocks.collect::<crate::error::Result<_>>()?))
    }

    /// Loads the middle of encoder or decoder.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn middle(weights: &Weights, channels: usize) -> crate::error::Result<Self> {
        let names = [1, 2].map(|i| format!("mid.block_{i}"));
        Self::load(weights, names.into_iter(), channels, channels)
    }

    /// How many rows before its own an output row depends on.
    pub(super) fn reach(&self) -> usize {
        self.0.len() * ResidualBlock::REACH
    }

    /// # Shapes
    /// - `xs`: (1, inputs, rows, bins)
    /// - output: (1, outputs, rows, bins)
    pub(super) fn forward(&self, xs: Tensor) -> Result<Tensor> {
        self.0.iter().try_fold(xs, |xs, block| block.forward(&xs))
    }
}

/// The end of encoder and decoder: norm, SiLU, convolution.
#[derive(Debug)]
pub(super) struct Head {
    norm: ChannelNorm,
    conv: CausalConv,
}

impl Head {
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn load(weights: &Weights, inputs: usize, outputs: usize) -> crate::error::Result<Self> {
        let norm = ChannelNorm::pixel(inputs, EPSILON, weights.device())?;
        Ok(Self { norm, conv: CausalConv::load(&weights.pp("conv_out"), inputs, outputs)? })
    }

    /// # Shapes
    /// - `xs`: (1, inputs, rows, bins)
    /// - output: (1, outputs, rows, bins)
    pub(super) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.conv.forward(&self.norm.forward_silu(xs)?)
    }
}
