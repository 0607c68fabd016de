//! CUDA devices: each is opened once, keeps freed memory between steps, and returns it between stages.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{CudaContext, sys};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{Device, Result};

/// The open devices by number: tensors of two handles to the same device would not mix.
static OPEN: Mutex<BTreeMap<usize, CudaDevice>> = Mutex::new(BTreeMap::new());

/// The device of this number.
///
/// # Errors
/// A missing device, or a driver that does not work.
pub(super) fn open(number: usize) -> Result<Device> {
    let mut devices = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = devices.get(&number) {
        return Ok(Device::Cuda(device.clone()));
    }
    let opened = Device::new_cuda(number)?;
    if let Device::Cuda(device) = &opened {
        // SAFETY: a tensor is used on the stream of the thread that made it, or after that thread waited for
        // the device: see `nn::blocks`.
        #[expect(unsafe_code, reason = "two events for each tensor would order streams of which there is one")]
        unsafe {
            device.disable_event_tracking();
        }
        // Without this, the pool returns all free memory at each synchronisation, and allocates it again
        // afterwards.
        set(device, sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)?;
        devices.insert(number, device.clone());
    }
    Ok(opened)
}

/// Returns unused memory to the driver, on all open devices.
pub(super) fn trim() {
    for device in OPEN.lock().unwrap_or_else(PoisonError::into_inner).values() {
        let stream = device.cuda_stream();
        // A failing device is reported by the next operation on it.
        if stream.synchronize().is_ok()
            && let Ok(pool) = pool(stream.context())
        {
            // SAFETY: the pool is the device's own.
            #[expect(unsafe_code, reason = "a call of the driver")]
            let _ = unsafe { sys::cuMemPoolTrimTo(pool, 0) };
        }
    }
}

/// Free bytes of a device, including those that its pool keeps for this process.
///
/// # Errors
/// Those of the driver.
pub(super) fn free(number: usize) -> Result<u64> {
    open(number)?;
    trim();
    let devices = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(device) = devices.get(&number) else { candle_core::bail!("the device is not open") };
    Ok(device.cuda_stream().context().mem_get_info().w()?.0 as u64)
}

/// Peak bytes of tensors on any device since [`reset_peak`]; `None` if no device is open.
pub(super) fn peak_bytes() -> Option<u64> {
    let devices = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    devices
        .values()
        .filter_map(|device| get(device, sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH).ok())
        .max()
}

/// Resets the peak counter.
pub(super) fn reset_peak() {
    for device in OPEN.lock().unwrap_or_else(PoisonError::into_inner).values() {
        // Zero is the only value that the driver takes. If it fails, the peak is that of the whole run.
        let _ = set(device, sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0);
    }
}

/// The memory pool of a device.
fn pool(context: &CudaContext) -> Result<sys::CUmemoryPool> {
    context.bind_to_thread().w()?;
    let mut pool = std::ptr::null_mut();
    // SAFETY: the driver writes one handle.
    #[expect(unsafe_code, reason = "a call of the driver")]
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&raw mut pool, context.cu_device()).result().w()?;
    }
    Ok(pool)
}

fn set(device: &CudaDevice, attribute: sys::CUmemPool_attribute, mut value: u64) -> Result<()> {
    let pool = pool(device.cuda_stream().context())?;
    // SAFETY: this attribute is a number of 64 bits.
    #[expect(unsafe_code, reason = "a call of the driver")]
    unsafe {
        sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut value).cast()).result().w()?;
    }
    Ok(())
}

fn get(device: &CudaDevice, attribute: sys::CUmemPool_attribute) -> Result<u64> {
    let pool = pool(device.cuda_stream().context())?;
    let mut value = 0u64;
    // SAFETY: this attribute is a number of 64 bits.
    #[expect(unsafe_code, reason = "a call of the driver")]
    unsafe {
        sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast()).result().w()?;
    }
    Ok(value)
}
