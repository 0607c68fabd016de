//! What only the command uses.

mod quantize;
