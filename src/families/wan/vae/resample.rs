//! The steps between levels: half or twice the rows, columns and, in some levels, frames.
//!
//! They process one frame at a time. On the way down two frames become one, so a step may return nothing yet;
//! on the way up one becomes two. The first frame of a video stays one frame in both directions.

use candle_core::{Device, Result, Tensor};
use candle_nn::ops::{pixel_shuffle, pixel_unshuffle};

use super::cache::StreamedConv;
use crate::families::vae::cache::{Cache, Slots};
use crate::nn::conv::Conv2d;
use crate::weights::Weights;

/// Kernel of the convolutions over time only.
const TIME: [usize; 3] = [3, 1, 1];

/// Downsampling: halves rows and columns, and frames if `time` is set.
#[derive(Debug)]
pub(super) struct Downsample {
    space: Conv2d,
    time: Option<StreamedConv>,
}

impl Downsample {
    /// Loads the step down of `dim` channels; `halves` includes the frames.
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
        // Padding at the bottom and the right only:
        // https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/autoencoders/autoencoder_kl_wan.py#L261-L263
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

/// Upsampling: doubles rows and columns, and frames if `time` is set.
#[derive(Debug)]
pub(super) struct Upsample {
    time: Option<StreamedConv>,
    space: Conv2d,
}

impl Upsample {
    /// Loads the step up from `inputs` to `outputs` channels; `doubles` includes the frames.
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
                // The first frame is not doubled, and not cached either: the convolution over time begins at
                // the second frame, with zeros before it.
                // https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/autoencoders/autoencoder_kl_wan.py#L274-L291
                time.begin(cache, Vec::new());
                vec![xs]
            }
            // The first half of the channels is the earlier frame, the second half the later one.
            Some(time) => time.forward(xs, cache)?.reshape((2, inputs, h, w))?.chunk(2, 0)?,
        };
        let up = |frame: Tensor| self.space.forward(&frame.upsample_nearest2d(2 * h, 2 * w)?);
        frames.into_iter().map(up).collect()
    }
}

/// The shortcut down: space-to-depth, then the mean of groups of channels.
/// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/autoencoders/autoencoder_kl_wan.py#L52-L82>
#[derive(Debug)]
pub(super) struct AverageDown {
    outputs: usize,
    halves: bool,
    space: usize,
    slot: usize,
}

impl AverageDown {
    /// A shortcut from `inputs` to `outputs` channels over squares of `space` pixels; `halves` includes two
    /// frames.
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
            // The first frame is paired with zeros, as in the reference.
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

/// The shortcut up: repeats channels, then depth-to-space.
/// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/autoencoders/autoencoder_kl_wan.py#L106-L128>
#[derive(Debug)]
pub(super) struct RepeatUp {
    /// For each output frame, the input channel for each of (outputs, 2, 2).
    channels: Vec<Tensor>,
}

impl RepeatUp {
    /// A shortcut from `inputs` to `outputs` channels and twice the rows and columns; `doubles` includes the
    /// frames.
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

    /// The last `frames` output frames for an input frame.
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
