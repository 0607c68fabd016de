//! Decoder: latents to mel spectrograms.

use candle_core::{DType, Device, Tensor};

use super::blocks::{Blocks, CausalConv, Head};
use super::config::{COMPRESSION, Config, LEVELS, VALUES};
use super::statistics::Statistics;
use crate::audio::pieces::pieces;
use crate::error::{Error, Result};
use crate::families::check::finite;
use crate::families::ltx::tokens::audio_latents;
use crate::weights::Weights;

/// The decoder of the autoencoder.
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    statistics: Statistics,
    conv_in: CausalConv,
    mid: Blocks,
    /// From the level with the fewest rows to the one with the most.
    levels: Vec<Level>,
    head: Head,
    /// Latent rows per pass.
    piece: usize,
    dtype: DType,
    device: Device,
}

impl Decoder {
    /// Loads the decoder; the encoder's tensors stay in their file.
    ///
    /// # Errors
    /// The refusals of [`Config::check`]; a tensor that is missing, of another shape, or of neither half.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        config.check()?;
        let inner = weights.pp("decoder");
        let first = config.channels(LEVELS - 1);
        let levels = (0..LEVELS).rev().map(|level| Level::load(&inner.pp("up").pp(level), config, level));
        let widest = (0..LEVELS).map(|level| config.channels(level) >> (2 * level)).max().unwrap_or(1);
        let row = 2 * COMPRESSION * config.mel_bins * widest;
        let decoder = Self {
            statistics: Statistics::load(config, weights)?,
            conv_in: CausalConv::load(&inner.pp("conv_in"), config.latent_channels, first)?,
            mid: Blocks::middle(&inner, first)?,
            levels: levels.collect::<Result<_>>()?,
            head: Head::load(&inner, config.channels(0), config.output_channels)?,
            piece: (VALUES / row).max(1),
            dtype: weights.dtype(),
            device: weights.device().clone(),
            config: config.clone(),
        };
        weights.finish(&["encoder."])?;
        Ok(decoder)
    }

    /// The decoder's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The same decoder with `rows` latent rows per pass. The output agrees to the last few bits.
    #[must_use]
    pub fn in_pieces_of(self, rows: usize) -> Self {
        Self { piece: rows, ..self }
    }

    /// The latents of the transformer's tokens, un-normalised.
    ///
    /// # Shapes
    /// - `tokens`: (1, t, width), see [`Config::width`]
    /// - output: (1, channels, t, bins), f32
    ///
    /// # Errors
    /// Tokens of another width.
    pub fn denormalise(&self, tokens: &Tensor) -> Result<Tensor> {
        let tokens = self.statistics.denormalise(&tokens.to_device(&self.device)?)?;
        Ok(audio_latents(&tokens, self.config.latent_bins())?)
    }

    /// The mel spectrogram of un-normalised latents of any length. Apart from the output, memory does not
    /// grow with it.
    ///
    /// # Shapes
    /// - `latents`: (1, channels, t, bins), t at least 1
    /// - output: (1, output_channels, [`Config::mel_rows`], mel_bins), f32
    ///
    /// # Errors
    /// Latents of another shape, or that are not finite.
    pub fn forward(&self, latents: &Tensor) -> Result<Tensor> {
        let wanted = (self.config.latent_channels, self.config.latent_bins());
        let rows = match *latents.dims() {
            [1, channels, rows, bins] if (channels, bins) == wanted && rows > 0 => rows,
            ref given => {
                let (channels, bins) = wanted;
                return Err(Error::failed(format!(
                    "the shape of audio latents must be (1, {channels}, rows, {bins}), not {given:?}"
                ))
                .hint("latents can only be decoded by the model, or a model of the family, that made them"));
            }
        };
        finite(latents, "the audio latents")?;
        let latents = latents.to_device(&self.device)?.to_dtype(self.dtype)?;
        let mut made = Vec::new();
        for piece in pieces(rows, self.piece, (self.reach(), 0)) {
            let spectrum = self.whole(&latents.narrow(2, piece.take.start, piece.take.len())?)?;
            // Except in the first piece, the first row belongs to the piece before.
            let start = self.config.mel_rows(piece.skip());
            made.push(spectrum.narrow(2, start, spectrum.dim(2)? - start)?.to_dtype(DType::F32)?.force_contiguous()?);
        }
        Ok(Tensor::cat(&made, 2)?)
    }

    /// (1, channels, t, bins) to (1, output_channels, 4t − 3, mel_bins).
    fn whole(&self, latents: &Tensor) -> Result<Tensor> {
        let mut xs = self.mid.forward(self.conv_in.forward(latents)?)?;
        for level in &self.levels {
            xs = level.forward(xs)?;
        }
        Ok(self.head.forward(&xs)?)
    }

    /// Latent rows before its own that a mel row depends on, and one more for rows of the previous latent row.
    fn reach(&self) -> usize {
        let levels = self.levels.iter().rev().fold(CausalConv::REACH, |reach, level| level.reach(reach));
        levels + self.mid.reach() + CausalConv::REACH + 1
    }
}

/// Residual blocks, then upsampling to twice the rows and bins.
#[derive(Debug)]
struct Level {
    blocks: Blocks,
    upsample: Option<CausalConv>,
}

impl Level {
    fn load(weights: &Weights, config: &Config, level: usize) -> Result<Self> {
        let (inputs, channels) = (config.channels((level + 1).min(LEVELS - 1)), config.channels(level));
        let names = (0..=config.num_res_blocks).map(|i| format!("block.{i}"));
        let blocks = Blocks::load(weights, names, inputs, channels)?;
        let upsample = || CausalConv::load(&weights.pp("upsample.conv"), channels, channels);
        Ok(Self { blocks, upsample: (level > 0).then(upsample).transpose()? })
    }

    /// (1, inputs, rows, bins) to (1, channels, 2·rows − 1, 2·bins); the last level keeps rows and bins.
    fn forward(&self, xs: Tensor) -> candle_core::Result<Tensor> {
        let xs = self.blocks.forward(xs)?;
        let Some(conv) = &self.upsample else { return Ok(xs) };
        let (_, _, rows, bins) = xs.dims4()?;
        // The first row becomes one row, all others two:
        // https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/autoencoders/autoencoder_kl_ltx2_audio.py#L269-L276
        conv.forward(&xs.upsample_nearest2d(2 * rows, 2 * bins)?)?.narrow(2, 1, 2 * rows - 1)
    }

    /// Input rows before its own that `reach` output rows depend on.
    fn reach(&self, reach: usize) -> usize {
        let upsample = if self.upsample.is_some() { (reach + CausalConv::REACH + 1).div_ceil(2) } else { reach };
        upsample + self.blocks.reach()
    }
}
