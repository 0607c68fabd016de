//! Layers of the encoder and the decoder: convolutions, shortcuts, and space-to-depth and depth-to-space steps.
//!
//! A step between levels moves values between the channels and the rows and columns, the frames, or both. Its
//! shortcut does the same, averaging channels on the way down and repeating them on the way up.

use candle_core::{Result, Tensor};
use candle_nn::ops::{pixel_shuffle, pixel_unshuffle};

use super::config::Scaling;
use crate::families::vae::cache::{Cache, oldest};
use crate::nn::channel_norm::ChannelNorm;
use crate::nn::conv::{Conv2d, Conv3d};
use crate::nn::norm::LayerNorm;

/// Kernel of every convolution: frames, rows and columns.
pub(super) const KERNEL: usize = 3;

/// A convolution over frames, rows and columns; with `norm`, after a per-pixel RMS norm and SiLU. Padding in
/// time repeats the first and the last frame.
/// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/autoencoders/autoencoder_kl_ltx2.py#L97-L109>
#[derive(Debug)]
pub(super) struct Conv {
    pub(super) norm: Option<ChannelNorm>,
    pub(super) conv: Conv3d,
    pub(super) causal: bool,
    pub(super) slot: usize,
}

impl Conv {
    /// The output frame that one more input frame completes.
    ///
    /// # Shapes
    /// - `frame`: (1, in, h, w)
    /// - output: (1, out, h, w), or nothing yet
    pub(super) fn push(&self, frame: Tensor, cache: &mut Cache) -> Result<Option<Tensor>> {
        let frame = match &self.norm {
            Some(norm) => norm.forward_silu(&frame)?,
            None => frame,
        };
        let before = if self.causal { KERNEL - 1 } else { KERNEL / 2 };
        let window = cache.slot(self.slot).get_or_insert_with(|| vec![frame.clone(); before]);
        window.push(frame);
        if window.len() < KERNEL {
            return Ok(None);
        }
        let ys = self.conv.forward(window)?;
        window.remove(0);
        Ok(Some(ys))
    }

    /// The last output frame, if it is still to come.
    pub(super) fn finish(&self, cache: &mut Cache) -> Result<Option<Tensor>> {
        let Some(mut window) = cache.slot(self.slot).take() else { return Ok(None) };
        match window.last().cloned() {
            Some(last) if !self.causal => {
                window.push(last);
                self.conv.forward(&window).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// The end of a shortcut: adds the oldest stored frame.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) slot: usize,
    /// Norm over the channels and 1·1 convolution, if the block changes the number of channels.
    pub(super) change: Option<(LayerNorm, Conv2d)>,
}

impl Join {
    /// # Shapes
    /// - `frame`: (1, outputs, h, w)
    /// - output: the same
    pub(super) fn push(&self, frame: Tensor, cache: &mut Cache) -> Result<Tensor> {
        let input = oldest(cache, self.slot)?;
        let Some((norm, conv)) = &self.change else { return frame + input };
        let last = norm.forward(&input.permute((0, 2, 3, 1))?)?;
        frame + conv.forward(&last.permute((0, 3, 1, 2))?.to_dtype(input.dtype())?)?
    }
}

/// Step down (space-to-depth): moves frames, rows and columns into the channels, and adds the averaged
/// shortcut.
/// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/autoencoders/autoencoder_kl_ltx2.py#L263-L284>
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) scaling: Scaling,
    pub(super) outputs: usize,
    /// Slot of the shortcut's frames.
    pub(super) input: usize,
    /// Slot of the frames that wait for their partner in time.
    pub(super) waiting: usize,
}

impl Fold {
    /// # Shapes
    /// - `frame`: (1, outputs / volume, h, w)
    /// - output: (1, outputs, h / space, w / space), or nothing yet
    ///
    /// # Errors
    /// Rows or columns that cannot be halved.
    pub(super) fn push(&self, frame: &Tensor, cache: &mut Cache) -> Result<Option<Tensor>> {
        let time = self.scaling.time();
        let waiting = cache.slot(self.waiting).get_or_insert_default();
        waiting.push(frame.clone());
        if waiting.len() < time {
            return Ok(None);
        }
        let frames = std::mem::take(waiting);
        let inputs = (0..time).map(|_| oldest(cache, self.input)).collect::<Result<Vec<_>>>()?;
        let (ys, shortcut) = (fold(&frames, self.scaling.space())?, fold(&inputs, self.scaling.space())?);
        let (_, _, h, w) = ys.dims4()?;
        let shortcut = shortcut.reshape((self.outputs, (), h * w))?.mean(1)?.reshape((1, self.outputs, h, w))?;
        (ys + shortcut).map(Some)
    }
}

/// Frames (1, c, h, w) as one of (1, c·frames·space², h / space, w / space).
fn fold(frames: &[Tensor], space: usize) -> Result<Tensor> {
    let (_, channels, h, w) = frames[0].dims4()?;
    let (h, w) = (h / space, w / space);
    let parts = frames.iter().map(|frame| pixel_unshuffle(frame, space)?.reshape((channels, (), h * w)));
    Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 1)?.reshape((1, (), h, w))
}

/// Step up (depth-to-space): moves channels into frames, rows and columns, and adds the repeated shortcut. Of
/// the first frame's output, only the last frame is kept.
/// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/autoencoders/autoencoder_kl_ltx2.py#L315-L337>
#[derive(Debug)]
pub(super) struct Unfold {
    pub(super) scaling: Scaling,
    pub(super) outputs: usize,
    /// Slot of the shortcut's frames, if there is a shortcut.
    pub(super) input: Option<usize>,
    /// Slot that marks that the first frame has passed.
    pub(super) begun: usize,
}

impl Unfold {
    /// # Shapes
    /// - `frame`: (1, outputs·volume, h, w)
    /// - output: one or two frames of (1, outputs, h·space, w·space)
    pub(super) fn push(&self, frame: &Tensor, cache: &mut Cache) -> Result<Vec<Tensor>> {
        let (time, space) = (self.scaling.time(), self.scaling.space());
        let first = cache.slot(self.begun).replace(Vec::new()).is_none();
        let skipped = if first { time - 1 } else { 0 };
        let frames = unfold(frame, time, space, skipped)?;
        let Some(input) = self.input else { return Ok(frames) };
        let shortcuts = unfold(&oldest(cache, input)?, time, space, skipped)?;
        let joined = frames.into_iter().zip(shortcuts).map(|(frame, shortcut)| {
            let (_, channels, h, w) = shortcut.dims4()?;
            let ys = frame.reshape(((), channels, h, w))?.broadcast_add(&shortcut)?;
            ys.reshape((1, self.outputs, h, w))
        });
        joined.collect()
    }
}

/// The frames that lie in the channels of one, without the first `skipped`.
///
/// # Shapes
/// - `frame`: (1, c·time·space², h, w)
/// - output: `time − skipped` frames of (1, c, h·space, w·space)
///
/// # Errors
/// Channels that cannot be shared out.
pub(in crate::families::ltx) fn unfold(
    frame: &Tensor,
    time: usize,
    space: usize,
    skipped: usize,
) -> Result<Vec<Tensor>> {
    let (_, channels, h, w) = frame.dims4()?;
    let values = space * space * h * w;
    let parts = frame.contiguous()?.reshape((channels / (time * space * space), time, values))?;
    let frames = (skipped..time).map(|index| {
        let part = parts.narrow(1, index, 1)?.contiguous()?.reshape((1, channels / time, h, w))?;
        if space == 1 { Ok(part) } else { pixel_shuffle(&part, space) }
    });
    frames.collect()
}
