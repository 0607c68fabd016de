//! What no autoencoder could be built from is refused before anything is allocated for it.

use super::{Config, DOWN, Each, MOST_CHANNELS, MOST_LEVELS, Scaling, UpLevel};
use crate::error::{Error, Result};

impl Config {
    /// Fails on what no network could be built from, and on what no released network has.
    ///
    /// # Errors
    /// The key, its value, and what it would have to be.
    pub fn check(&self) -> Result<()> {
        self.check_released()?;
        self.check_sizes()?;
        self.check_lists()?;
        self.check_encoder()?;
        self.check_decoder()
    }

    /// Switches that diffusers has and no release uses.
    fn check_released(&self) -> Result<()> {
        let switches = [
            ("timestep_conditioning", self.timestep_conditioning, false),
            ("decoder_inject_noise", self.decoder_inject_noise.any(), false),
            ("encoder_causal", self.encoder_causal, true),
        ];
        for (name, value, wanted) in switches {
            if value != wanted {
                return Err(wrong(format!("`{name}` is {value}, and only {wanted} is known")));
            }
        }
        if let Some(other) = self.down_block_types.iter().find(|kind| *kind != DOWN) {
            return Err(wrong(format!("`down_block_types` holds {other:?}, and only {DOWN:?} is known")));
        }
        if self.patch_size_t != 1 {
            return Err(wrong(format!("`patch_size_t` is {}, and only 1 is known", self.patch_size_t)));
        }
        Ok(())
    }

    /// Zeros, and sizes that are not of this world.
    fn check_sizes(&self) -> Result<()> {
        bounded("levels of block_out_channels", self.block_out_channels.len(), MOST_LEVELS)?;
        bounded("levels of decoder_block_out_channels", self.decoder_block_out_channels.len(), MOST_LEVELS)?;
        bounded("latent_channels", self.latent_channels, MOST_CHANNELS)?;
        bounded("patch_size", self.patch_size, 64)?;
        bounded("in_channels", self.in_channels, 1 << 8)?;
        bounded("out_channels", self.out_channels, 1 << 8)?;
        for &channels in &self.block_out_channels {
            bounded("block_out_channels", channels, MOST_CHANNELS)?;
        }
        for &channels in &self.decoder_block_out_channels {
            bounded("decoder_block_out_channels", channels, MOST_CHANNELS)?;
        }
        for &factor in &self.upsample_factor {
            bounded("upsample_factor", factor, 8)?;
        }
        for (name, layers) in
            [("layers_per_block", &self.layers_per_block), ("decoder_layers_per_block", &self.decoder_layers_per_block)]
        {
            if let Some(many) = layers.iter().find(|layers| **layers > 64) {
                return Err(wrong(format!("`{name}` holds {many}, and 64 is the most")));
            }
        }
        if !(self.resnet_norm_eps > 0.0 && self.resnet_norm_eps < 1.0) {
            return Err(wrong(format!("`resnet_norm_eps` is {}, and must be small", self.resnet_norm_eps)));
        }
        if !(self.scaling_factor.is_finite() && self.scaling_factor > 0.0) {
            return Err(wrong(format!("`scaling_factor` is {}, and must be above 0", self.scaling_factor)));
        }
        Ok(())
    }

    /// Lists that are as long as there are levels.
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
            return Err(wrong(format!("`{name}` has {given} values, where the levels need {wanted}")));
        }
        let switches = [
            ("spatio_temporal_scaling", &self.spatio_temporal_scaling, down),
            ("decoder_spatio_temporal_scaling", &self.decoder_spatio_temporal_scaling, up),
            ("upsample_residual", &self.upsample_residual, up),
        ];
        match switches.iter().find(|(_, each, wanted)| !Each::fits(each, *wanted)) {
            Some((name, _, wanted)) => Err(wrong(format!("`{name}` does not have {wanted} values, one per level"))),
            None => Ok(()),
        }
    }

    /// Steps down that share their channels out evenly, and factors that are what the configuration says.
    fn check_encoder(&self) -> Result<()> {
        let mut inputs = self.latent_channels;
        for (level, &outputs) in self.block_out_channels.iter().enumerate() {
            let fits = match self.step_down(level).map(Scaling::volume) {
                Some(volume) => outputs.is_multiple_of(volume) && (inputs * volume).is_multiple_of(outputs),
                None => inputs == outputs,
            };
            if !fits {
                return Err(wrong(format!(
                    "`block_out_channels` goes from {inputs} to {outputs}, which its step down cannot share out"
                )));
            }
            inputs = outputs;
        }
        let factors = [
            ("spatial_compression_ratio", self.spatial_compression_ratio, self.spatial_factor()),
            ("temporal_compression_ratio", self.temporal_compression_ratio, self.temporal_factor()),
        ];
        for (name, given, found) in factors {
            if let Some(given) = given.filter(|given| *given != found) {
                return Err(wrong(format!("`{name}` is {given}, and the encoder's steps down make {found}")));
            }
        }
        Ok(())
    }

    /// Steps up that take as many channels as there are, and that undo what the encoder does.
    fn check_decoder(&self) -> Result<()> {
        let (mut time, mut space) = (1, self.patch_size);
        for (&channels, &factor) in self.decoder_block_out_channels.iter().zip(&self.upsample_factor) {
            if !channels.is_multiple_of(factor) {
                return Err(wrong(format!("`upsample_factor` {factor} does not divide {channels} channels")));
            }
        }
        for level in self.up_levels() {
            let UpLevel { inputs, outputs, factor, .. } = level;
            // Without a divisor, a residual block in front makes as many channels as there should be.
            if factor != 1 && (level.step.is_none() || inputs != outputs * factor) {
                return Err(wrong(format!(
                    "`decoder_block_out_channels` and `upsample_factor` make {outputs} channels of {inputs} by {factor}"
                )));
            }
            if let Some(scaling) = level.step {
                let (volume, channels) = (scaling.volume(), outputs * factor);
                if level.shortcut && !(channels.is_multiple_of(volume) && volume.is_multiple_of(factor)) {
                    return Err(wrong(format!(
                        "`upsample_factor` {factor} leaves a shortcut of {channels} channels that cannot be repeated"
                    )));
                }
                time *= scaling.time();
                space *= scaling.space();
            }
        }
        if (time, space) != (self.temporal_factor(), self.spatial_factor()) {
            return Err(wrong(format!(
                "`upsample_type` makes {time} frames of {space}·{space} pixels, `downsample_type` takes {} of {1}·{1}",
                self.temporal_factor(),
                self.spatial_factor()
            )));
        }
        Ok(())
    }
}

fn bounded(name: &str, value: usize, most: usize) -> Result<()> {
    match value {
        0 => Err(wrong(format!("`{name}` is 0"))),
        value if value > most => Err(wrong(format!("`{name}` is {value}, and {most} is the most"))),
        _ => Ok(()),
    }
}

fn wrong(what: String) -> Error {
    Error::failed(format!("the autoencoder's configuration is wrong: {what}"))
        .hint("fetch `vae/config.json` again from the model's page")
}
