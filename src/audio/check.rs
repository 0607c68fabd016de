//! Defects of audio, to report, not repair: clipping, silence, a DC offset.

use super::Waveform;

/// Full scale, less one step of 16 bits: the most that a clamp or tanh reaches.
const FULL: f32 = 32767.0 / 32768.0;
/// Samples at full scale in a row that count as clipped.
const FLAT: usize = 3;
/// The peak of silence: -60 dB of full scale.
const SILENT: f32 = 0.001;
/// The least DC offset to report, -40 dB of full scale: it clicks where the film begins and ends.
const OFFSET: f64 = 0.01;

/// One sentence per defect.
pub fn notes(sound: &Waveform) -> Vec<String> {
    [silence(sound), offset(sound), clipping(sound)].into_iter().flatten().collect()
}

/// Silence: every channel stays within 0.001 of its mean.
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

/// DC offset: the mean of a channel is 0.01 or more from zero.
pub fn offset(sound: &Waveform) -> Option<String> {
    let found = sound.named().map(|(name, channel)| (name, mean(channel)));
    let found: Vec<String> =
        found.filter(|(_, mean)| mean.abs() >= OFFSET).map(|(name, mean)| format!("{mean:+.2} in {name}")).collect();
    (!found.is_empty()).then(|| format!("the sound is off its centre (DC offset): {}", found.join(", ")))
}

/// Clipping: samples beyond full scale, or three or more in a row at it.
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

/// Number of clipped samples.
fn clipped(channel: &[f32]) -> usize {
    let tops = channel.chunk_by(|a, b| (a.abs() >= FULL) == (b.abs() >= FULL));
    let tops = tops.filter(|top| top[0].abs() >= FULL);
    let beyond = |top: &[f32]| top.iter().filter(|sample| sample.abs() > 1.0).count();
    tops.map(|top| if top.len() >= FLAT { top.len() } else { beyond(top) }).sum()
}

/// The mean of a channel; 0 if empty.
fn mean(channel: &[f32]) -> f64 {
    channel.iter().map(|&sample| f64::from(sample)).sum::<f64>() / channel.len().max(1) as f64
}

/// An amplitude in decibels of full scale.
fn decibels(amplitude: f32) -> f32 {
    20.0 * amplitude.log10()
}
