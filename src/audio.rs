//! Sound: samples, as the vocoders make them and the files take them.

pub mod pieces;
pub mod resample;
pub mod spectrum;

/// Samples of one or more channels, in [-1, 1] where nothing clips.
#[derive(Debug, Clone, PartialEq)]
pub struct Waveform {
    /// Samples per second.
    pub rate: u32,
    /// The channels, left before right, all equally long.
    pub channels: Vec<Vec<f32>>,
}

impl Waveform {
    /// How many samples each channel has.
    pub fn len(&self) -> usize {
        self.channels.first().map_or(0, Vec::len)
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long it sounds, in seconds.
    pub fn seconds(&self) -> f64 {
        self.len() as f64 / f64::from(self.rate)
    }
}
