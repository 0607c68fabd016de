//! Each family against its reference.

mod ltx;
pub mod text;
mod wan;
