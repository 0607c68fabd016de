//! CUDA: fused kernels, products with an epilogue, and cuDNN's attention and convolutions.
//!
//! candle's operations remain for other types and shapes, and with `TALKIE_PLAIN`.

#[cfg(feature = "cudnn")]
pub mod cudnn;
pub(crate) mod kernels;
pub(crate) mod product;
pub(crate) mod upload;

pub use kernels::program;

use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::cuda_backend::{CudaDevice, CudaStorageSlice};
use candle_core::{DType, Device, Result, Shape, Storage, Tensor};

/// Whether the CUDA kernels take a tensor.
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
        other => candle_core::bail!("a CUDA kernel takes tensors on a CUDA device, not on {other:?}"),
    }
}

/// The address of a tensor's first value. It is valid as long as the tensor: memory is freed in the order of
/// the stream.
///
/// # Errors
/// A tensor that is not on a CUDA device, or a type that no kernel takes.
fn address(xs: &Tensor) -> Result<u64> {
    let stream = device(xs)?.cuda_stream();
    let (storage, layout) = xs.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        candle_core::bail!("a CUDA kernel takes tensors on a CUDA device only")
    };
    let first = match &storage.slice {
        CudaStorageSlice::U8(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::BF16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0,
        _ => candle_core::bail!("no CUDA kernel of talkie takes {:?}", xs.dtype()),
    };
    Ok(first + (layout.start_offset() * xs.dtype().size_in_bytes()) as u64)
}

/// An uninitialised tensor of which a kernel writes every value.
///
/// # Errors
/// Too little memory on the device.
fn place(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    // SAFETY: each kernel here writes every value of its output before anything reads it in the order of the
    // stream.
    #[expect(unsafe_code, reason = "zeros would be a pass over memory for nothing")]
    unsafe {
        Tensor::empty(shape, dtype, device)
    }
}
