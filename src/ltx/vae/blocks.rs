//! The convolutions and residual blocks of which encoder and decoder are both made.

use candle_core::{Result, Tensor};

use super::network::{Network, Step, oldest};
use crate::nn::channel_norm::ChannelNorm;
use crate::nn::conv::{Conv2d, Conv3d, Edges};
use crate::nn::norm::LayerNorm;
use crate::vae::cache::Cache;
use crate::weights::Weights;

/// Frames, rows and columns of every convolution.
const KERNEL: usize = 3;

/// The epsilon of the norms before convolutions: the default of the reference's `PerChannelRMSNorm`, which no
/// configuration changes.
const PIXEL_EPS: f64 = 1e-8;

/// How the convolutions of an encoder or decoder see what is not there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings {
    /// Whether convolutions see two frames before their own, or one on either side.
    pub(super) causal: bool,
    /// Beyond the edges of a frame.
    pub(super) edges: Edges,
}

/// A convolution over frames, rows and columns; with `norm`, each pixel's normalisation and SiLU before it. Before the
/// first frame stand copies of it, and after the last one a copy of that.
#[derive(Debug)]
pub(super) struct Conv {
    norm: Option<ChannelNorm>,
    conv: Conv3d,
    causal: bool,
    slot: usize,
}

impl Conv {
    /// The frame that is complete now that one more is there.
    ///
    /// # Shapes
    /// - `frame`: (1, in, h, w)
    /// - output: (1, out, h, w), or nothing yet
    ///
    /// # Errors
    /// Those of candle.
    pub(super) fn push(&self, frame: Tensor, cache: &mut Cache) -> Result<Option<Tensor>> {
        let frame = match &self.norm {
            Some(norm) => norm.forward_silu(&frame)?,
            None => frame,
        };
        let before = if self.causal { KERNEL - 1 } else { KERNEL / 2 };
        let window = cache.slot(self.slot).get_or_insert_with(|| vec![frame.clone(); before]);
        window.push(frame);
        if window.len() < KERNEL {
            return Ok(None);
        }
        let ys = self.conv.forward(window)?;
        window.remove(0);
        Ok(Some(ys))
    }

    /// The last frame, where it waits for one that will not come.
    ///
    /// # Errors
    /// Those of candle.
    pub(super) fn finish(&self, cache: &mut Cache) -> Result<Option<Tensor>> {
        let Some(mut window) = cache.slot(self.slot).take() else { return Ok(None) };
        match window.last().cloned() {
            Some(last) if !self.causal => {
                window.push(last);
                self.conv.forward(&window).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// The end of a shortcut: adds the frame that has waited longest.
#[derive(Debug)]
pub(super) struct Join {
    slot: usize,
    /// Where the block changes the number of channels: a norm over the channels and a convolution of one pixel.
    change: Option<(LayerNorm, Conv2d)>,
}

impl Join {
    /// # Shapes
    /// - `frame`: (1, outputs, h, w)
    /// - output: the same
    ///
    /// # Errors
    /// Those of candle.
    pub(super) fn push(&self, frame: Tensor, cache: &mut Cache) -> Result<Tensor> {
        let input = oldest(cache, self.slot)?;
        let Some((norm, conv)) = &self.change else { return frame + input };
        let last = norm.forward(&input.permute((0, 2, 3, 1))?)?;
        frame + conv.forward(&last.permute((0, 3, 1, 2))?.to_dtype(input.dtype())?)?
    }
}

impl Network {
    /// Adds the convolution `conv` of `weights`, from `inputs` to `outputs` channels.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn conv(
        &mut self,
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        around: Surroundings,
    ) -> crate::Result<()> {
        self.push_conv(weights, None, (inputs, outputs), around)
    }

    /// Adds a norm, SiLU, and the convolution `conv` of `weights`.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn norm_conv(
        &mut self,
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        around: Surroundings,
    ) -> crate::Result<()> {
        let norm = ChannelNorm::pixel(inputs, PIXEL_EPS, weights.device())?;
        self.push_conv(weights, Some(norm), (inputs, outputs), around)
    }

    fn push_conv(
        &mut self,
        weights: &Weights,
        norm: Option<ChannelNorm>,
        (inputs, outputs): (usize, usize),
        around: Surroundings,
    ) -> crate::Result<()> {
        let conv = Conv3d::load(&weights.pp("conv"), inputs, outputs, [KERNEL; 3])?.edges(around.edges);
        let slot = self.slots.take();
        self.then(Step::Conv(Conv { norm, conv, causal: around.causal, slot }));
        Ok(())
    }

    /// Adds `count` residual blocks of `dim` channels, the tensors of which are in `resnets.0`, `resnets.1`, …
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn resnets(
        &mut self,
        weights: &Weights,
        count: usize,
        dim: usize,
        around: Surroundings,
    ) -> crate::Result<()> {
        (0..count).try_for_each(|i| self.resnet(&weights.pp("resnets").pp(i), (dim, dim), around, 0.0))
    }

    /// Adds a residual block (He et al., 2016): twice norm, SiLU and convolution, added to the input. `eps` is that of the
    /// norm in its shortcut, where the two numbers of channels `dims` differ.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn resnet(
        &mut self,
        weights: &Weights,
        dims: (usize, usize),
        around: Surroundings,
        eps: f64,
    ) -> crate::Result<()> {
        let (inputs, outputs) = dims;
        let change = || -> crate::Result<_> {
            let norm = LayerNorm::load(&weights.pp("norm3"), inputs, eps)?;
            let weights = weights.pp("conv_shortcut");
            let weight = weights.compute("weight", (outputs, inputs, 1, 1, 1))?.squeeze(2)?;
            Ok((norm, Conv2d::new(weight, weights.compute("bias", outputs)?)?))
        };
        let (slot, change) = (self.slots.take(), (inputs != outputs).then(change).transpose()?);
        self.then(Step::Fork(slot));
        self.norm_conv(&weights.pp("conv1"), inputs, outputs, around)?;
        self.norm_conv(&weights.pp("conv2"), outputs, outputs, around)?;
        self.then(Step::Join(Join { slot, change }));
        Ok(())
    }
}
