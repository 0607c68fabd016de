//! An encoder or decoder as a list of steps that process a video frame by frame.
//!
//! A step may hold a frame back until the next arrives, or turn one frame into two. Each output frame passes
//! all remaining steps before the next is made: few large frames exist at once, and the memory of a step does
//! not grow with the video.

use candle_core::{Result, Tensor};

use super::config::Padding;
use super::layers::{Conv, Fold, Join, Unfold};
use crate::families::vae::Grid;
use crate::families::vae::cache::{Cache, Slots};
use crate::families::vae::patch::{patchify, unpatchify};

/// One operation on a frame (1, channels, h, w).
#[derive(Debug)]
pub(super) enum Step {
    /// A convolution over frames, rows and columns, perhaps after norm and SiLU.
    Conv(Conv),
    /// Also stores the frame in a slot, for the matching [`Join`], [`Fold`] or [`Unfold`].
    Fork(usize),
    /// Adds the stored frame.
    Join(Join),
    /// Repeats the first frame once (causal padding). The slot marks that it did.
    Twice(usize),
    /// Step down between levels.
    Fold(Fold),
    /// Step up between levels.
    Unfold(Unfold),
    /// Pixel unshuffle by this number of rows and columns.
    Patchify(usize),
    /// Pixel shuffle: the inverse.
    Unpatchify(usize),
}

impl Step {
    /// Output frames for one more input frame: none yet, one, or several.
    fn push(&self, frame: Tensor, cache: &mut Cache) -> Result<Vec<Tensor>> {
        match self {
            Self::Conv(conv) => Ok(conv.push(frame, cache)?.into_iter().collect()),
            Self::Fork(slot) => {
                cache.slot(*slot).get_or_insert_default().push(frame.clone());
                Ok(vec![frame])
            }
            Self::Join(join) => Ok(vec![join.push(frame, cache)?]),
            Self::Twice(slot) => match cache.slot(*slot).replace(Vec::new()) {
                None => Ok(vec![frame.clone(), frame]),
                Some(_) => Ok(vec![frame]),
            },
            Self::Fold(fold) => Ok(fold.push(&frame, cache)?.into_iter().collect()),
            Self::Unfold(unfold) => unfold.push(&frame, cache),
            Self::Patchify(patch) => Ok(vec![patchify(&frame, *patch)?.force_contiguous()?]),
            Self::Unpatchify(patch) => Ok(vec![unpatchify(&frame.unsqueeze(2)?, *patch)?.squeeze(2)?]),
        }
    }

    /// The frame that was held back, at the end of the video.
    fn finish(&self, cache: &mut Cache) -> Result<Option<Tensor>> {
        match self {
            Self::Conv(conv) => conv.finish(cache),
            _ => Ok(None),
        }
    }
}

/// The steps of an encoder or decoder.
#[derive(Debug)]
pub(super) struct Network {
    steps: Vec<Step>,
    /// Padding of every convolution.
    pub(super) padding: Padding,
    /// Cache slots of the steps.
    pub(super) slots: Slots,
}

impl Network {
    /// A network without steps.
    pub(super) fn new(padding: Padding) -> Self {
        Self { steps: Vec::new(), padding, slots: Slots::default() }
    }

    /// Adds a step at the end.
    pub(super) fn then(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Runs one frame through the steps after `from`, and adds the output to `frames`.
    fn climb(&self, from: usize, mut frame: Tensor, cache: &mut Cache, frames: &mut Vec<Tensor>) -> Result<()> {
        for (index, step) in self.steps.iter().enumerate().skip(from) {
            let mut made = step.push(frame, cache)?;
            let Some(last) = made.pop() else { return Ok(()) };
            for earlier in made {
                self.climb(index + 1, earlier, cache, frames)?;
            }
            frame = last;
        }
        frames.push(frame);
        Ok(())
    }

    /// The output frames for the frame that this step held back.
    fn flush(&self, index: usize, cache: &mut Cache) -> Result<Vec<Tensor>> {
        let mut frames = Vec::new();
        if let Some(frame) = self.steps[index].finish(cache)? {
            self.climb(index + 1, frame, cache, &mut frames)?;
        }
        Ok(frames)
    }
}

/// State of one video in a network, in tiles or whole.
#[derive(Debug)]
pub(super) struct State {
    /// Rows and columns of the input frames.
    pub(super) size: (usize, usize),
    grid: Option<Grid>,
    /// One per tile.
    caches: Vec<Cache>,
    /// Number of steps that are flushed.
    flushed: usize,
}

impl State {
    /// The state before the first frame of `size`, for the tiles of `grid`.
    pub(super) fn new(network: &Network, size: (usize, usize), grid: Option<Grid>) -> Self {
        let tiles = grid.as_ref().map_or(1, Grid::tiles);
        Self { size, grid, caches: (0..tiles).map(|_| network.slots.cache()).collect(), flushed: 0 }
    }

    /// Whether [`State::finish`] was called: no more frames may follow.
    pub(super) fn is_over(&self) -> bool {
        self.flushed > 0
    }

    /// Output frames for one more input frame.
    ///
    /// # Shapes
    /// - `frame`: (1, c, h, w)
    /// - output: (1, c', t, h', w'), or nothing yet
    pub(super) fn push(&mut self, network: &Network, frame: &Tensor) -> crate::error::Result<Option<Tensor>> {
        let tiles = match &self.grid {
            Some(grid) => (0..grid.tiles()).map(|tile| grid.tile(frame, tile)).collect::<crate::error::Result<_>>()?,
            None => vec![frame.force_contiguous()?],
        };
        let frames = tiles.into_iter().zip(&mut self.caches).map(|(tile, cache)| {
            let mut frames = Vec::new();
            network.climb(0, tile, cache, &mut frames)?;
            Ok(frames)
        });
        let frames = frames.collect::<Result<_>>()?;
        self.merge(frames)
    }

    /// The next frames that were held back, one step's at a time; `None` at the end.
    pub(super) fn finish(&mut self, network: &Network) -> crate::error::Result<Option<Tensor>> {
        while self.flushed < network.steps.len() {
            let step = self.flushed;
            self.flushed += 1;
            let frames = self.caches.iter_mut().map(|cache| network.flush(step, cache)).collect::<Result<_>>()?;
            if let Some(frames) = self.merge(frames)? {
                return Ok(Some(frames));
            }
        }
        Ok(None)
    }

    /// Merges the frames of all tiles, which hold back the same number.
    fn merge(&self, tiles: Vec<Vec<Tensor>>) -> crate::error::Result<Option<Tensor>> {
        let tiles = tiles.iter().filter(|frames| !frames.is_empty()).map(|frames| Tensor::stack(frames, 2));
        let tiles = tiles.collect::<Result<Vec<_>>>()?;
        match (&self.grid, tiles.first()) {
            (_, None) => Ok(None),
            (None, Some(whole)) => Ok(Some(whole.clone())),
            (Some(grid), _) => grid.merge(tiles).map(Some),
        }
    }
}
