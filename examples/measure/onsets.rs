//! Onsets: the moments at which something begins to sound.

use candle_core::Device;
use talkie::audio::spectrum::Spectrum;
use talkie::error::Result;

use crate::films::RATE;

/// Samples of a window of the spectrum, and from one to the next: 16 and 5 ms.
const WINDOW: usize = 256;
const HOP: usize = 80;
const BANDS: usize = 32;
/// Windows between those whose difference is the flux: they overlap by a millisecond.
const BACK: usize = 3;
/// What is this much weaker than the film's loudest band is silence: a factor of e⁵, 43 dB.
const DEPTH: f32 = 5.0;
/// What is below this is silence in any film. The quietest touch of the little world reaches e^-3.7.
const SILENCE: f32 = -7.0;
/// Bands that rise most: no material sounds in all of them.
const MOST: usize = BANDS / 4;
/// Their mean rise, in factors of e, that is an onset. Rendered clips have 0.8 and more where there is a touch, and 0.35 at
/// most elsewhere.
const RISE: f32 = 0.6;
/// Windows on either side in which there is no second onset: 50 ms.
const APART: usize = 10;
/// The share of what follows that begins an onset, in energy.
const BEGINS: f32 = 0.1;

/// The onsets of sound at [`RATE`], in seconds.
///
/// # Errors
/// Those of candle.
pub(crate) fn onsets(sound: &[f32]) -> Result<Vec<f64>> {
    if sound.len() < 2 * WINDOW {
        return Ok(Vec::new());
    }
    let spectrum = Spectrum::slaney(RATE, BANDS, WINDOW, HOP, &Device::Cpu)?;
    let mut bands = spectrum.centred(sound)?.to_vec2::<f32>()?;
    let loudest = bands.iter().flatten().copied().fold(f32::MIN, f32::max);
    let floor = (loudest - DEPTH).max(SILENCE);
    bands.iter_mut().flatten().for_each(|value| *value = value.max(floor));
    let flux: Vec<f32> = (0..bands.len()).map(|at| rise(&bands, at)).collect();
    let peak = |&at: &usize| {
        let near = &flux[at.saturating_sub(APART)..flux.len().min(at + APART + 1)];
        flux[at] > RISE && near.iter().all(|&other| other <= flux[at])
    };
    // The last window is mirrored, which has an edge.
    Ok((0..flux.len() - BACK).filter(peak).map(|at| begin(sound, at * HOP)).collect())
}

/// How much louder the bands are than shortly before. A band is compared with its neighbours too, so that a tone which
/// glides is no onset (Böck and Widmer, 2013).
fn rise(bands: &[Vec<f32>], at: usize) -> f32 {
    let before = |band: usize| match at.checked_sub(BACK) {
        Some(before) => {
            bands[before][band.saturating_sub(1)..BANDS.min(band + 2)].iter().copied().fold(f32::MIN, f32::max)
        }
        None => bands[at][band],
    };
    let mut rises: Vec<f32> = (0..BANDS).map(|band| (bands[at][band] - before(band)).max(0.0)).collect();
    rises.sort_by(f32::total_cmp);
    rises[BANDS - MOST..].iter().sum::<f32>() / MOST as f32
}

/// When it begins exactly: the first millisecond around a sample whose energy rises above what was there before.
fn begin(sound: &[f32], around: usize) -> f64 {
    let step = RATE as usize / 1000;
    let energy = |at: usize| sound.iter().skip(at * step).take(step).map(|x| x * x).sum::<f32>();
    let middle = around / step;
    let loudest = |from: usize, to: usize| (from..to).map(energy).fold(0.0, f32::max);
    let (before, after) = (
        loudest(middle.saturating_sub(30), middle.saturating_sub(15)),
        loudest(middle.saturating_sub(15), middle + 20),
    );
    let enough = before + BEGINS * (after - before).max(0.0);
    let first = (middle.saturating_sub(15)..middle + 20).find(|&at| energy(at) > enough).unwrap_or(middle);
    first as f64 / 1000.0
}
