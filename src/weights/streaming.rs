//! Streaming of weights: matrices stay in their files, and their pages are prefetched and released.

use std::sync::Arc;

use super::{File, Weights};
use crate::error::{Error, Result};

impl Weights {
    /// Leaves every matrix in its file, even those in f32, for a network that does not fit into memory: see
    /// [`Blocks`](crate::nn::blocks::Blocks).
    ///
    /// # Errors
    /// Weights that are in use.
    pub fn streamed(self) -> Result<Self> {
        let mut store = Arc::try_unwrap(self.store).map_err(|_| Error::failed("weights in use cannot be streamed"))?;
        store.streamed = true;
        Ok(Self { store: Arc::new(store), prefix: self.prefix })
    }

    /// Whether matrices stay in their files.
    pub fn is_streamed(&self) -> bool {
        self.store.streamed
    }

    /// Asks the system to read the tensors of this view, without waiting.
    pub fn prefetch(&self) {
        self.each_here(File::prefetch);
    }

    /// Releases the mapped pages of this view. They stay in the system's cache as long as there is room.
    pub fn release(&self) {
        self.each_here(File::release);
    }

    fn each_here(&self, act: impl Fn(&File, &str)) {
        let here = self.key("");
        for file in self.store.files.iter() {
            file.names().filter(|name| name.starts_with(&here)).for_each(|name| act(file, name));
        }
    }
}
