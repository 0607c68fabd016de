//! Layers that know no family.

pub mod activation;
pub mod attention;
pub mod channel_norm;
pub mod conv;
pub mod conv1d;
pub(crate) mod cpu;
pub mod embed;
mod fir;
pub mod linear;
pub mod modulation;
pub mod norm;
pub(crate) mod product;
pub mod rope;
mod sine;
pub mod snake;
pub(crate) mod tiles;

pub use linear::Linear;
