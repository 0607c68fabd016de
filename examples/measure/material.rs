//! What is struck, told from how it sounds: the nearest of the means of rendered clips.

use std::collections::BTreeMap;

use candle_core::Device;
use talkie::audio::spectrum::Spectrum;
use talkie::error::Result;

use crate::films::RATE;

/// Samples of a window of the spectrum, and from one to the next: 32 and 10 ms.
const WINDOW: usize = 512;
const HOP: usize = 160;
const BANDS: usize = 24;
/// Windows after an onset that are taken together: the stroke, what follows, what rings on.
const SPANS: [std::ops::Range<usize>; 3] = [0..3, 3..8, 8..16];
/// What is this much weaker than the loudest band is silence, in factors of e.
const DEPTH: f32 = 4.0;

type Features = Vec<f32>;

/// The mean sound of each material.
#[derive(Debug, Default)]
pub(crate) struct Materials {
    sums: BTreeMap<String, (Features, f32)>,
}

impl Materials {
    /// Takes a rendered clip in.
    ///
    /// # Errors
    /// Those of candle.
    pub(crate) fn learn(&mut self, sound: &[f32], onsets: &[f64], material: &str) -> Result<()> {
        for features in features(sound, onsets)? {
            let (sum, count) = self.sums.entry(material.to_owned()).or_insert_with(|| (vec![0.0; features.len()], 0.0));
            sum.iter_mut().zip(features).for_each(|(sum, value)| *sum += value);
            *count += 1.0;
        }
        Ok(())
    }

    /// The material that a film sounds of, over all of its onsets; none where nothing is heard, or nothing was learnt.
    ///
    /// # Errors
    /// Those of candle.
    pub(crate) fn tell(&self, sound: &[f32], onsets: &[f64]) -> Result<Option<&str>> {
        let heard = features(sound, onsets)?;
        if heard.is_empty() {
            return Ok(None);
        }
        let away = |(sum, count): &(Features, f32)| -> f32 {
            heard.iter().flat_map(|one| one.iter().zip(sum)).map(|(value, sum)| (value - sum / count).powi(2)).sum()
        };
        let nearest = self.sums.iter().min_by(|a, b| away(a.1).total_cmp(&away(b.1)));
        Ok(nearest.map(|(name, _)| name.as_str()))
    }
}

/// Of each onset: the logarithmic bands of each span, relative to the loudest of all, so that loudness does not matter.
fn features(sound: &[f32], onsets: &[f64]) -> Result<Vec<Features>> {
    if sound.len() < 2 * WINDOW || onsets.is_empty() {
        return Ok(Vec::new());
    }
    let bands = Spectrum::slaney(RATE, BANDS, WINDOW, HOP, &Device::Cpu)?.centred(sound)?.to_vec2::<f32>()?;
    let mut all = Vec::new();
    for (index, onset) in onsets.iter().enumerate() {
        // The windows that have their middle after the onset, and before the next.
        let window = |time: &f64| (time * f64::from(RATE) / HOP as f64).ceil() as usize;
        let end = onsets.get(index + 1).map_or(bands.len(), window).min(bands.len());
        let after = &bands[window(onset).min(end)..end];
        let Some(last) = SPANS[2].end.checked_sub(1).filter(|last| *last < after.len()) else { continue };
        let loudest = after[..=last].iter().flatten().copied().fold(f32::MIN, f32::max);
        let mean = |span: &std::ops::Range<usize>, band: usize| {
            let windows = &after[span.clone()];
            let sum: f32 = windows.iter().map(|window| (window[band] - loudest).max(-DEPTH)).sum();
            sum / windows.len() as f32
        };
        all.push(
            SPANS.iter().flat_map(|span| (0..BANDS).map(move |band| (span, band))).map(|(s, b)| mean(s, b)).collect(),
        );
    }
    Ok(all)
}
