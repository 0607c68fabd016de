//! A piece of a mapped file.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Shape, Tensor};
use memmap2::{Advice, Mmap, UncheckedAdvice};

/// Bytes of a file that stays mapped as long as they are needed.
#[derive(Debug, Clone)]
pub(crate) struct Mapped {
    map: Arc<Mmap>,
    range: Range<usize>,
}

impl Mapped {
    /// The bytes of `range`, which is empty where it leaves the file: the header was checked against that.
    pub(super) fn new(map: Arc<Mmap>, range: Range<usize>) -> Self {
        Self { map, range }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.map.get(self.range.clone()).unwrap_or_default()
    }

    /// A tensor of the bytes on a device.
    ///
    /// # Errors
    /// Bytes that are not those of such a tensor.
    pub(super) fn to_device(&self, dtype: DType, shape: &Shape, device: &Device) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let (Device::Cuda(device), false) = (device, crate::compute::kernels::plain()) {
            return crate::compute::kernels::cuda::upload::tensor(self.bytes(), dtype, shape, device);
        }
        Tensor::from_raw_buffer(self.bytes(), dtype, shape.dims(), device)
    }

    /// Asks the system to read the bytes, and does not wait for them.
    pub(super) fn prefetch(&self) {
        // It is advice only: where the system does not take it, the bytes are read when they are used.
        let _ = self.map.advise_range(Advice::WillNeed, self.range.start, self.range.len());
    }

    /// Gives the mapped pages back: otherwise a copy of them and the page cache both count as this process's memory.
    #[expect(unsafe_code, reason = "advice on a mapped file")]
    pub(super) fn release(&self) {
        const PAGE: usize = 4096;
        let (first, last) = (self.range.start.next_multiple_of(PAGE), self.range.end / PAGE * PAGE);
        if last > first {
            // SAFETY: the map is a read-only view of a file; dropped pages are read from it again when they are touched.
            // It is advice only, so a refusal changes nothing but the memory in use.
            let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, first, last - first) };
        }
    }
}
