//! The residual blocks of a generator, and what stands between their convolutions.

use candle_core::{Result, Tensor};

use super::config::{ActivationKind, GeneratorConfig};
use crate::nn::activation::leaky_relu;
use crate::nn::conv1d::Conv1d;
use crate::nn::snake::{AntiAliased, Snake};
use crate::weights::Weights;

/// One activation. Signals are (time, channels).
#[derive(Debug)]
pub(super) enum Activation {
    /// With its slope.
    Leaky(f64),
    Snake(Snake),
    AntiAliased(AntiAliased),
}

impl Activation {
    /// One of a residual block.
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

    /// The one before the last convolution: with a slope and a β of its own, whatever the blocks have, and always guarded.
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

    /// How many samples to either side an output sample depends on.
    pub(super) fn reach(&self) -> usize {
        match self {
            Self::Leaky(_) | Self::Snake(_) => 0,
            Self::AntiAliased(snake) => snake.reach(),
        }
    }
}

/// Pairs of activation and convolution, each added to its input: the first convolution of a pair dilated, the second not.
#[derive(Debug)]
pub(super) struct ResBlock {
    pairs: Vec<[(Activation, Conv1d); 2]>,
}

impl ResBlock {
    /// Loads the `index`-th of the blocks that stand side by side in a level of `channels`.
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

    /// How many samples to either side an output sample depends on.
    pub(super) fn reach(&self) -> usize {
        self.pairs.iter().flatten().map(|(activation, conv)| activation.reach() + conv.reach()).sum()
    }
}
