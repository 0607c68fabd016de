//! Flags that several commands share.

use std::collections::BTreeMap;
use std::path::PathBuf;

use talkie::error::{Error, Result};
use talkie::fps::Fps;

/// How a film is computed: `generate`, `decode` and `bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// Other weights for the autoencoder
    #[arg(long, value_name = "FILE")]
    pub vae: Option<PathBuf>,
    /// Frames per second [default: those of the latents' recipe, or the model's]
    #[arg(long, value_name = "F", allow_hyphen_values = true, value_parser = super::typed::<Fps>)]
    pub fps: Option<Fps>,
    /// A parameter that has no flag of its own, such as tile=256; `generate --plan` lists them
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Memory that may be used, such as 8GB [default: what is free]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = super::bytes)]
    pub memory: Option<u64>,
    /// cpu, cuda, cuda:N or metal [default: the best there is]
    #[arg(long)]
    pub device: Option<String>,
    /// f32, bf16 or f16 [default: f32 on a CPU, bf16 elsewhere]
    #[arg(long)]
    pub dtype: Option<String>,
}

/// What is shown of a film: `generate` and `decode`.
#[derive(Debug, clap::Args)]
pub(super) struct Shown {
    /// A picture of the film's frames side by side, with its sound beneath them
    #[arg(long, value_name = "FILE.png")]
    pub contact_sheet: Option<PathBuf>,
    /// Events on stdout, one JSON object a line
    #[arg(long, display_order = 100)]
    pub json: bool,
}

impl Common {
    /// What `--set` was given, each key once.
    pub(super) fn set(&self) -> Result<BTreeMap<String, String>> {
        let mut set = BTreeMap::new();
        for (key, value) in &self.set {
            if set.insert(key.clone(), value.clone()).is_some() {
                return Err(Error::usage(format!("`--set {key}` was given twice")).hint("leave one of them out"));
            }
        }
        Ok(set)
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| format!("`{text}` is not KEY=VALUE: write it as `--set tile=256`"))?;
    Ok((key.trim().replace('-', "_"), value.to_owned()))
}
