//! Errors and panics of the tokenizers crate as errors of ours.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::error::Error;

/// Turns a panic inside the tokenizers crate into an error: its tables come from a file, and it trusts them.
pub(super) fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("its tables contradict each other".into()))
}

/// The error for a tokenizer file that cannot be read.
pub(super) fn broken(path: &Path, cause: tokenizers::Error) -> Error {
    Error::failed(format!("this is not a tokenizer that talkie can read: {}", path.display()))
        .because(cause)
        .hint("fetch the file again: a download that broke off is the usual reason")
}
