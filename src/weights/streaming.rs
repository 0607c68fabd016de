//! Weights that stay in their files: which of their pages are in memory.

use std::sync::Arc;

use super::{File, Weights};
use crate::error::{Error, Result};

impl Weights {
    /// Leaves every matrix in its file, also one in f32 that would otherwise be copied, for a network that does not fit into
    /// memory: see [`Blocks`](crate::nn::blocks::Blocks).
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

    /// Asks the system to read what lies under this view, without waiting for it.
    pub fn prefetch(&self) {
        self.each_here(File::prefetch);
    }

    /// Gives back the pages of what lies under this view. They stay in the system's cache as long as there is room, and are
    /// read again where they are used again.
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
