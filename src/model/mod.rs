//! A model on disk: what its folder holds.
