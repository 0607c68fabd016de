//! The steps between levels: half or twice the rows, columns and, sometimes, frames.
//!
//! All of them take a frame at a time. On the way down two frames become one, so that there may be nothing to give yet; on
//! the way up one becomes two. The first frame of a film stands for itself in both directions.

use candle_core::{Device, Result, Tensor};
use candle_nn::ops::{pixel_shuffle, pixel_unshuffle};

use super::cache::StreamedConv;
use crate::families::vae::cache::{Cache, Slots};
use crate::nn::conv::Conv2d;
use crate::weights::Weights;

/// The kernel of the convolutions over time alone.
const TIME: [usize; 3] = [3, 1, 1];

/// Halves rows and columns, and frames where `time` is there.
#[derive(Debug)]
pub(super) struct Downsample {
    space: Conv2d,
    time: Option<StreamedConv>,
}

impl Downsample {
    /// Loads the step down of `dim` channels, over time too where `halves` is set.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn load(weights: &Weights, dim: usize, halves: bool, slots: &mut Slots) -> crate::error::Result<Self> {
        let time = || StreamedConv::load(&weights.pp("time_conv"), dim, dim, TIME, slots);
        Ok(Self {
            time: halves.then(time).transpose()?,
            space: Conv2d::load(&weights.pp("resample.1"), dim, dim, 3)?.stride(2),
        })
    }

    /// # Shapes
    /// - `xs`: (1, dim, h, w)
    /// - output: (1, dim, h / 2, w / 2), or nothing yet
    pub(super) fn forward(&self, xs: &Tensor, cache: &mut Cache) -> Result<Option<Tensor>> {
        // The reference pads below and to the right only.
        let xs = self.space.forward(&xs.pad_with_zeros(2, 0, 1)?.pad_with_zeros(3, 0, 1)?)?;
        match &self.time {
            None => Ok(Some(xs)),
            Some(time) if time.is_new(cache) => {
                time.begin(cache, vec![xs.clone()]);
                Ok(Some(xs))
            }
            Some(time) => time.forward_halving(xs, cache),
        }
    }
}

/// Doubles rows and columns, and frames where `time` is there.
#[derive(Debug)]
pub(super) struct Upsample {
    time: Option<StreamedConv>,
    space: Conv2d,
}

impl Upsample {
    /// Loads the step up from `inputs` to `outputs` channels, over time too where `doubles` is set.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn load(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        doubles: bool,
        slots: &mut Slots,
    ) -> crate::error::Result<Self> {
        let time = || StreamedConv::load(&weights.pp("time_conv"), inputs, 2 * inputs, TIME, slots);
        Ok(Self {
            time: doubles.then(time).transpose()?,
            space: Conv2d::load(&weights.pp("resample.1"), inputs, outputs, 3)?.padding(1),
        })
    }

    /// # Shapes
    /// - `xs`: (1, inputs, h, w)
    /// - output: one or two frames of (1, outputs, 2·h, 2·w)
    pub(super) fn forward(&self, xs: Tensor, cache: &mut Cache) -> Result<Vec<Tensor>> {
        let (_, inputs, h, w) = xs.dims4()?;
        let frames = match &self.time {
            None => vec![xs],
            Some(time) if time.is_new(cache) => {
                // The first frame is not doubled, and the reference forgets it as well: the convolution over time begins
                // at the second frame, with zeros before it.
                time.begin(cache, Vec::new());
                vec![xs]
            }
            // Half of the channels is the earlier frame, half the later one.
            Some(time) => time.forward(xs, cache)?.reshape((2, inputs, h, w))?.chunk(2, 0)?,
        };
        let up = |frame: Tensor| self.space.forward(&frame.upsample_nearest2d(2 * h, 2 * w)?);
        frames.into_iter().map(up).collect()
    }
}

/// The shortcut down: the mean of the frames, rows and columns that become one, and of as many channels as it takes.
#[derive(Debug)]
pub(super) struct AverageDown {
    outputs: usize,
    halves: bool,
    space: usize,
    slot: usize,
}

impl AverageDown {
    /// A shortcut from `inputs` to `outputs` channels, that takes `space` rows and columns together, and two frames where
    /// `halves` is set.
    ///
    /// # Errors
    /// Channels that cannot be shared out evenly.
    pub(super) fn new(
        inputs: usize,
        outputs: usize,
        space: usize,
        halves: bool,
        slots: &mut Slots,
    ) -> crate::error::Result<Self> {
        let values = inputs * space * space * if halves { 2 } else { 1 };
        if !values.is_multiple_of(outputs) {
            return Err(uneven("down", inputs, outputs));
        }
        Ok(Self { outputs, halves, space, slot: slots.take() })
    }

    /// # Shapes
    /// - `xs`: (1, inputs, h, w)
    /// - output: (1, outputs, h / space, w / space), or nothing yet
    ///
    /// # Errors
    /// Rows or columns that `space` does not divide.
    pub(super) fn forward(&self, xs: &Tensor, cache: &mut Cache) -> Result<Option<Tensor>> {
        let (_, inputs, h, w) = xs.dims4()?;
        let (h, w) = (h / self.space, w / self.space);
        let frame = pixel_unshuffle(xs, self.space)?.reshape((inputs, 1, self.space * self.space, h * w))?;
        let values = if self.halves {
            // The first frame has zeros for company, as in the reference.
            let slot = cache.slot(self.slot);
            let before = match slot {
                None => frame.zeros_like()?,
                Some(waiting) => match waiting.pop() {
                    Some(before) => before,
                    None => {
                        waiting.push(frame);
                        return Ok(None);
                    }
                },
            };
            slot.get_or_insert_default();
            Tensor::cat(&[before, frame], 1)?
        } else {
            frame
        };
        values.reshape((self.outputs, (), h * w))?.mean(1)?.reshape((1, self.outputs, h, w)).map(Some)
    }
}

/// The shortcut up: every channel repeated, and laid out over frames, rows and columns.
#[derive(Debug)]
pub(super) struct RepeatUp {
    /// For each frame that comes out, the channel that fills each of (outputs, 2, 2).
    channels: Vec<Tensor>,
}

impl RepeatUp {
    /// A shortcut from `inputs` to `outputs` channels, twice the rows and columns, and twice the frames where `doubles`
    /// is set.
    ///
    /// # Errors
    /// Channels that cannot be repeated evenly.
    pub(super) fn new(inputs: usize, outputs: usize, doubles: bool, device: &Device) -> crate::error::Result<Self> {
        const PIXELS: usize = 4;
        let frames = if doubles { 2 } else { 1 };
        let places = outputs * frames * PIXELS;
        if !places.is_multiple_of(inputs) {
            return Err(uneven("up", inputs, outputs));
        }
        let repeats = places / inputs;
        let source = |frame: usize, place: usize| {
            let (output, pixel) = (place / PIXELS, place % PIXELS);
            (((output * frames + frame) * PIXELS + pixel) / repeats) as u32
        };
        let channels = (0..frames).map(|frame| {
            let ids: Vec<u32> = (0..outputs * PIXELS).map(|place| source(frame, place)).collect();
            Tensor::new(ids, device)
        });
        Ok(Self { channels: channels.collect::<Result<_>>()? })
    }

    /// The last `frames` of the frames that this one becomes.
    ///
    /// # Shapes
    /// - `xs`: (1, inputs, h, w)
    /// - output: `frames` of (1, outputs, 2·h, 2·w)
    pub(super) fn forward(&self, xs: &Tensor, frames: usize) -> Result<Vec<Tensor>> {
        let skipped = self.channels.len().saturating_sub(frames);
        self.channels[skipped..].iter().map(|ids| pixel_shuffle(&xs.index_select(ids, 1)?, 2)).collect()
    }
}

fn uneven(way: &str, inputs: usize, outputs: usize) -> crate::error::Error {
    crate::error::Error::failed(format!(
        "the autoencoder's shortcut {way} cannot share {inputs} channels among {outputs}"
    ))
    .hint("`dim_mult` in `vae/config.json` must fit `is_residual`: fetch the file again from the model's page")
}
