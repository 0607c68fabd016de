//! Blocks of the encoder and the decoder. Mel spectrograms are images: time along the rows, bins along the
//! columns.

use candle_core::{Result, Tensor};

use crate::nn::channel_norm::ChannelNorm;
use crate::nn::conv::Conv2d;
use crate::weights::Weights;

/// Epsilon of the norms.
const EPSILON: f64 = 1e-6;

/// A causal 3·3 convolution: two rows of zeros before the first, none after the last.
/// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/autoencoders/autoencoder_kl_ltx2_audio.py#L61>
#[derive(Debug)]
pub(super) struct CausalConv(Conv2d);

impl CausalConv {
    /// Input rows before its own that an output row depends on.
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
        // The convolution pads one row on each side: one more before, and one output row less after.
        self.0.forward(&xs.pad_with_zeros(2, 1, 0)?)?.narrow(2, 0, xs.dim(2)?)
    }
}

/// A residual block (He et al., 2016): twice norm, SiLU and convolution.
#[derive(Debug)]
pub(super) struct ResidualBlock {
    norm1: ChannelNorm,
    conv1: CausalConv,
    norm2: ChannelNorm,
    conv2: CausalConv,
    /// 1·1 convolution, if the number of channels changes.
    shortcut: Option<Conv2d>,
}

impl ResidualBlock {
    /// Input rows before its own that an output row depends on.
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

/// A sequence of residual blocks.
#[derive(Debug)]
pub(super) struct Blocks(Vec<ResidualBlock>);

impl Blocks {
    /// Loads one block per name; the first goes from `inputs` to `outputs` channels.
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

    /// Loads the middle of the encoder or the decoder.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn middle(weights: &Weights, channels: usize) -> crate::error::Result<Self> {
        let names = [1, 2].map(|i| format!("mid.block_{i}"));
        Self::load(weights, names.into_iter(), channels, channels)
    }

    /// Input rows before its own that an output row depends on.
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

/// The output layers of the encoder and the decoder: norm, SiLU, convolution.
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
