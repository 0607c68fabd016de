//! Spectra to latents: what sound that is given would be conditioned on.

use candle_core::{DType, Device, Tensor};

use super::blocks::{Blocks, CausalConv, Head};
use super::config::{COMPRESSION, Config, LEVELS};
use super::{Statistics, VALUES, check_finite};
use crate::audio::Waveform;
use crate::audio::pieces::pieces;
use crate::audio::resample::{Ends, resample};
use crate::audio::spectrum::Spectrum;
use crate::error::{Error, Result};
use crate::families::ltx::tokens::audio_tokens;
use crate::nn::conv::Conv2d;
use crate::weights::Weights;

/// Samples of a window of the spectrum.
const WINDOW: usize = 1024;

/// Samples per second of the sounds that there are.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;

/// The half of the autoencoder that makes latents.
#[derive(Debug)]
pub struct Encoder {
    config: Config,
    statistics: Statistics,
    conv_in: CausalConv,
    /// From the level with the most rows to the one with the fewest.
    levels: Vec<Level>,
    mid: Blocks,
    head: Head,
    /// Latent rows that are made at one time.
    piece: usize,
    dtype: DType,
    device: Device,
}

impl Encoder {
    /// Loads the encoder, and leaves the decoder's tensors in their file.
    ///
    /// # Errors
    /// A configuration that no network could be built from; a tensor that is missing, of another shape, or of another
    /// network.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        config.check()?;
        let inner = weights.pp("encoder");
        let last = config.channels(LEVELS - 1);
        let levels = (0..LEVELS).map(|level| Level::load(&inner.pp("down").pp(level), config, level));
        let widest = (0..LEVELS).map(|level| config.channels(level) >> (2 * level)).max().unwrap_or(1);
        let encoder = Self {
            statistics: Statistics::load(config, weights)?,
            conv_in: CausalConv::load(&inner.pp("conv_in"), config.in_channels, config.base_channels)?,
            levels: levels.collect::<Result<_>>()?,
            mid: Blocks::middle(&inner, last)?,
            head: Head::load(&inner, last, 2 * config.latent_channels)?,
            piece: (VALUES / (COMPRESSION * config.mel_bins * widest)).max(1),
            dtype: weights.dtype(),
            device: weights.device().clone(),
            config: config.clone(),
        };
        weights.finish(&["decoder."])?;
        Ok(encoder)
    }

    /// What the encoder was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The same encoder, that makes `rows` latent rows at a time. The latents are the same to the last few bits.
    #[must_use]
    pub fn in_pieces_of(self, rows: usize) -> Self {
        Self { piece: rows, ..self }
    }

    /// The spectrum that the encoder takes of a sound, at whatever rate: as diffusers' Echo pipeline makes it, with the
    /// windows of 1,024 samples that these networks were trained on. A single channel stands for all; those beyond the
    /// encoder's are left out.
    ///
    /// # Shapes
    /// - output: (1, in_channels, samples / hop + 1, mel_bins), f32, samples being those at the encoder's rate, and at
    ///   least a window of them
    ///
    /// # Errors
    /// A sound without samples, or at a rate that no sound has.
    pub fn spectrum(&self, sound: &Waveform) -> Result<Tensor> {
        let (rate, channels) = (self.config.sample_rate, self.config.in_channels);
        if sound.is_empty() || !RATES.contains(&sound.rate) {
            return Err(Error::failed(format!(
                "no spectrum can be made of {} samples at {} Hz",
                sound.len(),
                sound.rate
            ))
            .hint(format!("use a sound at {} to {} Hz", RATES.start(), RATES.end())));
        }
        let spectrum = Spectrum::slaney(rate, self.config.mel_bins, WINDOW, self.config.mel_hop_length, &self.device)?;
        let spectra = (0..channels).map(|channel| {
            let samples = sound.channels.get(channel).unwrap_or(&sound.channels[0]);
            let mut samples = resample(samples, sound.rate, rate, Ends::Silent);
            samples.resize(samples.len().max(WINDOW), 0.0);
            spectrum.centred(&samples)
        });
        Ok(Tensor::stack(&spectra.collect::<candle_core::Result<Vec<_>>>()?, 0)?.unsqueeze(0)?)
    }

    /// The tokens that the transformer sees of un-normalised latents: packed and normalised.
    ///
    /// # Shapes
    /// - `latents`: (1, channels, t, bins)
    /// - output: (1, t, width), f32, see [`Config::width`]
    ///
    /// # Errors
    /// Latents of another shape.
    pub fn normalise(&self, latents: &Tensor) -> Result<Tensor> {
        Ok(self.statistics.normalise(&audio_tokens(&latents.to_device(&self.device)?)?)?)
    }

    /// The means of the latents of a spectrum, of any length, un-normalised.
    ///
    /// # Shapes
    /// - `mel`: (1, in_channels, rows, mel_bins), at least one row
    /// - output: (1, channels, ⌈rows / 4⌉, bins), f32
    ///
    /// # Errors
    /// A spectrum of another shape, or with values that are no finite numbers.
    pub fn forward(&self, mel: &Tensor) -> Result<Tensor> {
        let wanted = (self.config.in_channels, self.config.mel_bins);
        let rows = match *mel.dims() {
            [1, channels, rows, bins] if (channels, bins) == wanted && rows > 0 => rows,
            ref given => {
                let (channels, bins) = wanted;
                return Err(Error::failed(format!(
                    "a spectrum has the shape {given:?}, where (1, {channels}, rows, {bins}) belongs"
                )));
            }
        };
        check_finite(mel, "the spectrum")?;
        let mel = mel.to_device(&self.device)?.to_dtype(self.dtype)?;
        let mut made = Vec::new();
        for piece in pieces(rows.div_ceil(COMPRESSION), self.piece, (self.reach(), 0)) {
            // The first row of each four is the last that its latent depends on.
            let take = mel.narrow(2, COMPRESSION * piece.take.start, self.config.mel_rows(piece.take.len()))?;
            let moments = self.whole(&take)?.narrow(1, 0, self.config.latent_channels)?;
            made.push(moments.narrow(2, piece.skip(), piece.keep.len())?.to_dtype(DType::F32)?.force_contiguous()?);
        }
        Ok(Tensor::cat(&made, 2)?)
    }

    /// (1, in_channels, rows, mel_bins) to means and logarithms of variances, (1, 2·channels, ⌈rows / 4⌉, bins).
    fn whole(&self, mel: &Tensor) -> Result<Tensor> {
        let mut xs = self.conv_in.forward(mel)?;
        for level in &self.levels {
            xs = level.forward(xs)?;
        }
        Ok(self.head.forward(&self.mid.forward(xs)?)?)
    }

    /// How many latent rows before its own a latent row depends on, at the most.
    fn reach(&self) -> usize {
        let end = CausalConv::REACH + self.mid.reach();
        let rows = self.levels.iter().rev().fold(end, |reach, level| level.reach(reach)) + CausalConv::REACH;
        rows.div_ceil(COMPRESSION)
    }
}

/// Residual blocks, and the step to half the rows and bins.
#[derive(Debug)]
struct Level {
    blocks: Blocks,
    downsample: Option<Conv2d>,
}

impl Level {
    fn load(weights: &Weights, config: &Config, level: usize) -> Result<Self> {
        let inputs = if level == 0 { config.base_channels } else { config.channels(level - 1) };
        let channels = config.channels(level);
        let names = (0..config.num_res_blocks).map(|i| format!("block.{i}"));
        let blocks = Blocks::load(weights, names, inputs, channels)?;
        let downsample = || Conv2d::load(&weights.pp("downsample.conv"), channels, channels, 3);
        let downsample = (level + 1 < LEVELS).then(downsample).transpose()?;
        Ok(Self { blocks, downsample: downsample.map(|conv| conv.stride(2)) })
    }

    /// (1, inputs, rows, bins) to (1, channels, ⌈rows / 2⌉, bins / 2), or as many as before in the last level.
    fn forward(&self, xs: Tensor) -> candle_core::Result<Tensor> {
        let xs = self.blocks.forward(xs)?;
        match &self.downsample {
            Some(conv) => conv.forward(&xs.pad_with_zeros(2, CausalConv::REACH, 0)?.pad_with_zeros(3, 0, 1)?),
            None => Ok(xs),
        }
    }

    /// How many rows before its own in the input what lies within `reach` rows of the output depends on.
    fn reach(&self, reach: usize) -> usize {
        let downsample = if self.downsample.is_some() { 2 * reach + CausalConv::REACH } else { reach };
        downsample + self.blocks.reach()
    }
}
