//! Resampling of audio.

use std::f64::consts::PI;

use rayon::prelude::*;

/// Zero crossings of the sinc to either side.
const WIDTH: f64 = 6.0;
/// The cut-off, as a fraction of half the lower rate.
const ROLLOFF: f64 = 0.99;

/// Padding beyond the ends of the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Silence.
    Silent,
    /// The first and the last sample.
    Repeated,
}

/// Resamples from `from` Hz to `to` Hz, both at least 1: ⌈samples · to / from⌉ samples.
///
/// The filter is a Hann-windowed sinc, as in julius (Défossez, 2020): with silent ends torchaudio's
/// `resample`, with repeated ends diffusers' `UpSample1d`.
pub fn resample(samples: &[f32], from: u32, to: u32, ends: Ends) -> Vec<f32> {
    if from == to {
        return samples.to_vec();
    }
    let (from, to) = (u64::from(from), u64::from(to));
    // The cut-off, as a fraction of half the input rate.
    let scale = from.min(to) as f64 / from as f64 * ROLLOFF;
    let width = (WIDTH / scale).ceil() as isize;
    let last = samples.len() as isize - 1;
    let sample = |at: isize| match ends {
        Ends::Silent if !(0..=last).contains(&at) => 0.0,
        Ends::Silent | Ends::Repeated => f64::from(samples[at.clamp(0, last) as usize]),
    };
    let length = (samples.len() as u64 * to).div_ceil(from);
    let made = (0..length as usize).into_par_iter().with_min_len(1024).map(|i| {
        let i = i as u64;
        let (whole, phase) = ((i * from / to) as isize, (i * from % to) as f64 / to as f64);
        let terms = (-width..=width).map(|place| sample(whole + place) * filter((phase - place as f64) * scale));
        (terms.sum::<f64>() * scale) as f32
    });
    made.collect()
}

/// The windowed sinc at `time` zero crossings from its centre.
fn filter(time: f64) -> f64 {
    if time == 0.0 {
        return 1.0;
    }
    let window = (time.clamp(-WIDTH, WIDTH) * PI / WIDTH / 2.0).cos().powi(2);
    (PI * time).sin() / (PI * time) * window
}
