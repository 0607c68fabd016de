//! Products and element-wise work written for a kind of processor or card.

pub(crate) mod amx;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod plain;
pub(crate) mod product;

pub(crate) use plain::plain;
