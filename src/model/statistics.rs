//! Mean and standard deviation of each latent channel: they map between the spaces of a transformer and of
//! the autoencoder that it was trained with. Between two releases they differ even where all shapes agree.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use super::component::Component;
use crate::error::{Error, Result};
use crate::weights::Weights;

/// Relative tolerance between copies of one number: bf16 keeps eight bits of it.
const NEAR: f64 = 0.01;

const NAMES: [&str; 2] = ["latents_mean", "latents_std"];

/// (mean, standard deviation) of each channel.
type Statistics = Vec<(f64, f64)>;

/// Checks the means and standard deviations of `channels` latent channels.
///
/// # Errors
/// Other lengths, a value that is not finite, a deviation that is not above 0.
pub(crate) fn check_values(mean: &[f64], std: &[f64], channels: usize) -> Result<(), String> {
    let finite = mean.iter().chain(std).all(|value| value.is_finite()) && std.iter().all(|std| *std > 0.0);
    if (mean.len(), std.len()) == (channels, channels) && finite {
        return Ok(());
    }
    Err(format!("`latents_mean` must be {channels} finite numbers, and `latents_std` {channels} above 0"))
}

/// Refuses the autoencoder of another release in place of a model's own, where the statistics of both are
/// known.
///
/// # Errors
/// The first channel that differs, with the numbers of both; statistics that [`check_values`] refuses.
pub(super) fn compare(own: &Component, other: &Component, with: &Path) -> Result<()> {
    let (Some(wanted), Some(found)) = (of(own)?, of(other)?) else { return Ok(()) };
    let near = |a: f64, b: f64| (a - b).abs() <= NEAR * a.abs().max(b.abs()) + 1e-6;
    if wanted.len() != found.len() {
        // The error about shapes says this better.
        return Ok(());
    }
    let mut pairs = wanted.iter().zip(&found).enumerate();
    let apart = pairs.find(|(_, (wanted, found))| !(near(wanted.0, found.0) && near(wanted.1, found.1)));
    let Some((channel, (wanted, found))) = apart else { return Ok(()) };
    Err(Error::failed(format!(
        "the autoencoder is of another release than the model: channel {channel} of the latents has a mean of {} and a deviation \
         of {} in {}, where the model's own has {} and {}, in {}",
        found.0,
        found.1,
        with.display(),
        wanted.0,
        wanted.1,
        own.folder.display()
    ))
    .hint("take the autoencoder of the model's own release, or leave `--vae` out"))
}

/// Checks an autoencoder's statistics, where they are known.
///
/// # Errors
/// As [`check_values`].
pub(super) fn check(part: &Component) -> Result<()> {
    of(part).map(drop)
}

/// An autoencoder's statistics: from its configuration (Wan) or stored with its weights (LTX-2). `None` where
/// neither has them, or the files are not here yet.
fn of(part: &Component) -> Result<Option<Statistics>> {
    let Some([mean, std]) = (match configured(part) {
        Some(configured) => Some(configured),
        None if part.files.iter().all(|file| file.path.is_file()) => stored(part)?,
        None => None,
    }) else {
        return Ok(None);
    };
    let channels = ["z_dim", "latent_channels"].iter().find_map(|key| part.config.get(*key)?.as_u64());
    let wanted = channels.map_or(mean.len(), |channels| channels as usize);
    check_values(&mean, &std, wanted).map_err(|why| {
        Error::failed(format!("{why}, in {}", part.folder.display()))
            .hint("the autoencoder is damaged, or made from two: fetch the folder `vae` of the model again")
    })?;
    Ok(Some(mean.into_iter().zip(std).collect()))
}

/// The statistics in the configuration.
fn configured(part: &Component) -> Option<[Vec<f64>; 2]> {
    let values = |name: &str| part.config.get(name)?.as_array()?.iter().map(Value::as_f64).collect::<Option<Vec<_>>>();
    Some([values(NAMES[0])?, values(NAMES[1])?])
}

/// The statistics stored with the weights.
fn stored(part: &Component) -> Result<Option<[Vec<f64>; 2]>> {
    let weights = part.weights(&Device::Cpu, DType::F32)?;
    let values = |weights: &Weights, name: &str| -> Result<Option<Vec<f64>>> {
        let shape = weights.tensors().find(|(other, _)| *other == name).map(|(_, stored)| stored.shape.clone());
        let Some(shape) = shape.filter(|shape| shape.len() == 1) else { return Ok(None) };
        let tensor: Tensor = weights.f32(name, shape)?;
        Ok(Some(tensor.to_vec1::<f32>()?.into_iter().map(f64::from).collect()))
    };
    let [mean, std] = NAMES.map(|name| values(&weights, name));
    Ok(mean?.zip(std?).map(|(mean, std)| [mean, std]))
}
