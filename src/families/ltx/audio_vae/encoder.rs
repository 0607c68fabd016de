//! Encoder: audio to latents. Nothing calls it yet: it is here for audio conditioning.

use candle_core::{DType, Device, Tensor};

use super::blocks::{Blocks, CausalConv, Head};
use super::config::{COMPRESSION, Config, LEVELS, VALUES};
use super::statistics::Statistics;
use crate::audio::Waveform;
use crate::audio::pieces::pieces;
use crate::audio::resample::{Ends, resample};
use crate::audio::spectrum::Spectrum;
use crate::error::{Error, Result};
use crate::families::check::finite;
use crate::families::ltx::tokens::audio_tokens;
use crate::nn::conv::Conv2d;
use crate::weights::Weights;

/// Samples per window of the Fourier transform.
const WINDOW: usize = 1024;

/// Accepted sample rates.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;

/// The encoder of the autoencoder.
#[derive(Debug)]
pub struct Encoder {
    config: Config,
    statistics: Statistics,
    conv_in: CausalConv,
    /// From the level with the most rows to the one with the fewest.
    levels: Vec<Level>,
    mid: Blocks,
    head: Head,
    /// Latent rows per pass.
    piece: usize,
    dtype: DType,
    device: Device,
}

impl Encoder {
    /// Loads the encoder; the decoder's tensors stay in their file.
    ///
    /// # Errors
    /// The refusals of [`Config::check`]; a tensor that is missing, of another shape, or of neither half.
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

    /// The encoder's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The same encoder with `rows` latent rows per pass. The output agrees to the last few bits.
    #[must_use]
    pub fn in_pieces_of(self, rows: usize) -> Self {
        Self { piece: rows, ..self }
    }

    /// The mel spectrogram of audio at any sample rate, as diffusers' Echo pipeline computes it, with the
    /// windows of 1,024 samples of the training. Mono audio is copied to all channels; channels beyond the
    /// encoder's are dropped.
    ///
    /// # Shapes
    /// - output: (1, in_channels, samples / hop + 1, mel_bins), f32, for samples at the encoder's rate, at
    ///   least one window
    ///
    /// # Errors
    /// Audio without samples, or at a rate outside 1,000 to 1,000,000 Hz.
    pub fn spectrum(&self, sound: &Waveform) -> Result<Tensor> {
        let (rate, channels) = (self.config.sample_rate, self.config.in_channels);
        if sound.is_empty() || !RATES.contains(&sound.rate) {
            return Err(Error::failed(format!(
                "cannot compute a mel spectrogram of {} samples at {} Hz",
                sound.len(),
                sound.rate
            ))
            .hint(format!("use audio at {} to {} Hz", RATES.start(), RATES.end())));
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

    /// The transformer's tokens for un-normalised latents: normalised.
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

    /// The mean latents of a mel spectrogram of any length, un-normalised.
    ///
    /// # Shapes
    /// - `mel`: (1, in_channels, rows, mel_bins), at least one row
    /// - output: (1, channels, ⌈rows / 4⌉, bins), f32
    ///
    /// # Errors
    /// A spectrogram of another shape, or that is not finite.
    pub fn forward(&self, mel: &Tensor) -> Result<Tensor> {
        let wanted = (self.config.in_channels, self.config.mel_bins);
        let rows = match *mel.dims() {
            [1, channels, rows, bins] if (channels, bins) == wanted && rows > 0 => rows,
            ref given => {
                let (channels, bins) = wanted;
                return Err(Error::failed(format!(
                    "the shape of a mel spectrogram must be (1, {channels}, rows, {bins}), not {given:?}"
                )));
            }
        };
        finite(mel, "the mel spectrogram")?;
        let mel = mel.to_device(&self.device)?.to_dtype(self.dtype)?;
        let mut made = Vec::new();
        for piece in pieces(rows.div_ceil(COMPRESSION), self.piece, (self.reach(), 0)) {
            // A latent row depends on no row after the first of its four.
            let take = mel.narrow(2, COMPRESSION * piece.take.start, self.config.mel_rows(piece.take.len()))?;
            let moments = self.whole(&take)?.narrow(1, 0, self.config.latent_channels)?;
            made.push(moments.narrow(2, piece.skip(), piece.keep.len())?.to_dtype(DType::F32)?.force_contiguous()?);
        }
        Ok(Tensor::cat(&made, 2)?)
    }

    /// (1, in_channels, rows, mel_bins) to means and log-variances, (1, 2·channels, ⌈rows / 4⌉, bins).
    fn whole(&self, mel: &Tensor) -> Result<Tensor> {
        let mut xs = self.conv_in.forward(mel)?;
        for level in &self.levels {
            xs = level.forward(xs)?;
        }
        Ok(self.head.forward(&self.mid.forward(xs)?)?)
    }

    /// The most latent rows before its own that a latent row depends on.
    fn reach(&self) -> usize {
        let end = CausalConv::REACH + self.mid.reach();
        let rows = self.levels.iter().rev().fold(end, |reach, level| level.reach(reach)) + CausalConv::REACH;
        rows.div_ceil(COMPRESSION)
    }
}

/// Residual blocks, then downsampling to half the rows and bins.
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

    /// (1, inputs, rows, bins) to (1, channels, ⌈rows / 2⌉, bins / 2); the last level keeps rows and bins.
    /// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/autoencoders/autoencoder_kl_ltx2_audio.py#L239-L249>
    fn forward(&self, xs: Tensor) -> candle_core::Result<Tensor> {
        let xs = self.blocks.forward(xs)?;
        match &self.downsample {
            Some(conv) => conv.forward(&xs.pad_with_zeros(2, CausalConv::REACH, 0)?.pad_with_zeros(3, 0, 1)?),
            None => Ok(xs),
        }
    }

    /// Input rows before its own that `reach` output rows depend on.
    fn reach(&self, reach: usize) -> usize {
        let downsample = if self.downsample.is_some() { 2 * reach + CausalConv::REACH } else { reach };
        downsample + self.blocks.reach()
    }
}
