//! Cache of the previous frames that the layers of an autoencoder need.

use candle_core::{Result, Tensor};

/// The cache of one stream: a slot per layer that looks back.
///
/// Layers hold weights only, so one network serves many streams. A slot holds frames with their own memory,
/// never views of larger tensors, which would keep those alive.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    slots: Vec<Option<Vec<Tensor>>>,
}

/// Allocates the slots of a cache while a network loads.
#[derive(Debug, Default)]
pub struct Slots(usize);

impl Slots {
    /// The next free slot.
    pub fn take(&mut self) -> usize {
        self.0 += 1;
        self.0 - 1
    }

    /// An empty cache with all slots taken so far.
    pub fn cache(&self) -> Cache {
        Cache { slots: vec![None; self.0] }
    }
}

impl Cache {
    /// The frames in a slot: `None` before the first frame.
    pub fn slot(&mut self, slot: usize) -> &mut Option<Vec<Tensor>> {
        &mut self.slots[slot]
    }
}

/// Removes the oldest frame from a slot.
///
/// # Errors
/// An empty slot: the network was built wrongly.
pub fn oldest(cache: &mut Cache, slot: usize) -> Result<Tensor> {
    match cache.slot(slot) {
        Some(waiting) if !waiting.is_empty() => Ok(waiting.remove(0)),
        _ => candle_core::bail!("a shortcut of an autoencoder has no frame left"),
    }
}
