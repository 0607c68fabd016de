//! What a listener would complain of: clipping, silence, an offset. It is said, and the sound is left as it is.

use super::Waveform;

/// Full scale, less one step of 16 bits: what ends in a clamp or a tanh comes no further.
const FULL: f32 = 32767.0 / 32768.0;
/// As many samples at full scale in a row are no peak but a flat top.
const FLAT: usize = 3;
/// A sound that never swings further than this, -60 dB of full scale, is not heard beside any other.
const SILENT: f32 = 0.001;
/// An offset from here on, -40 dB of full scale, clicks where the film begins and ends.
const OFFSET: f64 = 0.01;

/// A sentence for each thing that is wrong with a sound, none where it is as it should be.
pub fn notes(sound: &Waveform) -> Vec<String> {
    [silence(sound), offset(sound), clipping(sound)].into_iter().flatten().collect()
}

/// Whether nothing is to be heard: every channel stays within 0.001 of its own mean.
pub fn silence(sound: &Waveform) -> Option<String> {
    let swing = |channel: &Vec<f32>| {
        let mean = mean(channel) as f32;
        channel.iter().map(|sample| (sample - mean).abs()).fold(0.0, f32::max)
    };
    match sound.channels.iter().map(swing).fold(0.0, f32::max) {
        0.0 => Some("the sound is silent: it never moves".to_owned()),
        peak if peak < SILENT => {
            Some(format!("the sound is silent: its peak is {:.0} dB of full scale", decibels(peak)))
        }
        _ => None,
    }
}

/// Whether a channel swings round another value than zero, by 0.01 or more.
pub fn offset(sound: &Waveform) -> Option<String> {
    let found = sound.named().map(|(name, channel)| (name, mean(channel)));
    let found: Vec<String> =
        found.filter(|(_, mean)| mean.abs() >= OFFSET).map(|(name, mean)| format!("{mean:+.2} in {name}")).collect();
    (!found.is_empty()).then(|| format!("the sound is off its centre (DC offset): {}", found.join(", ")))
}

/// Whether samples lie beyond full scale, or three or more in a row at it.
pub fn clipping(sound: &Waveform) -> Option<String> {
    let clipped: usize = sound.channels.iter().map(|channel| clipped(channel)).sum();
    if clipped == 0 {
        return None;
    }
    let share = 100.0 * clipped as f64 / (sound.len() * sound.channels.len()) as f64;
    let peak = sound.channels.iter().flatten().map(|sample| sample.abs()).fold(0.0, f32::max);
    let above = if peak > 1.0 { format!(", the loudest {:+.1} dB above it", decibels(peak)) } else { String::new() };
    let (noun, verb) = if clipped == 1 { ("sample", "is") } else { ("samples", "are") };
    Some(format!("the sound clips: {clipped} {noun} ({share:.2} %) {verb} at full scale or beyond{above}"))
}

/// How many samples are beyond full scale, or in a flat top at it.
fn clipped(channel: &[f32]) -> usize {
    let tops = channel.chunk_by(|a, b| (a.abs() >= FULL) == (b.abs() >= FULL));
    let tops = tops.filter(|top| top[0].abs() >= FULL);
    let beyond = |top: &[f32]| top.iter().filter(|sample| sample.abs() > 1.0).count();
    tops.map(|top| if top.len() >= FLAT { top.len() } else { beyond(top) }).sum()
}

/// The mean of a channel, 0 where it has no sample.
fn mean(channel: &[f32]) -> f64 {
    channel.iter().map(|&sample| f64::from(sample)).sum::<f64>() / channel.len().max(1) as f64
}

/// An amplitude in decibels of full scale.
fn decibels(amplitude: f32) -> f32 {
    20.0 * amplitude.log10()
}
