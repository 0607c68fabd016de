//! Layers that know no family.

pub mod activation;
pub mod attention;
pub mod channel_norm;
pub mod conv;
pub mod conv1d;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
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

use std::sync::LazyLock;

/// Whether only candle's own operations are wanted: the environment variable `TALKIE_PLAIN` is set to something other than 0. Every
/// way that was written for a kind of device asks here first.
pub(crate) fn plain() -> bool {
    static PLAIN: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("TALKIE_PLAIN").is_some_and(|value| !value.is_empty() && value != "0"));
    *PLAIN
}
