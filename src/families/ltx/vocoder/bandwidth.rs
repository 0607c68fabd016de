//! Bandwidth extension: adds the frequencies above the range of the first generator's sample rate.
//! <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/pipelines/ltx2/vocoder.py#L574-L597>

use candle_core::{Device, Tensor};

use super::config::ExtensionConfig;
use super::generator::Generator;
use crate::audio::resample::{Ends, resample};
use crate::audio::spectrum::Spectrum;
use crate::error::Result;
use crate::weights::Weights;

/// A second generator, from the mel spectrogram of audio to the missing part of the same audio at a higher
/// rate.
#[derive(Debug)]
pub(super) struct Extension {
    generator: Generator,
    spectrum: Spectrum,
    hop: usize,
    /// Samples of silence before the first: windows are causal and end with their hop.
    silence: usize,
    /// Sample rates of the input and the output.
    rates: (u32, u32),
}

impl Extension {
    /// Loads the second generator, and the matrices of the spectrogram, which are stored as rounded in
    /// training.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub(super) fn load(config: &ExtensionConfig, output_rate: u32, weights: &Weights) -> Result<Self> {
        let frequencies = config.filter_length / 2 + 1;
        let mel = weights.pp("mel_stft");
        let basis = mel.pp("stft_fn").f32("forward_basis", (2 * frequencies, 1, config.filter_length))?;
        let bands = mel.f32("mel_basis", (config.num_mel_channels, frequencies))?;
        let spectrum = Spectrum::new(&basis.squeeze(1)?, &bands, config.hop_length)?;
        let silence = config.window_length.saturating_sub(config.hop_length);
        let generator = Generator::load(&config.generator, &weights.pp("bwe_generator"))?;
        Ok(Self {
            generator,
            spectrum,
            hop: config.hop_length,
            silence,
            rates: (config.input_sampling_rate, output_rate),
        })
    }

    /// The same with `rows` mel rows per pass.
    pub(super) fn in_pieces_of(self, rows: usize) -> Self {
        Self { generator: self.generator.in_pieces_of(rows), ..self }
    }

    /// The audio channels at the higher rate, in [−1, 1]. All channels have the same length.
    pub(super) fn forward(&self, sound: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let length = sound.first().map_or(0, Vec::len);
        let whole = length.next_multiple_of(self.hop);
        let spectra = sound.iter().map(|channel| {
            let mut samples = vec![0f32; self.silence + whole];
            samples[self.silence..][..length].copy_from_slice(channel);
            self.spectrum.of(&samples)?.to_device(&Device::Cpu)
        });
        let rows = Tensor::cat(&spectra.collect::<candle_core::Result<Vec<_>>>()?, 1)?;
        let mut extended = self.generator.forward(&rows)?;
        for (channel, extended) in sound.iter().zip(&mut extended) {
            let mut padded = channel.clone();
            padded.resize(whole, 0.0);
            let skip = resample(&padded, self.rates.0, self.rates.1, Ends::Repeated);
            extended.iter_mut().zip(skip).for_each(|(y, x)| *y = (*y + x).clamp(-1.0, 1.0));
            extended.truncate(length * (self.rates.1 / self.rates.0) as usize);
        }
        Ok(extended)
    }
}
