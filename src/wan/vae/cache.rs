//! What the layers of an autoencoder remember of the frames that went by.

use candle_core::{Result, Tensor};

use crate::nn::conv::CausalConv3d;
use crate::weights::Weights;

/// The memory of one stream: a slot for every layer that looks back.
///
/// The layers themselves hold weights only, so one network serves many streams. A slot holds whole frames and no views of
/// larger tensors, so that what it keeps alive is what it needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Cache {
    slots: Vec<Option<Vec<Tensor>>>,
}

/// Hands out the slots of a cache, one to each layer that asks, while a network loads.
#[derive(Debug, Default)]
pub(super) struct Slots(usize);

impl Slots {
    /// The next free slot.
    pub(super) fn take(&mut self) -> usize {
        self.0 += 1;
        self.0 - 1
    }

    /// An empty cache with all the slots that were taken.
    pub(super) fn cache(&self) -> Cache {
        Cache { slots: vec![None; self.0] }
    }
}

impl Cache {
    /// What the layer of this slot left there: `None` before its first frame.
    pub(super) fn slot(&mut self, slot: usize) -> &mut Option<Vec<Tensor>> {
        &mut self.slots[slot]
    }
}

/// A causal convolution with its place in the cache: it takes a frame at a time, and remembers as many as it looks back.
#[derive(Debug)]
pub(super) struct StreamedConv {
    conv: CausalConv3d,
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
    ) -> crate::Result<Self> {
        Ok(Self { conv: CausalConv3d::load(weights, inputs, outputs, kernel)?, slot: slots.take() })
    }

    /// Whether no frame has come by, nor a mark been left with [`StreamedConv::begin`].
    pub(super) fn is_new(&self, cache: &mut Cache) -> bool {
        cache.slot(self.slot).is_none()
    }

    /// Marks the stream as begun, with `frames` to look back on.
    pub(super) fn begin(&self, cache: &mut Cache, frames: Vec<Tensor>) {
        *cache.slot(self.slot) = Some(frames);
    }

    /// The output frame that belongs to this input frame.
    ///
    /// # Shapes
    /// - `frame`: (1, in, h, w)
    /// - output: (1, out, h, w)
    ///
    /// # Errors
    /// Those of candle.
    pub(super) fn forward(&self, frame: Tensor, cache: &mut Cache) -> Result<Tensor> {
        let window = cache.slot(self.slot).get_or_insert_default();
        window.push(frame);
        let ys = self.conv.forward(window);
        if window.len() == self.conv.frames() {
            window.remove(0);
        }
        ys
    }

    /// As [`StreamedConv::forward`], for a convolution that moves by two frames in time: an output frame for every second
    /// input frame, once the window is full.
    ///
    /// # Errors
    /// Those of candle.
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
