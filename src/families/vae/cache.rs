//! What the layers of an autoencoder remember of the frames that went by.

use candle_core::{Result, Tensor};

/// The memory of one stream: a slot for every layer that looks back.
///
/// The layers themselves hold weights only, so one network serves many streams. A slot holds whole frames and no views of
/// larger tensors, so that what it keeps alive is what it needs.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    slots: Vec<Option<Vec<Tensor>>>,
}

/// Hands out the slots of a cache, one to each layer that asks, while a network loads.
#[derive(Debug, Default)]
pub struct Slots(usize);

impl Slots {
    /// The next free slot.
    pub fn take(&mut self) -> usize {
        self.0 += 1;
        self.0 - 1
    }

    /// An empty cache with all the slots that were taken.
    pub fn cache(&self) -> Cache {
        Cache { slots: vec![None; self.0] }
    }
}

impl Cache {
    /// What the layer of this slot left there: `None` before its first frame.
    pub fn slot(&mut self, slot: usize) -> &mut Option<Vec<Tensor>> {
        &mut self.slots[slot]
    }
}

/// The frame that has waited longest in a slot.
///
/// # Errors
/// There is none: the network is put together wrongly.
pub fn oldest(cache: &mut Cache, slot: usize) -> Result<Tensor> {
    match cache.slot(slot) {
        Some(waiting) if !waiting.is_empty() => Ok(waiting.remove(0)),
        _ => candle_core::bail!("a shortcut of an autoencoder has run dry"),
    }
}
