//! Kernels, devices and counted arithmetic.

#[cfg(feature = "cuda")]
mod cuda;
mod flops;
mod kernels;
mod processor;
