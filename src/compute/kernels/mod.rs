//! Matrix products and element-wise kernels for kinds of CPUs and GPUs.

pub(crate) mod amx;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod plain;
pub(crate) mod product;

pub(crate) use plain::plain;
