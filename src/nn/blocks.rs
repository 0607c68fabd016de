//! The blocks of a network: all in memory, or each brought when its turn comes.

use std::thread;

use crate::error::{Error, Result};
use crate::weights::Weights;

/// The blocks of a network, in their order.
pub enum Blocks<B> {
    /// In memory.
    Held(Vec<B>),
    /// In their file.
    Streamed(Stream<B>),
}

type Load<B> = Box<dyn Fn(&Weights) -> Result<B> + Send + Sync>;

/// Blocks that stay in their file, of which at most two are in memory: the one that works and the one after it.
pub struct Stream<B> {
    weights: Weights,
    count: usize,
    load: Load<B>,
}

impl<B: Send> Blocks<B> {
    /// The blocks `0` to `count` under `weights`, each made by `load` from the view of its own. Where the weights are
    /// [`streamed`](Weights::streamed) they are made here once, so that what is missing is known now, and dropped again.
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

    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Held(blocks) => blocks.len(),
            Self::Streamed(stream) => stream.count,
        }
    }

    /// Hands every block to `run`, in order, with its number.
    ///
    /// # Errors
    /// Those of `run`, after which no block follows, and of bringing a block.
    pub fn each(&self, mut run: impl FnMut(usize, &B) -> Result<()>) -> Result<()> {
        match self {
            Self::Held(blocks) => blocks.iter().enumerate().try_for_each(|(index, block)| run(index, block)),
            Self::Streamed(stream) => stream.each(&mut run),
        }
    }
}

impl<B: Send> Stream<B> {
    /// While a block works, the next is on its way.
    fn each(&self, run: &mut dyn FnMut(usize, &B) -> Result<()>) -> Result<()> {
        let mut next = (self.count > 0).then(|| self.bring(0)).transpose()?;
        for index in 0..self.count {
            let Some(block) = next.take() else { break };
            next = thread::scope(|scope| {
                let coming = (index + 1 < self.count).then(|| scope.spawn(move || self.bring(index + 1)));
                run(index, &block)?;
                let stopped = |_| Err(Error::failed("the thread that brings blocks stopped unexpectedly"));
                coming.map(|coming| coming.join().unwrap_or_else(stopped)).transpose()
            })?;
            drop(block);
            self.weights.pp(index).release();
        }
        Ok(())
    }

    fn bring(&self, index: usize) -> Result<B> {
        let weights = self.weights.pp(index);
        weights.prefetch();
        let block = (self.load)(&weights)?;
        // A device has an order of work for each thread: what was sent in this one's is there before another uses it.
        weights.device().synchronize()?;
        Ok(block)
    }
}
