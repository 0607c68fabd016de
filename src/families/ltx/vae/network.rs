//! A network as a list of steps, which a film goes through a frame at a time.
//!
//! A step may hold a frame back until it has seen the next one, or make two of one. Each frame that a step gives goes all
//! the way before the step gives another: so the large frames at one end are never many, and what a step remembers does not
//! depend on the length of the film.

use candle_core::{Result, Tensor};

use super::layers::{Conv, Fold, Join, Unfold};
use crate::families::vae::Grid;
use crate::families::vae::cache::{Cache, Slots};
use crate::families::vae::patch::{patchify, unpatchify};

/// One thing that happens to a frame of (1, channels, h, w).
#[derive(Debug)]
pub(super) enum Step {
    /// A convolution over frames, rows and columns, with what comes before it.
    Conv(Conv),
    /// Puts the frame into a slot as well, for whom it may concern.
    Fork(usize),
    /// Adds what was put into a slot.
    Join(Join),
    /// Lets the first frame pass twice. The slot remembers that it did.
    Twice(usize),
    /// The step down between levels.
    Fold(Fold),
    /// The step up between levels.
    Unfold(Unfold),
    /// Moves squares of this many rows and columns into the channels.
    Patchify(usize),
    /// The way back.
    Unpatchify(usize),
}

impl Step {
    /// The frames that follow from one more: none yet, one, or several.
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

    /// The frame that the step held back, when no more frames will come.
    fn finish(&self, cache: &mut Cache) -> Result<Option<Tensor>> {
        match self {
            Self::Conv(conv) => conv.finish(cache),
            _ => Ok(None),
        }
    }
}

/// The steps from one end of an encoder or decoder to the other.
#[derive(Debug, Default)]
pub(super) struct Network {
    steps: Vec<Step>,
    /// The memory that the steps need.
    pub(super) slots: Slots,
}

impl Network {
    /// Adds a step at the end.
    pub(super) fn then(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Takes one frame through the steps that are left, and adds what comes out to `frames`.
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

    /// The frames that come out when this step gives what it held back.
    fn flush(&self, index: usize, cache: &mut Cache) -> Result<Vec<Tensor>> {
        let mut frames = Vec::new();
        if let Some(frame) = self.steps[index].finish(cache)? {
            self.climb(index + 1, frame, cache, &mut frames)?;
        }
        Ok(frames)
    }
}

/// One film on its way through a network, in tiles or whole.
#[derive(Debug)]
pub(super) struct Film {
    /// Rows and columns of the frames that go in.
    pub(super) size: (usize, usize),
    grid: Option<Grid>,
    /// One per tile.
    caches: Vec<Cache>,
    /// Steps that have given what they held back.
    flushed: usize,
}

impl Film {
    /// A film of frames of `size`, cut up by `grid`.
    pub(super) fn new(network: &Network, size: (usize, usize), grid: Option<Grid>) -> Self {
        let tiles = grid.as_ref().map_or(1, Grid::tiles);
        Self { size, grid, caches: (0..tiles).map(|_| network.slots.cache()).collect(), flushed: 0 }
    }

    /// Whether [`Film::finish`] was called: there can be no more frames.
    pub(super) fn is_over(&self) -> bool {
        self.flushed > 0
    }

    /// The frames that follow from one more.
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

    /// The next frames that were held back, as many as one step of the network lets go: `None` when that is all.
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

    /// Whole frames of those of each tile. All tiles hold back as many.
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
