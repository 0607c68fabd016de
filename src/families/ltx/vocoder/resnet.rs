//! The residual blocks of a generator, and its activations.

use candle_core::{Result, Tensor};

use super::config::{ActivationKind, GeneratorConfig};
use crate::nn::activation::leaky_relu;
use crate::nn::conv1d::Conv1d;
use crate::nn::snake::{AntiAliased, Snake};
use crate::weights::Weights;

/// An activation. Signals are (time, channels).
#[derive(Debug)]
pub(super) enum Activation {
    /// Leaky ReLU, with its negative slope.
    Leaky(f64),
    Snake(Snake),
    AntiAliased(AntiAliased),
}

impl Activation {
    /// The activation of a residual block.
    fn inside(weights: &Weights, config: &GeneratorConfig, channels: usize) -> crate::error::Result<Self> {
        let has_beta = config.act_fn == ActivationKind::Snakebeta;
        if config.act_fn == ActivationKind::LeakyRelu {
            Ok(Self::Leaky(config.leaky_relu_negative_slope))
        } else if config.antialias {
            Self::anti_aliased(weights, config, channels, has_beta)
        } else {
            Ok(Self::Snake(Snake::load(weights, channels, has_beta)?))
        }
    }

    /// The activation before the last convolution. Unlike in the blocks, its slope is always 0.01, or it has β and is always
    /// anti-aliased: <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/pipelines/ltx2/vocoder.py#L363-L369>.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn last(weights: &Weights, config: &GeneratorConfig, channels: usize) -> crate::error::Result<Self> {
        match config.act_fn {
            ActivationKind::LeakyRelu => Ok(Self::Leaky(0.01)),
            ActivationKind::Snake | ActivationKind::Snakebeta => Self::anti_aliased(weights, config, channels, true),
        }
    }

    fn anti_aliased(
        weights: &Weights,
        config: &GeneratorConfig,
        channels: usize,
        has_beta: bool,
    ) -> crate::error::Result<Self> {
        let shape = [channels, config.antialias_ratio, config.antialias_kernel_size];
        Ok(Self::AntiAliased(AntiAliased::load(weights, shape, has_beta)?))
    }

    /// # Shapes
    /// - `xs`: (t, channels)
    /// - output: the same
    pub(super) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        match self {
            Self::Leaky(slope) => leaky_relu(xs, *slope),
            Self::Snake(snake) => snake.forward(xs),
            Self::AntiAliased(snake) => snake.forward(xs),
        }
    }

    /// Input samples on either side of its own that an output sample depends on.
    pub(super) fn reach(&self) -> usize {
        match self {
            Self::Leaky(_) | Self::Snake(_) => 0,
            Self::AntiAliased(snake) => snake.reach(),
        }
    }
}

/// A residual block: pairs of activation and convolution, each pair added to its input. The first convolution
/// is dilated.
#[derive(Debug)]
pub(super) struct ResBlock {
    pairs: Vec<[(Activation, Conv1d); 2]>,
}

impl ResBlock {
    /// Loads the `index`-th of the parallel blocks of a level of `channels` channels.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn load(
        weights: &Weights,
        config: &GeneratorConfig,
        index: usize,
        channels: usize,
    ) -> crate::error::Result<Self> {
        let kernel = config.resnet_kernel_sizes[index];
        let layer = |pair: usize, half: usize, dilation: usize| {
            let part = |name: &str| weights.pp(format!("{name}{half}")).pp(pair);
            let conv = Conv1d::load(&part("convs"), channels, channels, kernel)?.dilation(dilation);
            Ok::<_, crate::error::Error>((Activation::inside(&part("acts"), config, channels)?, conv))
        };
        let dilations = config.resnet_dilations[index].iter().enumerate();
        let pairs = dilations.map(|(pair, &dilation)| Ok([layer(pair, 1, dilation)?, layer(pair, 2, 1)?]));
        Ok(Self { pairs: pairs.collect::<crate::error::Result<_>>()? })
    }

    /// # Shapes
    /// - `xs`: (t, channels)
    /// - output: the same
    pub(super) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mut xs = xs.clone();
        for pair in &self.pairs {
            let mut ys = xs.clone();
            for (activation, conv) in pair {
                ys = conv.forward(&activation.forward(&ys)?)?;
            }
            xs = (xs + ys)?;
        }
        Ok(xs)
    }

    /// Input samples on either side of its own that an output sample depends on.
    pub(super) fn reach(&self) -> usize {
        self.pairs.iter().flatten().map(|(activation, conv)| activation.reach() + conv.reach()).sum()
    }
}
