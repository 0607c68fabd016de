//! Devices, kernels and FLOP counts.

pub mod device;
pub mod flops;
pub(crate) mod kernels;
