//! What was written for CUDA: fused kernels, products with an epilogue, and cuDNN's attention and convolutions.
//!
//! candle's own operations are the plain way, taken where the environment variable `TALKIE_PLAIN` is set, and wherever a type or a
//! shape is none of what these take.

#[cfg(feature = "cudnn")]
pub mod cudnn;
pub(crate) mod kernels;
pub(crate) mod product;
pub(crate) mod upload;

pub use kernels::program;

use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::cuda_backend::{CudaDevice, CudaStorageSlice};
use candle_core::{DType, Device, Result, Shape, Storage, Tensor};

/// Whether a tensor takes the way that was written for CUDA.
pub(crate) fn takes(xs: &Tensor) -> bool {
    let number = matches!(xs.dtype(), DType::F32 | DType::BF16 | DType::F16);
    xs.device().is_cuda() && number && xs.elem_count() > 0 && !super::plain()
}

/// The CUDA device that a tensor is on.
///
/// # Errors
/// A tensor that is on another kind of device.
fn device(xs: &Tensor) -> Result<&CudaDevice> {
    match xs.device() {
        Device::Cuda(device) => Ok(device),
        other => candle_core::bail!("this wants numbers on a CUDA device, and not on {other:?}"),
    }
}

/// The address of a tensor's first number. It is good as long as the tensor is: memory is given back in the order of the stream.
///
/// # Errors
/// A tensor that is not on a CUDA device, and a type that nothing here takes.
fn address(xs: &Tensor) -> Result<u64> {
    let stream = device(xs)?.cuda_stream();
    let (storage, layout) = xs.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else { candle_core::bail!("this wants numbers on a CUDA device") };
    let first = match &storage.slice {
        CudaStorageSlice::U8(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::BF16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0,
        _ => candle_core::bail!("no kernel of talkie's takes numbers of {:?}", xs.dtype()),
    };
    Ok(first + (layout.start_offset() * xs.dtype().size_in_bytes()) as u64)
}

/// A place for numbers that a kernel writes, all of them.
///
/// # Errors
/// Too little memory on the device.
fn place(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    // SAFETY: each kernel here writes every number of its output before anything reads it in the order of the stream.
    #[expect(unsafe_code, reason = "zeros would be a pass over memory for nothing")]
    unsafe {
        Tensor::empty(shape, dtype, device)
    }
}
