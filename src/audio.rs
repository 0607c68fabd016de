//! Audio: waveforms, from vocoders to files.

pub mod check;
pub mod pieces;
pub mod resample;
pub mod spectrum;

use std::ops::RangeInclusive;

use crate::error::{Error, Result};

/// Valid sampling rates, in Hz.
pub const RATES: RangeInclusive<u32> = 1_000..=768_000;
/// The largest valid magnitude of a sample, with 1 as full scale: far above the output of any working
/// network.
pub const LOUDEST: f32 = 1e4;

/// Samples of one or more channels, in [-1, 1] where nothing clips.
#[derive(Debug, Clone, PartialEq)]
pub struct Waveform {
    /// Samples per second.
    pub rate: u32,
    /// The channels, left before right, all equally long.
    pub channels: Vec<Vec<f32>>,
}

impl Waveform {
    /// Samples per channel.
    pub fn len(&self) -> usize {
        self.channels.first().map_or(0, Vec::len)
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Duration in seconds.
    pub fn seconds(&self) -> f64 {
        self.len() as f64 / f64::from(self.rate)
    }

    /// The first `samples` samples of each channel, padded with silence.
    #[must_use]
    pub fn fitted(&self, samples: usize) -> Self {
        let fit = |channel: &Vec<f32>| {
            let mut channel = channel.clone();
            channel.resize(samples, 0.0);
            channel
        };
        Self { rate: self.rate, channels: self.channels.iter().map(fit).collect() }
    }

    /// Checks the waveform: a rate in [`RATES`], one or more channels of equal length, finite samples of at
    /// most [`LOUDEST`].
    ///
    /// # Errors
    /// A failure that names the rate, or the first bad sample and its place.
    pub fn check(&self) -> Result<()> {
        if !RATES.contains(&self.rate) {
            let what = format!("the soundtrack cannot have {} samples a second", self.rate);
            return Err(Error::failed(what).hint("check the sampling rate in the configuration of the model's vocoder"));
        }
        if self.channels.is_empty() || self.channels.iter().any(|channel| channel.len() != self.len()) {
            let lengths: Vec<usize> = self.channels.iter().map(Vec::len).collect();
            return Err(Error::failed(format!("the soundtrack needs channels of one length, not of {lengths:?}")));
        }
        for (name, channel) in self.named() {
            // NaN is in no range.
            if let Some(at) = channel.iter().position(|sample| !(0.0..=LOUDEST).contains(&sample.abs())) {
                let what =
                    format!("the soundtrack has a sample beyond any sound: {} is sample {at} of {name}", channel[at]);
                return Err(Error::failed(what)
                    .hint("try `--dtype f32`: the vocoder, the autoencoder, or their number type, overflows"));
            }
        }
        Ok(())
    }

    /// The channels, and a name for each.
    fn named(&self) -> impl Iterator<Item = (String, &[f32])> {
        let name = |index| match (self.channels.len(), index) {
            (1, _) => "the only channel".to_owned(),
            (2, 0) => "the left channel".to_owned(),
            (2, 1) => "the right channel".to_owned(),
            (_, index) => format!("channel {}", index + 1),
        };
        self.channels.iter().enumerate().map(move |(index, channel)| (name(index), channel.as_slice()))
    }
}
