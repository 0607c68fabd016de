//! The Wan family: Wan 2.1 and Wan 2.2, text and picture to video (Wan Team, 2025, arXiv:2503.20314).

mod block;
pub mod config;
mod costs;
mod memory;
mod stages;
pub mod transformer;
pub mod vae;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::families::family::Family;
use crate::families::text::umt5;
use crate::media::Filter;
use crate::model::Model;
use crate::model::catalogue::{self, Entry};
use crate::plan::Tiling;
use crate::plan::{Facts, ImageUse};

/// Tokens that the transformers were trained to read.
const TEXT_LENGTH: usize = 512;

/// The classes that this family stands for: two of diffusers, and that of FastVideo for its distilled models.
const PIPELINES: [&str; 3] = ["WanPipeline", "WanImageToVideoPipeline", "WanDMDPipeline"];

/// A Wan model: its configurations and where its weights are.
#[derive(Debug)]
pub struct Wan {
    model: Model,
    transformer: config::Config,
    vae: vae::Config,
    text: umt5::Config,
    boundary: Option<f64>,
    /// The tokens of a first picture are told that they are at time 0 (TI2V-5B).
    expand_timesteps: bool,
    defaults: Entry,
    named: bool,
}

impl Wan {
    /// Whether a folder holds a model of this family.
    pub fn knows(model: &Model) -> bool {
        PIPELINES.contains(&model.pipeline.as_str())
    }

    /// Reads the configurations. `entry` is the catalogue's, where the model was asked for by name.
    ///
    /// # Errors
    /// A part that is missing or does not belong to this family.
    pub fn open(model: Model, entry: Option<Entry>) -> Result<Self> {
        let part = |name: &str, class: &str| model.component(name)?.of_class(class);
        let transformer: config::Config = part("transformer", "WanTransformer3DModel")?.config()?;
        transformer.check()?;
        let vae: vae::Config = part("vae", "AutoencoderKLWan")?.config()?;
        vae.check()?;
        let text: umt5::Config = part("text_encoder", "UMT5EncoderModel")?.config()?;
        text.check()?;
        let boundary = model.index.get("boundary_ratio").and_then(Value::as_f64);
        let second = model.find("transformer_2").map(|second| second.of_class("WanTransformer3DModel")).transpose()?;
        if boundary.is_some() != second.is_some() {
            return Err(Error::failed(format!(
                "`model_index.json` must name both `transformer_2` and `boundary_ratio`, or neither, in {}",
                model.folder.display()
            ))
            .hint("fetch `model_index.json` and the folders of both transformers again"));
        }
        if let Some(second) = second {
            let second: config::Config = second.config()?;
            if second != transformer {
                return Err(Error::failed(format!(
                    "the two transformers have different shapes, in {}",
                    model.folder.display()
                ))
                .hint("fetch `model_index.json` and the folders of both transformers again"));
            }
        }
        let expand_timesteps = model.index.get("expand_timesteps").and_then(Value::as_bool).unwrap_or(false);
        let named = entry.is_some();
        let defaults = match entry {
            Some(entry) => entry,
            None => catalogue::find(likeness(&transformer, boundary, expand_timesteps))?,
        };
        let wan = Self { model, transformer, vae, text, boundary, expand_timesteps, defaults, named };
        wan.check_channels()?;
        Ok(wan)
    }

    fn check_channels(&self) -> Result<()> {
        let (z, config) = (self.vae.z_dim, &self.transformer);
        let inputs = if self.reads_mask() { 2 * z + self.vae.temporal_factor() } else { z };
        if config.in_channels != inputs || config.out_channels != z || config.text_dim != self.text.d_model {
            return Err(Error::failed(format!(
                "the parts do not fit together: the transformer takes {} channels, makes {} and reads text of width {}, the \
                 autoencoder has {z} channels and the text encoder a width of {}, in {}",
                config.in_channels,
                config.out_channels,
                config.text_dim,
                self.text.d_model,
                self.model.folder.display()
            ))
            .hint("take all parts from one model; `talkie models` lists those that talkie runs"));
        }
        Ok(())
    }

    /// Whether the transformer takes a mask and a picture's latents besides the noisy ones (I2V-A14B).
    fn reads_mask(&self) -> bool {
        self.transformer.in_channels != self.transformer.out_channels
    }

    /// How to sample, by name. A recipe that the name of a folder or repository tells of comes first: its weights are for it.
    fn presets(&self) -> Vec<(String, catalogue::Sampling)> {
        let name = if self.named { String::new() } else { self.model.name().unwrap_or_default().to_lowercase() };
        let mut presets = self.defaults.presets();
        presets.sort_by_key(|(preset, _)| preset.is_empty() || !name.contains(preset.as_str()));
        presets
    }
}

impl Family for Wan {
    fn facts(&self) -> Result<Facts> {
        let image = match (self.reads_mask(), self.expand_timesteps) {
            (true, _) => ImageUse::Required,
            (false, true) => ImageUse::Optional,
            (false, false) => ImageUse::None,
        };
        Ok(Facts {
            title: if self.named {
                self.defaults.title.clone()
            } else {
                self.model.name().unwrap_or_else(|| "this model".into())
            },
            spatial: self.vae.spatial_factor(),
            temporal: self.vae.temporal_factor(),
            patch: self.transformer.patch_size,
            longest: self.transformer.rope_max_seq_len,
            least: 1,
            channels: self.vae.z_dim,
            text_length: TEXT_LENGTH,
            image,
            image_becomes: if self.reads_mask() {
                "a mask and latents beside the noisy ones"
            } else {
                "the first latent frame"
            },
            filter: Filter::Lanczos,
            boundary: self.boundary,
            scheduler: self.model.component("scheduler")?.config()?,
            film: self.defaults.geometry.clone(),
            render: |request| request.prompt.clone(),
            vocabulary: None,
            sound: None,
            silent: None,
            perturbs: false,
            upsamples: false,
            even_sigmas: false,
            tiling: Tiling::default(),
            presets: self.presets(),
            own_shift: self.named,
        })
    }
}

/// The released model that a folder is most like: the one whose sampling defaults it gets.
fn likeness(transformer: &config::Config, boundary: Option<f64>, expand_timesteps: bool) -> &'static str {
    match (transformer.in_channels != transformer.out_channels, boundary.is_some(), expand_timesteps) {
        (true, _, _) => "wan2.2-i2v-a14b",
        (_, true, _) => "wan2.2-t2v-a14b",
        (_, _, true) => "wan2.2-ti2v-5b",
        _ if transformer.num_layers >= 40 => "wan2.1-t2v-14b",
        _ => "wan2.1-t2v-1.3b",
    }
}
