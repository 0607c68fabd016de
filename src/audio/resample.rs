//! Sound at another rate.

use std::f64::consts::PI;

use rayon::prelude::*;

/// Zero crossings of the sinc to either side.
const WIDTH: f64 = 6.0;
/// Where the filter cuts off, as a part of half the lower rate.
const ROLLOFF: f64 = 0.99;

/// What a filter sees beyond the ends of a sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Silence.
    Silent,
    /// The first and the last sample.
    Repeated,
}

/// Samples at `from` per second, both at least 1, as samples at `to` per second: ⌈samples · to / from⌉ of them.
///
/// The filter is a sinc under a Hann window: that of julius (Défossez, 2020), of torchaudio's `resample` with silent ends
/// and of diffusers' `UpSample1d` with repeated ones.
pub fn resample(samples: &[f32], from: u32, to: u32, ends: Ends) -> Vec<f32> {
    if from == to {
        return samples.to_vec();
    }
    let (from, to) = (u64::from(from), u64::from(to));
    // The cut-off, as a part of half the rate of the input.
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

/// The windowed sinc, `time` zero crossings from its middle.
fn filter(time: f64) -> f64 {
    if time == 0.0 {
        return 1.0;
    }
    let window = (time.clamp(-WIDTH, WIDTH) * PI / WIDTH / 2.0).cos().powi(2);
    (PI * time).sin() / (PI * time) * window
}
