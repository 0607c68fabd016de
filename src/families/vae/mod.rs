//! What the families' video autoencoders share: overlapping tiles and the blending of their seams, patches of pixels, and
//! the memory of a stream.

pub mod cache;
mod grid;
pub mod patch;
mod spill;

use candle_core::Tensor;

use crate::error::{Error, Result};
pub use grid::Grid;
pub use spill::TileSpill;

/// Refuses what is no mean and deviation of latents: `mean` and `std` are lists of f32, stored in the folder `part` of a model.
///
/// # Errors
/// A value that is not finite, or a deviation that is not above zero.
pub fn check_statistics(part: &str, mean: &Tensor, std: &Tensor) -> Result<()> {
    let all = |values: &Tensor, sound: fn(f32) -> bool| Ok::<_, Error>(values.to_vec1()?.into_iter().all(sound));
    if all(mean, f32::is_finite)? && all(std, |std| std.is_finite() && std > 0.0)? {
        return Ok(());
    }
    Err(Error::failed(format!("`latents_mean` and `latents_std` of the `{part}` are no means and deviations"))
        .hint(format!("the weights are damaged: fetch the folder `{part}` again")))
}
