//! Latents as a sequence of tokens (patchify), and back.

use candle_core::{Result, Tensor};

/// One token per latent place: frames first, then rows, then columns.
///
/// # Shapes
/// - `latents`: (1, c, t, h, w)
/// - output: (1, t·h·w, c)
///
/// # Errors
/// Another number of dimensions.
pub fn video_tokens(latents: &Tensor) -> Result<Tensor> {
    latents.dims5()?;
    latents.flatten_from(2)?.transpose(1, 2)?.contiguous()
}

/// The inverse of [`video_tokens`].
///
/// # Shapes
/// - `tokens`: (1, t·h·w, c)
/// - `grid`: t, h and w
/// - output: (1, c, t, h, w)
///
/// # Errors
/// Another number of tokens than the grid has places.
pub fn video_latents(tokens: &Tensor, grid: [usize; 3]) -> Result<Tensor> {
    let (b, _, c) = tokens.dims3()?;
    let [t, h, w] = grid;
    tokens.transpose(1, 2)?.contiguous()?.reshape((b, c, t, h, w))
}

/// One token per latent audio frame, with all its channels and mel bins.
///
/// # Shapes
/// - `latents`: (1, c, t, mel)
/// - output: (1, t, c·mel)
///
/// # Errors
/// Another number of dimensions.
pub fn audio_tokens(latents: &Tensor) -> Result<Tensor> {
    latents.dims4()?;
    latents.transpose(1, 2)?.contiguous()?.flatten_from(2)
}

/// The inverse of [`audio_tokens`].
///
/// # Shapes
/// - `tokens`: (1, t, c·mel)
/// - output: (1, c, t, mel)
///
/// # Errors
/// Tokens whose channels do not divide by `mel`.
pub fn audio_latents(tokens: &Tensor, mel: usize) -> Result<Tensor> {
    let (b, t, channels) = tokens.dims3()?;
    if mel == 0 || channels % mel != 0 {
        candle_core::bail!("{channels} audio channels do not divide into {mel} mel bins");
    }
    tokens.reshape((b, t, channels / mel, mel))?.transpose(1, 2)?.contiguous()
}
