//! What only the command uses.

pub mod bench;
pub mod quantize;
