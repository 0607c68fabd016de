//! What a vocoder's configuration must fulfil: it is foreign, and sizes follow from it.

use super::config::{ActivationKind, Config, ExtensionConfig, GeneratorConfig};
use crate::error::{Error, Result};

/// Far beyond every released model, and small enough that no product of two of them overflows.
const MOST_CHANNELS: usize = 1 << 16;
/// The longest kernel or filter.
const MOST_TAPS: usize = 1 << 12;
/// Levels, blocks and convolutions of a block.
const MOST_LAYERS: usize = 32;
/// The highest rate: what sound cards know, five times over.
const MOST_RATE: u32 = 1 << 20;

impl Config {
    /// Fails on what no network could be built from.
    ///
    /// # Errors
    /// The key, its value, and what it would have to be.
    pub fn check(&self) -> Result<()> {
        self.generator.check("")?;
        let rates =
            [("input_sampling_rate", self.generator_rate()), ("output_sampling_rate", self.output_sampling_rate)];
        for (name, rate) in rates {
            if !(1..=MOST_RATE).contains(&rate) {
                return Err(wrong(format!("`{name}` is {rate}, where 1 to {MOST_RATE} belongs")));
            }
        }
        self.extension.as_ref().map_or(Ok(()), |extension| self.check_extension(extension))
    }

    /// Fails where the two generators do not fit each other.
    fn check_extension(&self, extension: &ExtensionConfig) -> Result<()> {
        extension.generator.check("bwe_")?;
        bounded("filter_length", extension.filter_length, 2, 1 << 16)?;
        bounded("hop_length", extension.hop_length, 1, 1 << 16)?;
        bounded("window_length", extension.window_length, 1, 1 << 16)?;
        bounded("num_mel_channels", extension.num_mel_channels, 1, MOST_CHANNELS)?;
        let (low, high) = (extension.input_sampling_rate, self.output_sampling_rate);
        if !high.is_multiple_of(low) || high / low > 64 {
            return Err(wrong(format!("`output_sampling_rate` {high} is not a small multiple of {low}, the input's")));
        }
        // One window per hop, or the spectrum is not as long as the sound.
        let ExtensionConfig { filter_length: filter, hop_length: hop, window_length: window, .. } = *extension;
        let silence = window.saturating_sub(hop);
        if silence + hop < filter || silence >= filter {
            return Err(wrong(format!("`window_length` is {window}, where windows of {filter} belong, {hop} apart")));
        }
        let (made, wanted) = (extension.generator.factor(), hop * (high / low) as usize);
        if made != wanted {
            return Err(wrong(format!(
                "`bwe_upsample_factors` make {made} samples of a hop, where {hop} at {low} Hz are {wanted} at {high} Hz"
            )));
        }
        let channels = self.generator.out_channels;
        let (given, wanted) = (extension.generator.in_channels, channels * extension.num_mel_channels);
        if given != wanted {
            return Err(wrong(format!(
                "`bwe_in_channels` is {given}, where {channels} channels have {wanted} bins together"
            )));
        }
        if extension.generator.out_channels != channels {
            let given = extension.generator.out_channels;
            return Err(wrong(format!("`bwe_out_channels` is {given}, where `out_channels` is {channels}")));
        }
        Ok(())
    }
}

impl GeneratorConfig {
    /// Fails on zeros and on sizes that are not of this world. `prefix` is what its keys begin with.
    fn check(&self, prefix: &str) -> Result<()> {
        let bounded =
            |name: &str, value: usize, low: usize, high: usize| bounded(&format!("{prefix}{name}"), value, low, high);
        bounded("in_channels", self.in_channels, 1, MOST_CHANNELS)?;
        bounded("hidden_channels", self.hidden_channels, 1, MOST_CHANNELS)?;
        bounded("out_channels", self.out_channels, 1, 64)?;
        let levels = self.upsample_factors.len();
        bounded("upsample_factors' length", levels, 1, MOST_LAYERS)?;
        bounded("upsample_kernel_sizes' length", self.upsample_kernel_sizes.len(), levels, levels)?;
        bounded("hidden_channels", self.hidden_channels, 1 << levels, MOST_CHANNELS)?;
        for (&factor, &kernel) in self.upsample_factors.iter().zip(&self.upsample_kernel_sizes) {
            bounded("upsample_factors", factor, 1, 64)?;
            bounded("upsample_kernel_sizes", kernel, factor, MOST_TAPS)?;
            if !(kernel - factor).is_multiple_of(2) {
                return Err(wrong(format!("a kernel of {kernel} cannot step up by {factor}: both odd or both even")));
            }
        }
        let product = self.upsample_factors.iter().try_fold(1usize, |product, &factor| product.checked_mul(factor));
        bounded("upsample_factors' product", product.unwrap_or(usize::MAX), 1, 1 << 16)?;
        let blocks = self.resnet_kernel_sizes.len();
        bounded("resnet_kernel_sizes' length", blocks, 1, MOST_LAYERS)?;
        bounded("resnet_dilations' length", self.resnet_dilations.len(), blocks, blocks)?;
        for (&kernel, dilations) in self.resnet_kernel_sizes.iter().zip(&self.resnet_dilations) {
            bounded("resnet_kernel_sizes", kernel, 1, MOST_TAPS)?;
            bounded("resnet_dilations", dilations.len(), 1, MOST_LAYERS)?;
            dilations.iter().try_for_each(|&dilation| bounded("resnet_dilations", dilation, 1, MOST_TAPS))?;
        }
        bounded("antialias_ratio", self.antialias_ratio, 1, 16)?;
        bounded("antialias_kernel_size", self.antialias_kernel_size, self.antialias_ratio + 1, MOST_TAPS)?;
        if self.antialias && self.act_fn == ActivationKind::LeakyRelu {
            return Err(wrong(format!("`{prefix}antialias` goes with \"snake\" or \"snakebeta\", not \"leaky_relu\"")));
        }
        if !self.leaky_relu_negative_slope.is_finite() {
            return Err(wrong(format!("`{prefix}leaky_relu_negative_slope` must be finite")));
        }
        Ok(())
    }
}

fn bounded(name: &str, value: usize, low: usize, high: usize) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let wanted = if low == high { low.to_string() } else { format!("{low} to {high}") };
    Err(wrong(format!("`{name}` is {value}, where {wanted} belongs")))
}

fn wrong(what: String) -> Error {
    Error::failed(format!("the vocoder's configuration is wrong: {what}"))
        .hint("fetch `vocoder/config.json` again from the model's page")
}
