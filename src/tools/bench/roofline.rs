//! The ceiling: how fast this machine multiplies two large matrices, in the type that a film is computed in.

use std::time::Instant;

use candle_core::Tensor;

use crate::error::Result;
use crate::families::family::Compute;

/// Products, of which the fastest counts.
const TIMES: usize = 3;

/// Rows and columns of the matrices: so many that a product is work enough, and few enough that it is over soon.
pub(super) fn side(compute: &Compute) -> usize {
    if compute.device.is_cpu() { 2048 } else { 8192 }
}

/// Operations a second.
pub(super) fn measure(compute: &Compute) -> Result<f64> {
    let side = side(compute);
    // Of numbers, not of zeros: those cost some machines less.
    let matrix = || Tensor::rand(-1f32, 1f32, (side, side), &compute.device)?.to_dtype(compute.dtype);
    let (a, b) = (matrix()?, matrix()?);
    let mut best = f64::INFINITY;
    for _ in 0..TIMES {
        compute.device.synchronize()?;
        let start = Instant::now();
        let product = a.matmul(&b)?;
        compute.device.synchronize()?;
        best = best.min(start.elapsed().as_secs_f64());
        drop(product);
    }
    Ok(crate::compute::flops::linear(side, side, side) / best)
}
