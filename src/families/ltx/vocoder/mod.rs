//! Vocoders: from the audio autoencoder's mel spectrogram to audio, at 24 kHz in LTX-2.0 and at 48 kHz in
//! LTX-2.3.

mod bandwidth;
mod check;
mod config;
mod generator;
mod resnet;

use candle_core::Tensor;

use self::bandwidth::Extension;
pub use self::config::{ActivationKind, Config, EndKind, ExtensionConfig, GeneratorConfig};
use self::generator::Generator;
use super::audio_vae;
use crate::audio::Waveform;
use crate::error::{Error, Result};
use crate::weights::Weights;

/// A vocoder of either release.
#[derive(Debug)]
pub struct Vocoder {
    config: Config,
    generator: Generator,
    extension: Option<Extension>,
}

impl Vocoder {
    /// Loads the vocoder. Its work is small next to the video's: where memory allows, f32 avoids the rounding
    /// noise of half types.
    ///
    /// # Errors
    /// The refusals of [`Config::check`]; a tensor that is missing, of another shape, or left over.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        config.check()?;
        let (generator, extension) = match &config.extension {
            None => (Generator::load(&config.generator, weights)?, None),
            Some(extension) => {
                let generator = Generator::load(&config.generator, &weights.pp("vocoder"))?;
                (generator, Some(Extension::load(extension, config.output_sampling_rate, weights)?))
            }
        };
        // The inverse transform, which nothing uses.
        weights.finish(&["mel_stft.stft_fn.inverse_basis"])?;
        Ok(Self { config: config.clone(), generator, extension })
    }

    /// The vocoder's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The same vocoder with `rows` mel rows per pass. The output agrees to the last few bits.
    #[must_use]
    pub fn in_pieces_of(self, rows: usize) -> Self {
        let extension = self.extension.map(|extension| extension.in_pieces_of(rows));
        Self { generator: self.generator.in_pieces_of(rows), extension, ..self }
    }

    /// The audio of a mel spectrogram of any length. Apart from the samples, memory does not grow with it.
    ///
    /// # Shapes
    /// - `mel`: (1, channels, t, bins), from [`audio_vae::Decoder`]
    ///
    /// # Errors
    /// A spectrogram of another shape, or samples that are not finite.
    pub fn forward(&self, mel: &Tensor) -> Result<Waveform> {
        let wanted = self.config.generator.in_channels;
        let (channels, rows, bins) = match *mel.dims() {
            [1, channels, rows, bins] if channels * bins == wanted && rows > 0 => (channels, rows, bins),
            ref given => {
                return Err(Error::failed(format!(
                    "the shape of a mel spectrogram must be (1, channels, rows, bins) with {wanted} values per row, not \
                     {given:?}"
                )));
            }
        };
        let rows = mel.squeeze(0)?.transpose(0, 1)?.contiguous()?.reshape((rows, channels * bins))?;
        let mut sound = self.generator.forward(&rows)?;
        if let Some(extension) = &self.extension {
            sound = extension.forward(&sound)?;
        }
        if sound.iter().flatten().any(|sample| !sample.is_finite()) {
            return Err(Error::failed("the vocoder made samples that are not finite")
                .hint("try `--dtype f32`; otherwise the weights are damaged"));
        }
        Ok(Waveform { rate: self.config.output_sampling_rate, channels: sound })
    }
}

/// Refuses a vocoder that does not fit the autoencoder: other values per row, or other rows per second.
///
/// # Errors
/// Both numbers.
pub fn check_pair(autoencoder: &audio_vae::Config, vocoder: &Config) -> Result<()> {
    let (channels, bins) = (autoencoder.output_channels, autoencoder.mel_bins);
    let class = vocoder.class_name();
    let misfit = |what: String| {
        Err(Error::failed(format!("the vocoder (`{class}`) and the audio autoencoder do not fit each other: {what}"))
            .hint("take `vocoder` and `audio_vae` from the same release of LTX-2"))
    };
    if channels * bins != vocoder.generator.in_channels {
        let wanted = vocoder.generator.in_channels;
        return misfit(format!(
            "the vocoder reads {wanted} values per row, and the autoencoder makes {channels} channels of {bins} bins"
        ));
    }
    let (factor, rate) = (vocoder.generator.factor(), vocoder.generator_rate());
    let (hop, sample_rate) = (autoencoder.mel_hop_length, autoencoder.sample_rate);
    if factor as u64 * u64::from(sample_rate) != hop as u64 * u64::from(rate) {
        return misfit(format!(
            "the vocoder makes {factor} samples per row for {rate} Hz, and rows are {hop} samples apart at {sample_rate} Hz"
        ));
    }
    Ok(())
}
