//! Shared by the families' video autoencoders: overlapping tiles blended at their seams, patches of pixels
//! (pixel unshuffle), and the cache of a stream.

pub mod cache;
mod grid;
pub mod patch;
mod spill;

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::model::statistics;
pub use grid::Grid;
pub use spill::TileSpill;

/// Checks the latents' means and standard deviations (channels), f32, of a model's folder `part`.
///
/// # Errors
/// As `model::statistics::check_values`.
pub fn check_statistics(part: &str, mean: &Tensor, std: &Tensor) -> Result<()> {
    let values = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.to_vec1::<f64>();
    statistics::check_values(&values(mean)?, &values(std)?, mean.elem_count()).map_err(|why| {
        Error::failed(format!("{why}, in the `{part}`"))
            .hint(format!("the weights are damaged: fetch the folder `{part}` again"))
    })
}
