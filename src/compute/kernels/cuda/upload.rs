//! Upload of a mapped file to a device through two pinned buffers: all cores fill one while the other is
//! transferred. From pageable memory, a driver would first copy with one core.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{CudaEvent, PinnedHostSlice, result};
use candle_core::cuda_backend::{CudaDevice, DeviceId, WrapErr};
use candle_core::{DType, Device, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{address, place};

/// Bytes of a buffer: enough that a transfer takes much longer than its launch.
const BUFFER: usize = 32 << 20;
/// Bytes that a core copies at a time.
const GRAIN: usize = 1 << 20;

/// A pinned buffer, and the event of its last transfer.
struct Lane {
    buffer: PinnedHostSlice<u8>,
    sent: CudaEvent,
}

impl Lane {
    fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        // SAFETY: it is written before it is read.
        #[expect(unsafe_code, reason = "zeros would be a pass over memory for nothing")]
        let buffer = unsafe { stream.context().alloc_pinned::<u8>(BUFFER).w()? };
        Ok(Self { buffer, sent: stream.context().new_event(None).w()? })
    }

    /// Sends at most a buffer's bytes to an address, in the order of the stream.
    fn send(&mut self, bytes: &[u8], to: u64, device: &CudaDevice) -> Result<()> {
        self.sent.synchronize().w()?;
        let buffer = &mut self.buffer.as_mut_slice().w()?[..bytes.len()];
        buffer.par_chunks_mut(GRAIN).zip(bytes.par_chunks(GRAIN)).for_each(|(to, from)| to.copy_from_slice(from));
        let stream = device.cuda_stream();
        // SAFETY: the tensor at this address has room for the bytes, and the buffer is not written again
        // before they were sent.
        #[expect(unsafe_code, reason = "a call of the driver")]
        unsafe {
            result::memcpy_htod_async(to, buffer, stream.cu_stream()).w()?;
        }
        self.sent.record(&stream).w()
    }
}

/// A tensor on a CUDA device from bytes in memory.
///
/// # Errors
/// Bytes that are not those of such a tensor, too little memory, and those of the driver.
pub(crate) fn tensor(bytes: &[u8], dtype: DType, shape: impl Into<Shape>, device: &CudaDevice) -> Result<Tensor> {
    static LANES: Mutex<Option<HashMap<DeviceId, [Lane; 2]>>> = Mutex::new(None);
    let shape = shape.into();
    if shape.elem_count() * dtype.size_in_bytes() != bytes.len() {
        candle_core::bail!("{} bytes are not a tensor of {shape:?} in {dtype:?}", bytes.len());
    }
    let made = place(shape, dtype, &Device::Cuda(device.clone()))?;
    let start = address(&made)?;
    let mut lanes = LANES.lock().unwrap_or_else(PoisonError::into_inner);
    let lanes = match lanes.get_or_insert_default().entry(device.id()) {
        Entry::Occupied(lanes) => lanes.into_mut(),
        Entry::Vacant(place) => place.insert([Lane::new(device)?, Lane::new(device)?]),
    };
    for (index, part) in bytes.chunks(BUFFER).enumerate() {
        lanes[index % 2].send(part, start + (index * BUFFER) as u64, device)?;
    }
    Ok(made)
}
