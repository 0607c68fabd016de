//! The recipe that a film carries.
