//! Builders of a [`Network`]: convolutions, residual blocks and the steps between levels, with their weights.

use super::config::{Scaling, UpLevel};
use super::layers::{Conv, Fold, Join, KERNEL, Unfold};
use super::network::{Network, Step};
use crate::error::Result;
use crate::nn::channel_norm::ChannelNorm;
use crate::nn::conv::{Conv2d, Conv3d};
use crate::nn::norm::LayerNorm;
use crate::weights::Weights;

/// Epsilon of the norms before convolutions: the default of `PerChannelRMSNorm`, which no configuration
/// changes.
/// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/autoencoders/autoencoder_kl_ltx2.py#L40>
const PIXEL_EPS: f64 = 1e-8;

impl Network {
    /// Adds the convolution `conv` of `weights`.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn conv(&mut self, weights: &Weights, inputs: usize, outputs: usize) -> Result<()> {
        let conv = self.load_conv(weights, None, inputs, outputs)?;
        self.then(conv);
        Ok(())
    }

    /// Adds a norm, SiLU, and the convolution `conv` of `weights`.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn norm_conv(&mut self, weights: &Weights, inputs: usize, outputs: usize) -> Result<()> {
        let norm = ChannelNorm::pixel(inputs, PIXEL_EPS, weights.device())?;
        let conv = self.load_conv(weights, Some(norm), inputs, outputs)?;
        self.then(conv);
        Ok(())
    }

    fn load_conv(
        &mut self,
        weights: &Weights,
        norm: Option<ChannelNorm>,
        inputs: usize,
        outputs: usize,
    ) -> Result<Step> {
        let conv = Conv3d::load(&weights.pp("conv"), inputs, outputs, [KERNEL; 3])?.edges(self.padding.edges);
        Ok(Step::Conv(Conv { norm, conv, causal: self.padding.causal, slot: self.slots.take() }))
    }

    /// Adds `count` residual blocks of `dim` channels: `resnets.0`, `resnets.1`, …
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn resnets(&mut self, weights: &Weights, count: usize, dim: usize) -> Result<()> {
        (0..count).try_for_each(|i| self.resnet(&weights.pp("resnets").pp(i), dim, dim, 0.0))
    }

    /// Adds a residual block (He et al., 2016): twice norm, SiLU and convolution, added to the input. `eps`
    /// is that of the norm in its shortcut, if the number of channels changes.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn resnet(&mut self, weights: &Weights, inputs: usize, outputs: usize, eps: f64) -> Result<()> {
        let change = || -> Result<_> {
            let norm = LayerNorm::load(&weights.pp("norm3"), inputs, eps)?;
            let weights = weights.pp("conv_shortcut");
            let weight = weights.compute("weight", (outputs, inputs, 1, 1, 1))?.squeeze(2)?;
            Ok((norm, Conv2d::new(weight, weights.compute("bias", outputs)?)?))
        };
        let (slot, change) = (self.slots.take(), (inputs != outputs).then(change).transpose()?);
        self.then(Step::Fork(slot));
        self.norm_conv(&weights.pp("conv1"), inputs, outputs)?;
        self.norm_conv(&weights.pp("conv2"), outputs, outputs)?;
        self.then(Step::Join(Join { slot, change }));
        Ok(())
    }

    /// Adds the step down from `inputs` to `outputs` channels.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn down(&mut self, weights: &Weights, scaling: Scaling, inputs: usize, outputs: usize) -> Result<()> {
        let (input, waiting) = (self.slots.take(), self.slots.take());
        if scaling.time() == 2 {
            let slot = self.slots.take();
            self.then(Step::Twice(slot));
        }
        self.then(Step::Fork(input));
        self.conv(&weights.pp("conv"), inputs, outputs / scaling.volume())?;
        self.then(Step::Fold(Fold { scaling, outputs, input, waiting }));
        Ok(())
    }

    /// Adds the step up by `scaling` at the beginning of a level.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn up(&mut self, weights: &Weights, scaling: Scaling, level: &UpLevel) -> Result<()> {
        let outputs = level.outputs;
        let (begun, input) = (self.slots.take(), level.shortcut.then(|| self.slots.take()));
        if let Some(input) = input {
            self.then(Step::Fork(input));
        }
        self.conv(&weights.pp("conv"), outputs * level.factor, outputs * scaling.volume())?;
        self.then(Step::Unfold(Unfold { scaling, outputs, input, begun }));
        Ok(())
    }
}
