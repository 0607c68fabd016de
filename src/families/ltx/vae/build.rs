//! Puts networks together: adds convolutions, residual blocks and the steps between levels, with their weights.

use super::config::{Scaling, Surroundings};
use super::layers::{Conv, Fold, Join, KERNEL, Unfold};
use super::network::{Network, Step};
use crate::error::Result;
use crate::nn::channel_norm::ChannelNorm;
use crate::nn::conv::{Conv2d, Conv3d};
use crate::nn::norm::LayerNorm;
use crate::weights::Weights;

/// The epsilon of the norms before convolutions: the default of the reference's `PerChannelRMSNorm`, which no
/// configuration changes.
const PIXEL_EPS: f64 = 1e-8;

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
    ) -> Result<()> {
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
    ) -> Result<()> {
        let norm = ChannelNorm::pixel(inputs, PIXEL_EPS, weights.device())?;
        self.push_conv(weights, Some(norm), (inputs, outputs), around)
    }

    fn push_conv(
        &mut self,
        weights: &Weights,
        norm: Option<ChannelNorm>,
        (inputs, outputs): (usize, usize),
        around: Surroundings,
    ) -> Result<()> {
        let conv = Conv3d::load(&weights.pp("conv"), inputs, outputs, [KERNEL; 3])?.edges(around.edges);
        let slot = self.slots.take();
        self.then(Step::Conv(Conv { norm, conv, causal: around.causal, slot }));
        Ok(())
    }

    /// Adds `count` residual blocks of `dim` channels, the tensors of which are in `resnets.0`, `resnets.1`, …
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn resnets(&mut self, weights: &Weights, count: usize, dim: usize, around: Surroundings) -> Result<()> {
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
    ) -> Result<()> {
        let (inputs, outputs) = dims;
        let change = || -> Result<_> {
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

    /// Adds the step down from `inputs` to `outputs` channels.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn down(
        &mut self,
        weights: &Weights,
        scaling: Scaling,
        (inputs, outputs): (usize, usize),
        around: Surroundings,
    ) -> Result<()> {
        let (input, waiting) = (self.slots.take(), self.slots.take());
        if scaling.time() == 2 {
            let slot = self.slots.take();
            self.then(Step::Twice(slot));
        }
        self.then(Step::Fork(input));
        self.conv(&weights.pp("conv"), inputs, outputs / scaling.volume(), around)?;
        self.then(Step::Fold(Fold { scaling, outputs, input, waiting }));
        Ok(())
    }

    /// Adds the step up from `inputs` to `outputs` channels, with or without a shortcut.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn up(
        &mut self,
        weights: &Weights,
        (scaling, shortcut): (Scaling, bool),
        (inputs, outputs): (usize, usize),
        around: Surroundings,
    ) -> Result<()> {
        let (begun, input) = (self.slots.take(), shortcut.then(|| self.slots.take()));
        if let Some(input) = input {
            self.then(Step::Fork(input));
        }
        self.conv(&weights.pp("conv"), inputs, outputs * scaling.volume(), around)?;
        self.then(Step::Unfold(Unfold { scaling, outputs, input, begun }));
        Ok(())
    }
}
