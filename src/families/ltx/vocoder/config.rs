//! Configuration of a vocoder: `vocoder/config.json`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Context, Result};

/// The fields of diffusers' `LTX2Vocoder` (2.0) and `LTX2VocoderWithBWE` (2.3).
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The generator: mel spectrogram to samples.
    pub generator: GeneratorConfig,
    /// Bandwidth extension (2.3): raises the sample rate.
    pub extension: Option<ExtensionConfig>,
    /// Samples per second of the output.
    pub output_sampling_rate: u32,
}

/// A generator's fields, as in diffusers' `LTX2Vocoder`. Unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GeneratorConfig {
    /// Values per row of the mel spectrogram: audio channels times bins.
    pub in_channels: usize,
    /// Channels before the first level; each level halves them.
    pub hidden_channels: usize,
    /// Audio channels.
    pub out_channels: usize,
    /// Kernel of each level's upsampling.
    pub upsample_kernel_sizes: Vec<usize>,
    /// Upsampling factor of each level.
    pub upsample_factors: Vec<usize>,
    /// Kernel of each of the parallel residual blocks of a level.
    pub resnet_kernel_sizes: Vec<usize>,
    /// Dilations of the convolutions in each of those blocks.
    pub resnet_dilations: Vec<Vec<usize>>,
    /// Activation.
    pub act_fn: ActivationKind,
    /// Negative slope of a leaky ReLU.
    pub leaky_relu_negative_slope: f64,
    /// Whether the activations of residual blocks are anti-aliased.
    pub antialias: bool,
    /// Oversampling factor of the anti-aliasing.
    pub antialias_ratio: usize,
    /// Length of its filters, in samples.
    pub antialias_kernel_size: usize,
    /// Activation on the output samples.
    pub final_act_fn: Option<EndKind>,
    /// Whether the last convolution has a bias.
    pub final_bias: bool,
}

/// The activations of a generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationKind {
    /// Leaky ReLU, as in HiFi-GAN (Kong et al., 2020).
    LeakyRelu,
    /// Snake: one parameter per channel, α.
    Snake,
    /// SnakeBeta: α and β, as in BigVGAN.
    Snakebeta,
}

/// Output activations, to [−1, 1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndKind {
    /// The hyperbolic tangent.
    Tanh,
    /// Clamping.
    Clamp,
}

/// Bandwidth extension: a second generator, from the mel spectrogram of the first one's audio, whose output
/// is added to the resampled audio.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtensionConfig {
    /// The second generator: the keys with the prefix `bwe_`.
    pub generator: GeneratorConfig,
    /// Samples per window of the Fourier transform.
    pub filter_length: usize,
    /// Samples between windows.
    pub hop_length: usize,
    /// Samples; minus a hop, the silence before the first sample.
    pub window_length: usize,
    /// Mel bins per audio channel.
    pub num_mel_channels: usize,
    /// Samples per second of the first generator's audio.
    pub input_sampling_rate: u32,
}

impl Default for GeneratorConfig {
    /// The defaults of `LTX2Vocoder`: those of 2.0.
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

/// The keys of `LTX2VocoderWithBWE` outside the generators, with its defaults.
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
    /// The defaults of the first generator of `LTX2VocoderWithBWE`: those of 2.3.
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

    /// The defaults of the second generator of `LTX2VocoderWithBWE`.
    pub fn second() -> Self {
        Self {
            hidden_channels: 512,
            upsample_kernel_sizes: vec![12, 11, 4, 4, 4],
            upsample_factors: vec![6, 5, 2, 2, 2],
            ..Self::first()
        }
    }

    /// Overrides fields by `keys`.
    fn with(self, keys: impl Iterator<Item = (String, Value)>) -> Result<Self> {
        let Ok(Value::Object(mut map)) = serde_json::to_value(self) else { return Ok(Self::default()) };
        map.extend(keys);
        serde_json::from_value(Value::Object(map)).context(|| "it is not the JSON of a vocoder")
    }

    /// Samples per row of the mel spectrogram.
    pub fn factor(&self) -> usize {
        self.upsample_factors.iter().product()
    }
}

impl Config {
    /// From the keys of `LTX2Vocoder`.
    pub(super) fn plain(map: Map<String, Value>) -> Result<Self> {
        let rate = map.get("output_sampling_rate").map_or(Some(24_000), Value::as_u64);
        let rate = rate.and_then(|rate| u32::try_from(rate).ok()).unwrap_or(0);
        let generator = GeneratorConfig::default().with(map.into_iter())?;
        Ok(Self { generator, extension: None, output_sampling_rate: rate })
    }

    /// From the keys of `LTX2VocoderWithBWE`.
    pub(super) fn extended(map: Map<String, Value>) -> Result<Self> {
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

    /// Values of the largest intermediate signal for a mel spectrogram of `rows` rows.
    pub fn signal(&self, rows: usize) -> usize {
        VALUES.min(rows.saturating_mul(widest(&self.generator)))
    }

    /// Its class in diffusers.
    pub fn class_name(&self) -> &'static str {
        if self.extension.is_some() { "LTX2VocoderWithBWE" } else { "LTX2Vocoder" }
    }

    /// Samples per second of the first generator's output.
    pub fn generator_rate(&self) -> u32 {
        self.extension.as_ref().map_or(self.output_sampling_rate, |extension| extension.input_sampling_rate)
    }
}

/// Limit on the values of an intermediate signal: 16 MiB in f32, of which about ten exist at once.
pub(super) const VALUES: usize = 4 << 20;

/// The most values per row in any level.
pub(super) fn widest(config: &GeneratorConfig) -> usize {
    let mut length = 1;
    let levels = config.upsample_factors.iter().enumerate().map(|(level, factor)| {
        length *= factor;
        length * (config.hidden_channels >> (level + 1))
    });
    levels.fold(config.hidden_channels, usize::max)
}
