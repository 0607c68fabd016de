//! The switch `TALKIE_PLAIN`: candle's operations instead of talkie's kernels.

use std::sync::LazyLock;

/// Whether to use candle's operations only: the environment variable `TALKIE_PLAIN` is set, and not to 0.
/// Every kernel of talkie asks here first.
pub(crate) fn plain() -> bool {
    static PLAIN: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("TALKIE_PLAIN").is_some_and(|value| !value.is_empty() && value != "0"));
    *PLAIN
}
