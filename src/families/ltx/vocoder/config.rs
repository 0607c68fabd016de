//! What `vocoder/config.json` says of a vocoder.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Context, Error, Result};

/// The shape of a vocoder: diffusers' `LTX2Vocoder` (2.0) and `LTX2VocoderWithBWE` (2.3).
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What makes samples of the spectrum.
    pub generator: GeneratorConfig,
    /// What raises their rate: in 2.3.
    pub extension: Option<ExtensionConfig>,
    /// Samples per second that come out.
    pub output_sampling_rate: u32,
}

/// The shape of a network that makes samples of a spectrum, with the names of diffusers' `LTX2Vocoder`.
///
/// Unknown keys are passed over: every release of diffusers adds some that change nothing here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GeneratorConfig {
    /// Values of the spectrum per row: channels times bins.
    pub in_channels: usize,
    /// Channels before the first level; each level halves them.
    pub hidden_channels: usize,
    /// Channels of sound.
    pub out_channels: usize,
    /// Kernel of each level's step up.
    pub upsample_kernel_sizes: Vec<usize>,
    /// Samples that one becomes, in each level.
    pub upsample_factors: Vec<usize>,
    /// Kernel of each of the residual blocks that a level has side by side.
    pub resnet_kernel_sizes: Vec<usize>,
    /// Dilations of the convolutions of each of those blocks.
    pub resnet_dilations: Vec<Vec<usize>>,
    /// What stands between convolutions.
    pub act_fn: ActivationKind,
    /// How much of a negative number a leaky rectifier lets through.
    pub leaky_relu_negative_slope: f64,
    /// Whether the activations inside residual blocks are guarded against aliasing.
    pub antialias: bool,
    /// How many times higher the rate is inside that guard.
    pub antialias_ratio: usize,
    /// Length of its filters.
    pub antialias_kernel_size: usize,
    /// What the samples end with.
    pub final_act_fn: Option<EndKind>,
    /// Whether the last convolution has a bias.
    pub final_bias: bool,
}

/// The activations of a generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationKind {
    /// The rectifier of HiFi-GAN (Kong et al., 2020).
    LeakyRelu,
    /// Snake with one parameter inside the residual blocks.
    Snake,
    /// Snake with two, as in BigVGAN.
    Snakebeta,
}

/// What holds samples in [−1, 1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndKind {
    /// The hyperbolic tangent.
    Tanh,
    /// The nearer end.
    Clamp,
}

/// What raises the rate of a vocoder's sound: a second generator, from the spectrum of the first one's sound, on top of
/// that sound resampled.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtensionConfig {
    /// The second generator: the keys that begin with `bwe_`.
    pub generator: GeneratorConfig,
    /// Samples of a window of the Fourier transform.
    pub filter_length: usize,
    /// Samples from one window to the next.
    pub hop_length: usize,
    /// What remains of it after a hop is the silence before the first sample.
    pub window_length: usize,
    /// Bins of the spectrum, per channel.
    pub num_mel_channels: usize,
    /// Samples per second of the first generator's sound.
    pub input_sampling_rate: u32,
}

impl Default for GeneratorConfig {
    /// The defaults of `LTX2Vocoder`, which are those of the release 2.0.
    fn default() -> Self {
        Self {
            in_channels: 128,
            hidden_channels: 1024,
            out_channels: 2,
            upsample_kernel_sizes: vec![16, 15, 8, 4, 4],
            upsample_factors: vec![6, 5, 2, 2, 2],
            resnet_kernel_sizes: vec![3, 7, 11],
            resnet_dilations: vec![vec![1, 3, 5]; 3],
            act_fn: ActivationKind::LeakyRelu,
            leaky_relu_negative_slope: 0.1,
            antialias: false,
            antialias_ratio: 2,
            antialias_kernel_size: 12,
            final_act_fn: Some(EndKind::Tanh),
            final_bias: true,
        }
    }
}

/// The keys of `LTX2VocoderWithBWE` that are no generator's, with its defaults.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Spectrum {
    filter_length: usize,
    hop_length: usize,
    window_length: usize,
    num_mel_channels: usize,
    input_sampling_rate: u32,
    output_sampling_rate: u32,
}

impl Default for Spectrum {
    fn default() -> Self {
        Self {
            filter_length: 512,
            hop_length: 80,
            window_length: 512,
            num_mel_channels: 64,
            input_sampling_rate: 16_000,
            output_sampling_rate: 48_000,
        }
    }
}

impl GeneratorConfig {
    /// The defaults of the first generator of `LTX2VocoderWithBWE`, which are those of the release 2.3.
    pub fn first() -> Self {
        Self {
            hidden_channels: 1536,
            upsample_kernel_sizes: vec![11, 4, 4, 4, 4, 4],
            upsample_factors: vec![5, 2, 2, 2, 2, 2],
            act_fn: ActivationKind::Snakebeta,
            antialias: true,
            final_act_fn: None,
            final_bias: false,
            ..Self::default()
        }
    }

    /// The defaults of the second.
    pub fn second() -> Self {
        Self {
            hidden_channels: 512,
            upsample_kernel_sizes: vec![12, 11, 4, 4, 4],
            upsample_factors: vec![6, 5, 2, 2, 2],
            ..Self::first()
        }
    }

    /// This configuration with the values of `keys` in place of its own.
    fn with(self, keys: impl Iterator<Item = (String, Value)>) -> Result<Self> {
        let Ok(Value::Object(mut map)) = serde_json::to_value(self) else { return Ok(Self::default()) };
        map.extend(keys);
        serde_json::from_value(Value::Object(map)).context(|| "it is not the JSON of a vocoder")
    }

    /// Samples per row of the spectrum.
    pub fn factor(&self) -> usize {
        self.upsample_factors.iter().product()
    }
}

impl Config {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// A file that cannot be read, is not JSON, or describes no network that could be built.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).context(|| format!("cannot use the vocoder's configuration {}", path.display()))
    }

    /// The configuration in the JSON of `text`, checked. `_class_name` says which of the two it is; without it, the keys
    /// of the second generator do.
    ///
    /// # Errors
    /// Text that is not JSON, or that describes no network that could be built.
    pub fn parse(text: &str) -> Result<Self> {
        let map: Map<String, Value> = serde_json::from_str(text).context(|| "it is not the JSON of a vocoder")?;
        let extended = match map.get("_class_name").and_then(Value::as_str) {
            Some("LTX2Vocoder") => false,
            Some("LTX2VocoderWithBWE") => true,
            None => map.keys().any(|key| key.starts_with("bwe_")),
            Some(other) => {
                return Err(Error::failed(format!("`{other}` is no vocoder that talkie knows"))
                    .hint("LTX-2.0 has an `LTX2Vocoder`, LTX-2.3 an `LTX2VocoderWithBWE`"));
            }
        };
        let config = if extended { Self::extended(map)? } else { Self::plain(map)? };
        config.check()?;
        Ok(config)
    }

    fn plain(map: Map<String, Value>) -> Result<Self> {
        let rate = map.get("output_sampling_rate").map_or(Some(24_000), Value::as_u64);
        let rate = rate.and_then(|rate| u32::try_from(rate).ok()).unwrap_or(0);
        let generator = GeneratorConfig::default().with(map.into_iter())?;
        Ok(Self { generator, extension: None, output_sampling_rate: rate })
    }

    fn extended(map: Map<String, Value>) -> Result<Self> {
        let second = map.iter().filter_map(|(key, value)| Some((key.strip_prefix("bwe_")?.to_owned(), value.clone())));
        let second = GeneratorConfig::second().with(second)?;
        let spectrum: Spectrum =
            serde_json::from_value(Value::Object(map.clone())).context(|| "it is not the JSON of a vocoder")?;
        let extension = ExtensionConfig {
            generator: second,
            filter_length: spectrum.filter_length,
            hop_length: spectrum.hop_length,
            window_length: spectrum.window_length,
            num_mel_channels: spectrum.num_mel_channels,
            input_sampling_rate: spectrum.input_sampling_rate,
        };
        let generator = GeneratorConfig::first().with(map.into_iter())?;
        Ok(Self { generator, extension: Some(extension), output_sampling_rate: spectrum.output_sampling_rate })
    }

    /// Values of the largest signal that exists at one time, while a spectrum of so many rows becomes sound.
    pub fn signal(&self, rows: usize) -> usize {
        signal(&self.generator, rows)
    }

    /// The class of diffusers that it describes.
    pub fn class_name(&self) -> &'static str {
        if self.extension.is_some() { "LTX2VocoderWithBWE" } else { "LTX2Vocoder" }
    }

    /// Samples per second that the first generator makes.
    pub fn generator_rate(&self) -> u32 {
        self.extension.as_ref().map_or(self.output_sampling_rate, |extension| extension.input_sampling_rate)
    }
}

/// Values of the largest signal that exists at one time: 16 MiB in f32, of which a piece needs about ten.
pub(super) const VALUES: usize = 4 << 20;

/// Values of the largest signal that exists at one time, while `rows` rows of a spectrum become samples.
fn signal(config: &GeneratorConfig, rows: usize) -> usize {
    VALUES.min(rows.saturating_mul(widest(config)))
}

/// The most values that any level makes of a row.
pub(super) fn widest(config: &GeneratorConfig) -> usize {
    let mut length = 1;
    let levels = config.upsample_factors.iter().enumerate().map(|(level, factor)| {
        length *= factor;
        length * (config.hidden_channels >> (level + 1))
    });
    levels.fold(config.hidden_channels, usize::max)
}
