//! Layers shared by all families of models.

pub mod activation;
pub mod attention;
pub mod blocks;
pub mod channel_norm;
pub mod conv;
pub mod conv1d;
pub mod embed;
mod fir;
pub mod linear;
pub mod modulation;
pub mod norm;
pub mod rope;
mod sine;
pub mod snake;

pub use linear::Linear;
