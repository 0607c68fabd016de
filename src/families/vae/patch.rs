//! Patches of pixels as channels (pixel unshuffle): 2·2 pixels in Wan 2.2, 4·4 in LTX-2.

use candle_core::{Result, Tensor};

/// Moves the pixels of every `patch`·`patch` square into the channels, column by column.
///
/// # Shapes
/// - `xs`: (1, c, h, w), where `patch` divides h and w
/// - output: (1, c·patch², h / patch, w / patch)
pub fn patchify(xs: &Tensor, patch: usize) -> Result<Tensor> {
    if patch == 1 {
        return Ok(xs.clone());
    }
    let (_, c, h, w) = xs.dims4()?;
    let (h, w) = (h / patch, w / patch);
    xs.reshape((c, h, patch, w, patch))?.permute((0, 4, 2, 1, 3))?.reshape((1, c * patch * patch, h, w))
}

/// The inverse of [`patchify`], for several frames.
///
/// # Shapes
/// - `xs`: (1, c·patch², t, h, w)
/// - output: (1, c, t, h·patch, w·patch)
pub fn unpatchify(xs: &Tensor, patch: usize) -> Result<Tensor> {
    if patch == 1 {
        return Ok(xs.clone());
    }
    let (_, channels, t, h, w) = xs.dims5()?;
    let c = channels / (patch * patch);
    let xs = xs.reshape((c, patch, patch, t, h, w))?.permute((0, 3, 4, 2, 5, 1))?;
    xs.reshape((1, c, t, h * patch, w * patch))
}
