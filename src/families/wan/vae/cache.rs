//! Causal convolutions that cache previous frames.

use candle_core::{Result, Tensor};

use crate::families::vae::cache::{Cache, Slots};
use crate::nn::conv::Conv3d;
use crate::weights::Weights;

/// A causal convolution and its cache slot: it processes one frame at a time and caches the frames that it
/// looks back to.
#[derive(Debug)]
pub(super) struct StreamedConv {
    conv: Conv3d,
    slot: usize,
}

impl StreamedConv {
    /// Loads the convolution, with `kernel` (frames, rows, columns), and takes a slot for it.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn load(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        kernel: [usize; 3],
        slots: &mut Slots,
    ) -> crate::error::Result<Self> {
        Ok(Self { conv: Conv3d::load(weights, inputs, outputs, kernel)?, slot: slots.take() })
    }

    /// Whether the slot is empty: no frame yet, nor a call of [`StreamedConv::begin`].
    pub(super) fn is_new(&self, cache: &mut Cache) -> bool {
        cache.slot(self.slot).is_none()
    }

    /// Starts the stream with `frames` in the cache.
    pub(super) fn begin(&self, cache: &mut Cache, frames: Vec<Tensor>) {
        *cache.slot(self.slot) = Some(frames);
    }

    /// The output frame for an input frame.
    ///
    /// # Shapes
    /// - `frame`: (1, in, h, w)
    /// - output: (1, out, h, w)
    pub(super) fn forward(&self, frame: Tensor, cache: &mut Cache) -> Result<Tensor> {
        let window = cache.slot(self.slot).get_or_insert_default();
        window.push(frame);
        let ys = self.conv.forward(window);
        if window.len() == self.conv.frames() {
            window.remove(0);
        }
        ys
    }

    /// As [`StreamedConv::forward`], with stride 2 in time: one output frame per two input frames, once the
    /// window is full.
    pub(super) fn forward_halving(&self, frame: Tensor, cache: &mut Cache) -> Result<Option<Tensor>> {
        let window = cache.slot(self.slot).get_or_insert_default();
        window.push(frame);
        if window.len() < self.conv.frames() {
            return Ok(None);
        }
        let ys = self.conv.forward(window);
        window.drain(..2);
        ys.map(Some)
    }
}
