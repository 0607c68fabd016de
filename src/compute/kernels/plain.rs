//! Whether only candle's own operations are wanted.

use std::sync::LazyLock;

/// Whether only candle's own operations are wanted: the environment variable `TALKIE_PLAIN` is set to something other than 0. Every
/// way that was written for a kind of device asks here first.
pub(crate) fn plain() -> bool {
    static PLAIN: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("TALKIE_PLAIN").is_some_and(|value| !value.is_empty() && value != "0"));
    *PLAIN
}
