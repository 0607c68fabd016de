//! Parses configurations, and refuses those that no autoencoder could be built from, before anything is allocated.

use super::config::{Config, DOWN, Each, MOST_CHANNELS, MOST_LEVELS, Scaling, UpLevel};
use crate::error::{Context, Result};
use crate::families::check::Check;

const CHECK: Check = Check { network: "autoencoder", hint: "fetch `vae/config.json` again from the model's page" };

impl Config {
    /// Parses and checks the text of a `config.json`.
    ///
    /// # Errors
    /// Text that is not JSON, and the refusals of [`Config::check`].
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(text).context(|| "it is not the JSON of an LTX-2 autoencoder")?;
        config.check()?;
        Ok(config)
    }

    /// Refuses sizes that no network could be built from, and switches that no released network uses.
    ///
    /// # Errors
    /// The key, what it must be, and its value.
    pub fn check(&self) -> Result<()> {
        self.check_released()?;
        self.check_sizes()?;
        self.check_lists()?;
        self.check_encoder()?;
        self.check_decoder()
    }

    /// Switches that diffusers has and no release uses.
    fn check_released(&self) -> Result<()> {
        CHECK.exactly("timestep_conditioning", self.timestep_conditioning, false)?;
        CHECK.exactly("decoder_inject_noise", self.decoder_inject_noise.any(), false)?;
        CHECK.exactly("encoder_causal", self.encoder_causal, true)?;
        self.down_block_types.iter().try_for_each(|kind| CHECK.exactly("down_block_types", kind.as_str(), DOWN))?;
        CHECK.exactly("patch_size_t", self.patch_size_t, 1)
    }

    fn check_sizes(&self) -> Result<()> {
        CHECK.within("levels of block_out_channels", self.block_out_channels.len(), 1..=MOST_LEVELS)?;
        CHECK.within("levels of decoder_block_out_channels", self.decoder_block_out_channels.len(), 1..=MOST_LEVELS)?;
        CHECK.within("latent_channels", self.latent_channels, 1..=MOST_CHANNELS)?;
        CHECK.within("patch_size", self.patch_size, 1..=64)?;
        CHECK.within("in_channels", self.in_channels, 1..=1 << 8)?;
        CHECK.within("out_channels", self.out_channels, 1..=1 << 8)?;
        let lists = [
            ("block_out_channels", &self.block_out_channels, 1..=MOST_CHANNELS),
            ("decoder_block_out_channels", &self.decoder_block_out_channels, 1..=MOST_CHANNELS),
            ("upsample_factor", &self.upsample_factor, 1..=8),
            ("layers_per_block", &self.layers_per_block, 0..=64),
            ("decoder_layers_per_block", &self.decoder_layers_per_block, 0..=64),
        ];
        for (name, values, range) in lists {
            values.iter().try_for_each(|&value| CHECK.within(name, value, range.clone()))?;
        }
        CHECK.epsilon("resnet_norm_eps", self.resnet_norm_eps)?;
        if !(self.scaling_factor.is_finite() && self.scaling_factor > 0.0) {
            return Err(CHECK.must("scaling_factor", "above 0", self.scaling_factor));
        }
        Ok(())
    }

    /// Lists that have an entry per level, or one more.
    fn check_lists(&self) -> Result<()> {
        let (down, up) = (self.block_out_channels.len(), self.decoder_block_out_channels.len());
        let lengths = [
            ("layers_per_block", self.layers_per_block.len(), down + 1),
            ("downsample_type", self.downsample_type.len(), down),
            ("decoder_layers_per_block", self.decoder_layers_per_block.len(), up + 1),
            ("upsample_type", self.upsample_type.len(), up),
            ("upsample_factor", self.upsample_factor.len(), up),
        ];
        if let Some((name, given, wanted)) = lengths.iter().find(|(_, given, wanted)| given != wanted) {
            return Err(CHECK.wrong(format!("`{name}` must have {wanted} values, as the levels need, not {given}")));
        }
        let switches = [
            ("spatio_temporal_scaling", &self.spatio_temporal_scaling, down),
            ("decoder_spatio_temporal_scaling", &self.decoder_spatio_temporal_scaling, up),
            ("upsample_residual", &self.upsample_residual, up),
        ];
        match switches.iter().find(|(_, each, wanted)| !Each::fits(each, *wanted)) {
            Some((name, _, wanted)) => {
                Err(CHECK.wrong(format!("`{name}` must be one switch, or {wanted}: one per level")))
            }
            None => Ok(()),
        }
    }

    /// Channels that each step down can share out evenly, and compression factors that agree with the levels.
    fn check_encoder(&self) -> Result<()> {
        let mut inputs = self.latent_channels;
        for (level, &outputs) in self.block_out_channels.iter().enumerate() {
            let fits = match self.step_down(level).map(Scaling::volume) {
                Some(volume) => outputs.is_multiple_of(volume) && (inputs * volume).is_multiple_of(outputs),
                None => inputs == outputs,
            };
            if !fits {
                return Err(CHECK.wrong(format!(
                    "`block_out_channels` goes from {inputs} to {outputs}, which its step down cannot share out"
                )));
            }
            inputs = outputs;
        }
        let factors = [
            ("spatial_compression_ratio", self.spatial_compression_ratio, self.spatial_factor()),
            ("temporal_compression_ratio", self.temporal_compression_ratio, self.temporal_factor()),
        ];
        factors.into_iter().try_for_each(|(name, given, found)| CHECK.exactly(name, given.unwrap_or(found), found))
    }

    /// Steps up that accept the channels they get, and that undo the encoder's steps down.
    fn check_decoder(&self) -> Result<()> {
        let (mut time, mut space) = (1, self.patch_size);
        for (&channels, &factor) in self.decoder_block_out_channels.iter().zip(&self.upsample_factor) {
            if !channels.is_multiple_of(factor) {
                return Err(CHECK.wrong(format!("`upsample_factor` {factor} does not divide {channels} channels")));
            }
        }
        for level in self.up_levels() {
            let UpLevel { inputs, outputs, factor, .. } = level;
            // With a factor of 1, a residual block before the step changes the number of channels.
            if factor != 1 && (level.step.is_none() || inputs != outputs * factor) {
                return Err(CHECK.wrong(format!(
                    "`decoder_block_out_channels` and `upsample_factor` make {outputs} channels of {inputs} by {factor}"
                )));
            }
            if let Some(scaling) = level.step {
                let (volume, channels) = (scaling.volume(), outputs * factor);
                if level.shortcut && !(channels.is_multiple_of(volume) && volume.is_multiple_of(factor)) {
                    return Err(CHECK.wrong(format!(
                        "`upsample_factor` {factor} leaves a shortcut of {channels} channels that cannot be repeated"
                    )));
                }
                time *= scaling.time();
                space *= scaling.space();
            }
        }
        if (time, space) != (self.temporal_factor(), self.spatial_factor()) {
            return Err(CHECK.wrong(format!(
                "`upsample_type` makes {time} frames of {space}·{space} pixels, `downsample_type` takes {} of {1}·{1}",
                self.temporal_factor(),
                self.spatial_factor()
            )));
        }
        Ok(())
    }
}
