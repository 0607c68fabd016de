//! The layers that encoder and decoder are made of: convolutions, shortcuts, and the moves between channels and places.
//!
//! Between levels, values move between channels and places: half or twice the rows and columns, the frames, or all of them.
//! The shortcut moves values alike, and averages on the way down or repeats on the way up, where that leaves too many
//! channels or too few.

use candle_core::{Result, Tensor};
use candle_nn::ops::{pixel_shuffle, pixel_unshuffle};

use super::config::Scaling;
use crate::families::vae::cache::{Cache, oldest};
use crate::nn::channel_norm::ChannelNorm;
use crate::nn::conv::{Conv2d, Conv3d};
use crate::nn::norm::LayerNorm;

/// Frames, rows and columns of every convolution.
pub(super) const KERNEL: usize = 3;

/// A convolution over frames, rows and columns; with `norm`, each pixel's normalisation and SiLU before it. Before the
/// first frame stand copies of it, and after the last one a copy of that.
#[derive(Debug)]
pub(super) struct Conv {
    pub(super) norm: Option<ChannelNorm>,
    pub(super) conv: Conv3d,
    pub(super) causal: bool,
    pub(super) slot: usize,
}

impl Conv {
    /// The frame that is complete now that one more is there.
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

    /// The last frame, where it waits for one that will not come.
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

/// The end of a shortcut: adds the frame that has waited longest.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) slot: usize,
    /// Where the block changes the number of channels: a norm over the channels and a convolution of one pixel.
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

/// Moves frames, rows and columns into the channels.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) scaling: Scaling,
    pub(super) outputs: usize,
    /// Where the frames of the shortcut wait.
    pub(super) input: usize,
    /// Where frames wait for those that they are folded with.
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

/// Moves channels out into frames, rows and columns. The first frame of a film gives the last of its frames only.
#[derive(Debug)]
pub(super) struct Unfold {
    pub(super) scaling: Scaling,
    pub(super) outputs: usize,
    /// Where the frames of the shortcut wait, if there is one.
    pub(super) input: Option<usize>,
    /// Remembers that there was a frame.
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
