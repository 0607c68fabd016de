//! The blocks of a network: held in memory, or streamed from their file one by one.

use std::thread;

use crate::error::{Error, Result};
use crate::weights::Weights;

/// The blocks of a network, in their order.
pub enum Blocks<B> {
    /// All in memory.
    Held(Vec<B>),
    /// In their file, each loaded when its turn comes.
    Streamed(Stream<B>),
}

type Load<B> = Box<dyn Fn(&Weights) -> Result<B> + Send + Sync>;

/// Blocks that stay in their file. At most two are in memory: the one that runs and the next.
pub struct Stream<B> {
    weights: Weights,
    count: usize,
    load: Load<B>,
}

impl<B: Send> Blocks<B> {
    /// Loads the blocks `0` to `count` under `weights`, each with `load` from its own view. If the weights
    /// are [`streamed`](Weights::streamed), each block is loaded here once and dropped, so that a missing
    /// tensor is found now.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn load(
        weights: &Weights,
        count: usize,
        load: impl Fn(&Weights) -> Result<B> + Send + Sync + 'static,
    ) -> Result<Self> {
        if !weights.is_streamed() {
            return Ok(Self::Held((0..count).map(|index| load(&weights.pp(index))).collect::<Result<_>>()?));
        }
        for index in 0..count {
            load(&weights.pp(index))?;
            weights.pp(index).release();
        }
        Ok(Self::Streamed(Stream { weights: weights.clone(), count, load: Box::new(load) }))
    }

    /// Number of blocks.
    pub fn count(&self) -> usize {
        match self {
            Self::Held(blocks) => blocks.len(),
            Self::Streamed(stream) => stream.count,
        }
    }

    /// Calls `run` with the index of every block and the block, in order.
    ///
    /// # Errors
    /// The first of `run`, or of loading a block.
    pub fn each(&self, mut run: impl FnMut(usize, &B) -> Result<()>) -> Result<()> {
        match self {
            Self::Held(blocks) => blocks.iter().enumerate().try_for_each(|(index, block)| run(index, block)),
            Self::Streamed(stream) => stream.each(&mut run),
        }
    }
}

impl<B: Send> Stream<B> {
    /// Loads the next block on a thread while one runs.
    fn each(&self, run: &mut dyn FnMut(usize, &B) -> Result<()>) -> Result<()> {
        let mut next = (self.count > 0).then(|| self.load_block(0)).transpose()?;
        for index in 0..self.count {
            let Some(block) = next.take() else { break };
            next = thread::scope(|scope| {
                let coming = (index + 1 < self.count).then(|| scope.spawn(move || self.load_block(index + 1)));
                run(index, &block)?;
                let stopped = |_| Err(Error::failed("the thread that loads blocks stopped unexpectedly"));
                coming.map(|coming| coming.join().unwrap_or_else(stopped)).transpose()
            })?;
            drop(block);
            self.weights.pp(index).release();
        }
        Ok(())
    }

    fn load_block(&self, index: usize) -> Result<B> {
        let weights = self.weights.pp(index);
        weights.prefetch();
        let block = (self.load)(&weights)?;
        // Each thread has its own stream on a device: the copies have to end before another thread uses them.
        weights.device().synchronize()?;
        Ok(block)
    }
}
