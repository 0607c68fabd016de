//! Layers that know no family.

mod blocks;
pub mod layers;
mod sound;
