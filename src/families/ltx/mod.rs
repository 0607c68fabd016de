//! LTX-2 (Lightricks, 2026): pictures and sound from one denoising, in the releases 2.0 and 2.3.

mod adaln;
mod attention;
pub mod audio_vae;
mod block;
pub mod config;
pub mod connectors;
mod costs;
pub mod dedup_text;
mod denoiser;
mod memory;
pub mod positions;
pub mod prompt;
pub mod rope;
mod stages;
pub mod tokens;
pub mod transformer;
pub mod upsampler;
pub mod vae;
pub mod vocoder;

use crate::error::{Error, Result};
use crate::families::family::Family;
use crate::families::text::gemma3;
use crate::media::Filter;
use crate::model::catalogue::{self, Entry, Task};
use crate::model::{Component, Model};
use crate::plan::{Facts, Heard, ImageUse, SoundFacts, Vocabulary};

/// Tokens that the text encoders read: the prompt is padded to them, and registers take the padding's place.
const TEXT_LENGTH: usize = 1024;

/// The class of diffusers that this family stands for.
const PIPELINES: [&str; 2] = ["LTX2Pipeline", "LTX2ImageToVideoPipeline"];

/// Channels of the audio autoencoder of every release.
const AUDIO_CHANNELS: usize = 8;

/// An LTX-2 model: its configurations and where its weights are.
#[derive(Debug)]
pub struct Ltx {
    model: Model,
    transformer: config::Config,
    connectors: connectors::Config,
    /// None where a file has all other parts: that is enough to decode.
    text: Option<gemma3::Config>,
    vae: vae::Config,
    /// None where the folder has no parts for it: the film is silent then.
    sound: Option<(audio_vae::Config, vocoder::Config)>,
    upsampler: Option<upsampler::Config>,
    /// The recipes, the model's own first.
    presets: Vec<(&'static str, Entry)>,
    /// Only a model of a little world says which words it knows.
    vocabulary: Option<Vocabulary>,
    named: bool,
}

impl Ltx {
    /// Whether a folder holds a model of this family.
    pub fn knows(model: &Model) -> bool {
        PIPELINES.contains(&model.pipeline.as_str())
    }

    /// Reads the configurations. `entry` is the catalogue's, where the model was asked for by name.
    ///
    /// # Errors
    /// A part that is missing or does not belong to the others.
    pub fn open(model: Model, entry: Option<&Entry>) -> Result<Self> {
        let part = |name: &str, class: &str| model.component(name)?.of_class(class);
        let transformer: config::Config = part("transformer", "LTX2VideoTransformer3DModel")?.config()?;
        transformer.check()?;
        let connectors: connectors::Config = part("connectors", "LTX2TextConnectors")?.config()?;
        connectors.check()?;
        let text = model.find("text_encoder").map(|part| gemma3::Config::from_json(&part.config)).transpose()?;
        text.iter().try_for_each(|text| connectors.check_encoder(text))?;
        let vae = vae::Config::parse(&json(part("vae", "AutoencoderKLLTX2Video")?))?;
        let sound = match (model.find("audio_vae"), model.find("vocoder")) {
            (Some(autoencoder), Some(vocoder)) => {
                let pair = (audio_vae::Config::parse(&json(autoencoder))?, vocoder::Config::parse(&json(vocoder))?);
                vocoder::check_pair(&pair.0, &pair.1)?;
                check_release(&transformer, &pair.1, vocoder)?;
                Some(pair)
            }
            _ => None,
        };
        let upsampler = model.find("latent_upsampler").map(Component::config).transpose()?;
        let presets = presets(&transformer, &model, entry)?;
        let boxed = entry.filter(|entry| entry.is_boxed());
        let vocabulary = boxed.map_or(Ok(None), |_| Vocabulary::in_folder(&model.folder))?;
        let named = entry.is_some();
        let ltx = Self { model, transformer, connectors, text, vae, sound, upsampler, presets, vocabulary, named };
        ltx.check_channels()?;
        Ok(ltx)
    }

    fn check_channels(&self) -> Result<()> {
        let config = &self.transformer;
        let audio = self.sound.as_ref().map_or(config.audio_in_channels, |(autoencoder, _)| autoencoder.width());
        if (config.in_channels, config.audio_in_channels) == (self.vae.latent_channels, audio) {
            return Ok(());
        }
        Err(Error::failed(format!(
            "the parts do not fit together: the transformer takes {} channels of pictures and {} of sound, the autoencoders \
             have {} and {audio}, in {}",
            config.in_channels,
            config.audio_in_channels,
            self.vae.latent_channels,
            self.model.folder.display()
        ))
        .hint("take all parts from one model; `talkie models` lists those that talkie runs"))
    }

    fn missing_sound(&self) -> String {
        let missing: Vec<&str> =
            ["audio_vae", "vocoder"].into_iter().filter(|name| self.model.find(name).is_none()).collect();
        format!("the film will be silent: the model's folder has no {}", missing.join(" and no "))
    }
}

impl Family for Ltx {
    fn facts(&self) -> Result<Facts> {
        let (_, own) = &self.presets[0];
        let config = &self.transformer;
        let channels = self.sound.as_ref().map_or(AUDIO_CHANNELS, |(autoencoder, _)| autoencoder.latent_channels);
        let width = config.audio_in_channels;
        let hop = config.audio_hop_length * config.audio_scale_factor;
        let rate = config.audio_sampling_rate as f64 / hop as f64;
        Ok(Facts {
            title: if self.named {
                own.title.clone()
            } else {
                self.model.name().unwrap_or_else(|| "this model".into())
            },
            spatial: self.vae.spatial_factor(),
            temporal: self.vae.temporal_factor(),
            patch: [1, 1, 1],
            longest: usize::MAX,
            least: self.vae.decoder_spatial_padding_mode.least_side(),
            channels: self.vae.latent_channels,
            text_length: TEXT_LENGTH,
            image: if own.tasks.contains(&Task::I2v) { ImageUse::Optional } else { ImageUse::None },
            image_becomes: "the first latent frame",
            filter: Filter::Bilinear,
            boundary: None,
            scheduler: self.model.component("scheduler")?.config()?,
            render: prompt::render,
            vocabulary: self.vocabulary.clone(),
            sound: Some(SoundFacts {
                rate: self.sound.as_ref().map_or(rate, |(autoencoder, _)| autoencoder.latents_per_second()),
                channels: if width.is_multiple_of(channels) { channels } else { 1 },
                width,
                heard: self.sound.as_ref().map(|(autoencoder, vocoder)| Heard {
                    rate: vocoder.output_sampling_rate,
                    channels: autoencoder.output_channels,
                }),
            }),
            silent: self.sound.is_none().then(|| self.missing_sound()),
            perturbs: config.perturbed_attn,
            upsamples: self.upsampler.is_some(),
            even_sigmas: true,
            tiling: vae::TILING,
            film: own.geometry.clone(),
            presets: self.presets.iter().map(|(name, entry)| ((*name).to_owned(), entry.sampling.clone())).collect(),
            own_shift: false,
        })
    }
}

/// Refuses the vocoder of another release: its numbers may fit, and its sound would be another all the same.
fn check_release(transformer: &config::Config, vocoder: &vocoder::Config, part: &Component) -> Result<()> {
    let release = |second: bool| if second { "LTX-2.3" } else { "LTX-2.0" };
    let (own, other) = (transformer.prompt_modulated(), vocoder.extension.is_some());
    if own == other {
        return Ok(());
    }
    Err(Error::failed(format!(
        "the vocoder (`{}`) is that of {}, and the transformer and the audio autoencoder are those of {}, in {}",
        vocoder.class_name(),
        release(other),
        release(own),
        part.folder.display()
    ))
    .hint("take `vocoder` and `audio_vae` from the same release of LTX-2"))
}

/// The configuration of a part as the text that it was read from.
fn json(component: &Component) -> String {
    component.config.to_string()
}

/// How to sample, by name: the recipe that the model was made for comes first.
fn presets(transformer: &config::Config, model: &Model, entry: Option<&Entry>) -> Result<Vec<(&'static str, Entry)>> {
    // What is trained for one way of sampling has no other: not those of the releases that it is shaped like.
    if let Some(entry) = entry.filter(|entry| entry.is_boxed()) {
        return Ok(vec![("", entry.clone())]);
    }
    let release = if transformer.prompt_modulated() { "ltx-2.3" } else { "ltx-2" };
    let dev = catalogue::find(release)?;
    let distilled = catalogue::find(&format!("{release}-distilled"))?;
    let name = entry.map_or_else(|| model.name().unwrap_or_default(), |entry| entry.name.clone());
    let mut presets = vec![("dev", dev), ("distilled", distilled)];
    if name.to_lowercase().contains("distilled") {
        presets.reverse();
    }
    if let Some(entry) = entry {
        presets[0].1 = entry.clone();
    }
    Ok(presets)
}
