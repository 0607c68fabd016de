//! The steps between levels: half or twice the rows and columns, the frames, or all of them.
//!
//! Values move between channels and places; the convolution before has as many channels as that takes. The shortcut moves
//! values alike, and averages on the way down or repeats on the way up, where that leaves too many channels or too few.

use candle_core::{Result, Tensor};
use candle_nn::ops::{pixel_shuffle, pixel_unshuffle};

use super::blocks::Surroundings;
use super::config::Scaling;
use super::network::{Network, Step, oldest};
use crate::vae::cache::Cache;
use crate::weights::Weights;

/// Moves frames, rows and columns into the channels.
#[derive(Debug)]
pub(super) struct Fold {
    scaling: Scaling,
    outputs: usize,
    /// Where the frames of the shortcut wait.
    input: usize,
    /// Where frames wait for those that they are folded with.
    waiting: usize,
}

impl Fold {
    /// # Shapes
    /// - `frame`: (1, outputs / volume, h, w)
    /// - output: (1, outputs, h / space, w / space), or nothing yet
    ///
    /// # Errors
    /// Those of candle: rows or columns that cannot be halved.
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
    scaling: Scaling,
    outputs: usize,
    /// Where the frames of the shortcut wait, if there is one.
    input: Option<usize>,
    /// Remembers that there was a frame.
    begun: usize,
}

impl Unfold {
    /// # Shapes
    /// - `frame`: (1, outputs·volume, h, w)
    /// - output: one or two frames of (1, outputs, h·space, w·space)
    ///
    /// # Errors
    /// Those of candle.
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
/// Those of candle: channels that cannot be shared out.
pub(in crate::ltx) fn unfold(frame: &Tensor, time: usize, space: usize, skipped: usize) -> Result<Vec<Tensor>> {
    let (_, channels, h, w) = frame.dims4()?;
    let values = space * space * h * w;
    let parts = frame.contiguous()?.reshape((channels / (time * space * space), time, values))?;
    let frames = (skipped..time).map(|index| {
        let part = parts.narrow(1, index, 1)?.contiguous()?.reshape((1, channels / time, h, w))?;
        if space == 1 { Ok(part) } else { pixel_shuffle(&part, space) }
    });
    frames.collect()
}

impl Network {
    /// Adds the step down from `inputs` to `outputs` channels.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn down(
        &mut self,
        weights: &Weights,
        scaling: Scaling,
        (inputs, outputs): (usize, usize),
        around: Surroundings,
    ) -> crate::Result<()> {
        let (input, waiting) = (self.slots.take(), self.slots.take());
        if scaling.time() == 2 {
            let slot = self.slots.take();
            self.then(Step::Twice(slot));
        }
        self.then(Step::Fork(input));
        self.conv(&weights.pp("conv"), inputs, outputs / scaling.volume(), around)?;
        self.then(Step::Fold(Fold { scaling, outputs, input, waiting }));
        Ok(())
    }

    /// Adds the step up from `inputs` to `outputs` channels, with or without a shortcut.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn up(
        &mut self,
        weights: &Weights,
        (scaling, shortcut): (Scaling, bool),
        (inputs, outputs): (usize, usize),
        around: Surroundings,
    ) -> crate::Result<()> {
        let (begun, input) = (self.slots.take(), shortcut.then(|| self.slots.take()));
        if let Some(input) = input {
            self.then(Step::Fork(input));
        }
        self.conv(&weights.pp("conv"), inputs, outputs * scaling.volume(), around)?;
        self.then(Step::Unfold(Unfold { scaling, outputs, input, begun }));
        Ok(())
    }
}
