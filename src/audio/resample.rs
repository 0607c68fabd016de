//! Sound at a higher rate.

use std::f64::consts::PI;

/// Zero crossings of the sinc to either side.
const WIDTH: f64 = 6.0;
/// Where the filter cuts off, as a part of the lower rate's half.
const ROLLOFF: f64 = 0.99;

/// `ratio` samples for each, by a sinc under a Hann window: the filter of julius (Défossez) and of diffusers' `UpSample1d`.
/// The ends are repeated beyond themselves.
pub fn upsample(samples: &[f32], ratio: usize) -> Vec<f32> {
    let Some((first, last)) = samples.first().zip(samples.last()) else { return Vec::new() };
    let width = (WIDTH / ROLLOFF).ceil() as usize;
    let phases: Vec<Vec<f32>> = (0..ratio).map(|phase| taps(phase, ratio, width)).collect();
    let padding = |value: f32| std::iter::repeat_n(value, width);
    let padded: Vec<f32> = padding(*first).chain(samples.iter().copied()).chain(padding(*last)).collect();
    let windows = padded.windows(2 * width + 1);
    let sum = |window: &[f32], taps: &Vec<f32>| window.iter().zip(taps).map(|(x, tap)| x * tap).sum::<f32>();
    windows.flat_map(|window| phases.iter().map(move |taps| sum(window, taps))).collect()
}

/// The weights of the 2·width + 1 samples around one, for the `phase`-th of the samples that it becomes.
fn taps(phase: usize, ratio: usize, width: usize) -> Vec<f32> {
    let tap = |place: usize| {
        let time = (phase as f64 / ratio as f64 - (place as f64 - width as f64)) * ROLLOFF;
        let window = (time.clamp(-WIDTH, WIDTH) * PI / WIDTH / 2.0).cos().powi(2);
        let sinc = if time == 0.0 { 1.0 } else { (PI * time).sin() / (PI * time) };
        (sinc * window * ROLLOFF) as f32
    };
    (0..=2 * width).map(tap).collect()
}
