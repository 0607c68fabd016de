//! Layers that know no family.

pub mod activation;
pub mod attention;
pub mod channel_norm;
pub mod conv;
pub mod embed;
pub mod linear;
pub mod modulation;
pub mod norm;
pub mod rope;

pub use linear::Linear;
