//! Generators, from mel rows to samples: HiFi-GAN (Kong et al., 2020) and, with other activations, BigVGAN
//! (Lee et al., 2022).
//! <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/pipelines/ltx2/vocoder.py#L373-L418>

use candle_core::{DType, Device, Tensor};

use super::config::{ActivationKind, EndKind, GeneratorConfig, VALUES, widest};
use super::resnet::{Activation, ResBlock};
use crate::audio::pieces::pieces;
use crate::error::Result;
use crate::nn::activation::leaky_relu;
use crate::nn::conv1d::{Conv1d, ConvTranspose1d};
use crate::weights::Weights;

/// Kernel of the first and of the last convolution.
const KERNEL: usize = 7;

/// A network from mel rows to samples.
#[derive(Debug)]
pub(super) struct Generator {
    conv_in: Conv1d,
    levels: Vec<Level>,
    act_out: Activation,
    conv_out: Conv1d,
    end: Option<EndKind>,
    factor: usize,
    /// Mel rows per pass.
    piece: usize,
    dtype: DType,
    device: Device,
}

impl Generator {
    /// Loads the network.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn load(config: &GeneratorConfig, weights: &Weights) -> Result<Self> {
        let conv_in = Conv1d::load(&weights.pp("conv_in"), config.in_channels, config.hidden_channels, KERNEL)?;
        let levels = (0..config.upsample_factors.len()).map(|level| Level::load(weights, config, level));
        let channels = config.hidden_channels >> config.upsample_factors.len();
        let load_out = if config.final_bias { Conv1d::load } else { Conv1d::without_bias };
        Ok(Self {
            conv_in,
            levels: levels.collect::<Result<_>>()?,
            act_out: Activation::last(&weights.pp("act_out"), config, channels)?,
            conv_out: load_out(&weights.pp("conv_out"), channels, config.out_channels, KERNEL)?,
            end: config.final_act_fn,
            factor: config.factor(),
            piece: (VALUES / widest(config)).max(1),
            dtype: weights.dtype(),
            device: weights.device().clone(),
        })
    }

    /// The same network with `rows` mel rows per pass.
    pub(super) fn in_pieces_of(self, rows: usize) -> Self {
        Self { piece: rows, ..self }
    }

    /// The samples of any number of mel rows. Apart from the samples, memory does not grow with it.
    ///
    /// # Shapes
    /// - `rows`: (t, in_channels)
    /// - output: t · factor samples for each audio channel
    pub(super) fn forward(&self, rows: &Tensor) -> Result<Vec<Vec<f32>>> {
        let (rows, reach) = (rows.to_device(&self.device)?.to_dtype(self.dtype)?, self.reach());
        let mut made = Vec::new();
        for piece in pieces(rows.dim(0)?, self.piece, (reach, reach)) {
            let samples = self.whole(&rows.narrow(0, piece.take.start, piece.take.len())?)?;
            let samples = samples.narrow(0, piece.skip() * self.factor, piece.keep.len() * self.factor)?;
            made.push(samples.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.force_contiguous()?);
        }
        Ok(Tensor::cat(&made, 0)?.t()?.to_vec2()?)
    }

    /// (t, in_channels) to (t · factor, out_channels), in one pass.
    fn whole(&self, rows: &Tensor) -> candle_core::Result<Tensor> {
        let mut xs = self.conv_in.forward(rows)?;
        for level in &self.levels {
            xs = level.forward(&xs)?;
        }
        let xs = self.conv_out.forward(&self.act_out.forward(&xs)?)?;
        match self.end {
            Some(EndKind::Tanh) => xs.tanh(),
            Some(EndKind::Clamp) => xs.clamp(-1f32, 1f32),
            None => Ok(xs),
        }
    }

    /// Mel rows on either side of its own that a sample depends on.
    fn reach(&self) -> usize {
        let end = self.conv_out.reach() + self.act_out.reach();
        self.levels.iter().rev().fold(end, |reach, level| level.reach(reach)) + self.conv_in.reach()
    }
}

/// Upsampling, then the mean of parallel residual blocks.
#[derive(Debug)]
struct Level {
    /// Slope of a leaky ReLU before the upsampling, if that is the activation.
    slope: Option<f64>,
    upsampler: ConvTranspose1d,
    resnets: Vec<ResBlock>,
}

impl Level {
    fn load(weights: &Weights, config: &GeneratorConfig, level: usize) -> Result<Self> {
        let channels = (config.hidden_channels >> level, config.hidden_channels >> (level + 1));
        let (kernel, factor) = (config.upsample_kernel_sizes[level], config.upsample_factors[level]);
        let place = weights.pp("upsamplers").pp(level);
        let upsampler = ConvTranspose1d::load(&place, channels, kernel, factor, (kernel - factor) / 2)?;
        let blocks = config.resnet_kernel_sizes.len();
        let resnets = (0..blocks)
            .map(|block| ResBlock::load(&weights.pp("resnets").pp(level * blocks + block), config, block, channels.1));
        let leaky = config.act_fn == ActivationKind::LeakyRelu;
        let slope = leaky.then_some(config.leaky_relu_negative_slope);
        Ok(Self { slope, upsampler, resnets: resnets.collect::<Result<_>>()? })
    }

    /// (t, channels) to (t · factor, channels / 2).
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let xs = match self.slope {
            Some(slope) => self.upsampler.forward(&leaky_relu(xs, slope)?)?,
            None => self.upsampler.forward(xs)?,
        };
        let (first, others) = self.resnets.split_first().expect("a checked configuration has blocks");
        let sum = others.iter().try_fold(first.forward(&xs)?, |sum, block| sum + block.forward(&xs)?)?;
        sum / self.resnets.len() as f64
    }

    /// Input samples on either side of its own that `reach` output samples depend on.
    fn reach(&self, reach: usize) -> usize {
        let inside = self.resnets.iter().map(ResBlock::reach).max().unwrap_or(0);
        self.upsampler.reach(reach + inside)
    }
}
