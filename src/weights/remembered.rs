//! Tensors that stay loaded, so that a network can be made again with other LoRAs without reading its files again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Shape, Tensor};

use super::{Packed, Store, Weights};
use crate::error::Result;

/// Tensors as they came from their files, on the device, by name.
#[derive(Default)]
pub(super) struct Remembered(Mutex<HashMap<String, Loaded>>);

#[derive(Clone)]
enum Loaded {
    Tensor(Tensor),
    Packed(Packed),
}

impl Weights {
    /// Remembers every tensor that is loaded: see [`Weights::bare`]. They are shared with the network that is made of them, but
    /// for those that a LoRA is merged into or that the network converts to another type.
    #[must_use]
    pub fn remembering(&self) -> Self {
        let store = Store { remembered: Some(Arc::default()), ..self.store.bare() };
        Self { store: Arc::new(store), prefix: self.prefix.clone() }
    }

    /// The same files without LoRAs, for a network that is made again. What was remembered is not read again.
    #[must_use]
    pub fn bare(&self) -> Self {
        Self { store: Arc::new(self.store.bare()), prefix: self.prefix.clone() }
    }

    /// A tensor in its stored type, on the device.
    pub(super) fn loaded(&self, key: &str, shape: &Shape) -> Result<Tensor> {
        if let Some(Loaded::Tensor(tensor)) = self.recall(key) {
            return Ok(tensor);
        }
        let tensor = self.file(key)?.load(key, shape, &self.store.device)?;
        self.count(key)?;
        self.remember(key, || Loaded::Tensor(tensor.clone()));
        Ok(tensor)
    }

    /// A matrix as it is stored, on the device.
    pub(super) fn packed(&self, key: &str, shape: (usize, usize), scale: Option<Vec<f32>>) -> Result<Packed> {
        if let Some(Loaded::Packed(packed)) = self.recall(key) {
            return Ok(packed);
        }
        let packed = self.file(key)?.packed(key, shape, scale)?.to_device(&self.store.device)?;
        self.count(key)?;
        self.remember(key, || Loaded::Packed(packed.clone()));
        Ok(packed)
    }

    fn recall(&self, key: &str) -> Option<Loaded> {
        let remembered = self.store.remembered.as_ref()?;
        remembered.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn remember(&self, key: &str, loaded: impl FnOnce() -> Loaded) {
        if let Some(remembered) = &self.store.remembered {
            remembered.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), loaded());
        }
    }
}

impl Store {
    /// The same files, device, type and memory of tensors, without LoRAs or ways of computing.
    fn bare(&self) -> Self {
        Self {
            files: self.files.clone(),
            device: self.device.clone(),
            dtype: self.dtype,
            names: self.names,
            loras: Vec::new(),
            streamed: false,
            eight_bits: false,
            tally: self.tally.clone(),
            remembered: self.remembered.clone(),
            used: Mutex::default(),
        }
    }
}
