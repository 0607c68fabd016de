//! The tiles that an autoencoder works in.

use crate::error::{Error, Result};

/// Frames that are larger than a tile go through an autoencoder in overlapping tiles. Lengths are in pixels.
///
/// A tile sees nothing of its neighbours, so the result is not quite that of the whole frame. Each goes through the whole
/// film before the next begins: what the autoencoder remembers of the frames before is one tile's, and the pixels wait on
/// the disk (see `families::vae::TileSpill`). Wan 2.1's decoder in f32 takes 2.7 GB for 448·448 pixels and 4.9 GB for 832·480 in whole
/// frames, and 1.2 GB for 448·448 in the default tiles, whose overlap makes it work 1.7 times as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tiling {
    /// Height of a tile.
    pub min_height: usize,
    /// Width of a tile.
    pub min_width: usize,
    /// From the top of a tile to the top of the next: what is left of its height is blended.
    pub stride_height: usize,
    /// From the left of a tile to the left of the next.
    pub stride_width: usize,
}

impl Default for Tiling {
    /// diffusers' tiles: 256·256 pixels, 64 of them shared with the next.
    fn default() -> Self {
        Self { min_height: 256, min_width: 256, stride_height: 192, stride_width: 192 }
    }
}

impl Tiling {
    /// Whether these tiles overlap and hold whole latent pixels, of `factor` pixels each.
    ///
    /// # Errors
    /// Tiles that do not, or that are larger than any frame.
    pub fn check(&self, factor: usize) -> Result<()> {
        for (tile, stride) in [(self.min_height, self.stride_height), (self.min_width, self.stride_width)] {
            if stride == 0 || stride > tile || tile > 1 << 20 {
                return Err(Error::usage(format!("tiles of {tile} pixels cannot be {stride} pixels apart"))
                    .hint("use tiles of 256 pixels, 192 apart"));
            }
            if !tile.is_multiple_of(factor) || !stride.is_multiple_of(factor) {
                return Err(Error::usage(format!(
                    "tiles of {tile} pixels, {stride} apart, do not hold whole latent pixels of {factor}"
                ))
                .hint(format!("use multiples of {factor}")));
            }
        }
        Ok(())
    }
}
