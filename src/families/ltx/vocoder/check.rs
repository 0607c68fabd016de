//! Parses configurations, and refuses those that no vocoder could be built from.

use serde_json::{Map, Value};

use super::config::{ActivationKind, Config, ExtensionConfig, GeneratorConfig};
use crate::error::{Context, Error, Result};
use crate::families::check::Check;

const CHECK: Check = Check { network: "vocoder", hint: "fetch `vocoder/config.json` again from the model's page" };

/// Far above every released model, and low enough that products of two of them do not overflow.
const MOST_CHANNELS: usize = 1 << 16;
/// The longest kernel or filter.
const MOST_TAPS: usize = 1 << 12;
/// The most levels, blocks, and convolutions per block.
const MOST_LAYERS: usize = 32;
/// The highest sample rate: five times that of sound cards.
const MOST_RATE: u32 = 1 << 20;

impl Config {
    /// Parses and checks the text of a `config.json`. Its `_class_name` decides between the two classes;
    /// without it, the presence of keys of the second generator.
    ///
    /// # Errors
    /// Text that is not JSON, and the refusals of [`Config::check`].
    pub fn parse(text: &str) -> Result<Self> {
        let map: Map<String, Value> = serde_json::from_str(text).context(|| "it is not the JSON of a vocoder")?;
        let extended = match map.get("_class_name").and_then(Value::as_str) {
            Some("LTX2Vocoder") => false,
            Some("LTX2VocoderWithBWE") => true,
            None => map.keys().any(|key| key.starts_with("bwe_")),
            Some(other) => {
                return Err(Error::failed(format!("`{other}` is not a vocoder that talkie knows"))
                    .hint("LTX-2.0 has an `LTX2Vocoder`, LTX-2.3 an `LTX2VocoderWithBWE`"));
            }
        };
        let config = if extended { Self::extended(map)? } else { Self::plain(map)? };
        config.check()?;
        Ok(config)
    }

    /// Refuses sizes that no network could be built from.
    ///
    /// # Errors
    /// The key, what it must be, and its value.
    pub fn check(&self) -> Result<()> {
        self.generator.check("")?;
        CHECK.within("input_sampling_rate", self.generator_rate(), 1..=MOST_RATE)?;
        CHECK.within("output_sampling_rate", self.output_sampling_rate, 1..=MOST_RATE)?;
        self.extension.as_ref().map_or(Ok(()), |extension| self.check_extension(extension))
    }

    /// Refuses generators that do not fit each other.
    fn check_extension(&self, extension: &ExtensionConfig) -> Result<()> {
        extension.generator.check("bwe_")?;
        CHECK.within("filter_length", extension.filter_length, 2..=1 << 16)?;
        CHECK.within("hop_length", extension.hop_length, 1..=1 << 16)?;
        CHECK.within("window_length", extension.window_length, 1..=1 << 16)?;
        CHECK.within("num_mel_channels", extension.num_mel_channels, 1..=MOST_CHANNELS)?;
        let (low, high) = (extension.input_sampling_rate, self.output_sampling_rate);
        if !high.is_multiple_of(low) || high / low > 64 {
            let wanted = format!("1 to 64 times `input_sampling_rate`, {low}");
            return Err(CHECK.must("output_sampling_rate", wanted, high));
        }
        // One window per hop: otherwise the spectrogram and the audio differ in length.
        let ExtensionConfig { filter_length: filter, hop_length: hop, window_length: window, .. } = *extension;
        let silence = window.saturating_sub(hop);
        if silence + hop < filter || silence >= filter {
            let wanted = format!("{filter} to {}, for windows {hop} apart", filter + hop - 1);
            return Err(CHECK.must("window_length", wanted, window));
        }
        let (made, wanted) = (extension.generator.factor(), hop * (high / low) as usize);
        if made != wanted {
            return Err(CHECK.wrong(format!(
                "`bwe_upsample_factors` make {made} samples of a hop, where {hop} at {low} Hz are {wanted} at {high} Hz"
            )));
        }
        let channels = self.generator.out_channels;
        let (given, wanted) = (extension.generator.in_channels, channels * extension.num_mel_channels);
        if given != wanted {
            let wanted = format!("{wanted}, for {channels} channels of {} bins", extension.num_mel_channels);
            return Err(CHECK.must("bwe_in_channels", wanted, given));
        }
        CHECK.exactly("bwe_out_channels", extension.generator.out_channels, channels)
    }
}

impl GeneratorConfig {
    /// `prefix` is that of the generator's keys.
    fn check(&self, prefix: &str) -> Result<()> {
        let within = |name: &str, value, range| CHECK.within(&format!("{prefix}{name}"), value, range);
        within("in_channels", self.in_channels, 1..=MOST_CHANNELS)?;
        within("hidden_channels", self.hidden_channels, 1..=MOST_CHANNELS)?;
        within("out_channels", self.out_channels, 1..=64)?;
        let levels = self.upsample_factors.len();
        within("upsample_factors' length", levels, 1..=MOST_LAYERS)?;
        within("upsample_kernel_sizes' length", self.upsample_kernel_sizes.len(), levels..=levels)?;
        within("hidden_channels", self.hidden_channels, 1 << levels..=MOST_CHANNELS)?;
        for (&factor, &kernel) in self.upsample_factors.iter().zip(&self.upsample_kernel_sizes) {
            within("upsample_factors", factor, 1..=64)?;
            within("upsample_kernel_sizes", kernel, factor..=MOST_TAPS)?;
            if !(kernel - factor).is_multiple_of(2) {
                return Err(
                    CHECK.wrong(format!("a kernel of {kernel} cannot step up by {factor}: both odd or both even"))
                );
            }
        }
        let product = self.upsample_factors.iter().try_fold(1usize, |product, &factor| product.checked_mul(factor));
        within("upsample_factors' product", product.unwrap_or(usize::MAX), 1..=1 << 16)?;
        let blocks = self.resnet_kernel_sizes.len();
        within("resnet_kernel_sizes' length", blocks, 1..=MOST_LAYERS)?;
        within("resnet_dilations' length", self.resnet_dilations.len(), blocks..=blocks)?;
        for (&kernel, dilations) in self.resnet_kernel_sizes.iter().zip(&self.resnet_dilations) {
            within("resnet_kernel_sizes", kernel, 1..=MOST_TAPS)?;
            within("resnet_dilations", dilations.len(), 1..=MOST_LAYERS)?;
            dilations.iter().try_for_each(|&dilation| within("resnet_dilations", dilation, 1..=MOST_TAPS))?;
        }
        within("antialias_ratio", self.antialias_ratio, 1..=16)?;
        within("antialias_kernel_size", self.antialias_kernel_size, self.antialias_ratio + 1..=MOST_TAPS)?;
        if self.antialias && self.act_fn == ActivationKind::LeakyRelu {
            return Err(
                CHECK.wrong(format!("`{prefix}antialias` needs \"snake\" or \"snakebeta\", not \"leaky_relu\""))
            );
        }
        if !self.leaky_relu_negative_slope.is_finite() {
            let field = format!("{prefix}leaky_relu_negative_slope");
            return Err(CHECK.must(&field, "finite", self.leaky_relu_negative_slope));
        }
        Ok(())
    }
}
