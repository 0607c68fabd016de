//! What computes: devices, kernels, and how much arithmetic there is.

pub mod device;
pub mod flops;
pub(crate) mod kernels;
