//! A range of a mapped file.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Shape, Tensor};
use memmap2::{Advice, Mmap, UncheckedAdvice};

/// Bytes of a file, which stays mapped as long as this lives.
#[derive(Debug, Clone)]
pub(crate) struct Mapped {
    map: Arc<Mmap>,
    range: Range<usize>,
}

impl Mapped {
    /// The bytes of `range`; none if it exceeds the file, which the header's check rules out.
    pub(super) fn new(map: Arc<Mmap>, range: Range<usize>) -> Self {
        Self { map, range }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.map.get(self.range.clone()).unwrap_or_default()
    }

    /// Copies the bytes to a device as a tensor.
    ///
    /// # Errors
    /// Bytes that do not fit the shape.
    pub(super) fn to_device(&self, dtype: DType, shape: &Shape, device: &Device) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let (Device::Cuda(device), false) = (device, crate::compute::kernels::plain()) {
            return crate::compute::kernels::cuda::upload::tensor(self.bytes(), dtype, shape, device);
        }
        Tensor::from_raw_buffer(self.bytes(), dtype, shape.dims(), device)
    }

    /// Asks the system to read the bytes, without waiting.
    pub(super) fn prefetch(&self) {
        // Advice only: without it the bytes are read in use.
        let _ = self.map.advise_range(Advice::WillNeed, self.range.start, self.range.len());
    }

    /// Releases the mapped pages: otherwise a copy of them and the page cache both count as this process's
    /// memory.
    #[expect(unsafe_code, reason = "advice on a mapped file")]
    pub(super) fn release(&self) {
        const PAGE: usize = 4096;
        let (first, last) = (self.range.start.next_multiple_of(PAGE), self.range.end / PAGE * PAGE);
        if last > first {
            // SAFETY: the map is a read-only view of a file; dropped pages are read from it again when they
            // are touched. Advice only, so a refusal changes only the memory in use.
            let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, first, last - first) };
        }
    }
}
