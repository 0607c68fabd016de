//! FLOP count of the decoder, as [`crate::compute::flops`] defines it.

use super::config::{Config, UpLevel};
use crate::compute::flops::{convolution, linear};

/// Taps of every convolution, over frames, rows and columns.
const CUBE: usize = 27;

impl Config {
    /// FLOPs of decoding latents (1, z, frames, h, w) whole; the overlap of tiles is not counted.
    pub(in crate::families::ltx) fn flops(&self, [_, z, mut frames, mut h, mut w]: [usize; 5]) -> f64 {
        let resnet = |places: usize, inputs: usize, outputs: usize| {
            let shortcut = if inputs == outputs { 0.0 } else { linear(places, inputs, outputs) };
            convolution(places, CUBE, inputs, outputs) + convolution(places, CUBE, outputs, outputs) + shortcut
        };
        let (levels, mut dim) = (self.up_levels(), self.decoder_middle());
        let (places, layers) = (frames * h * w, self.decoder_layers_per_block[levels.len()]);
        let mut sum = convolution(places, CUBE, z, dim) + layers as f64 * resnet(places, dim, dim);
        for UpLevel { inputs, outputs, step, factor, layers, .. } in levels {
            if inputs != outputs * factor {
                sum += resnet(frames * h * w, inputs, outputs);
            }
            if let Some(scaling) = step {
                sum += convolution(frames * h * w, CUBE, outputs * factor, outputs * scaling.volume());
                // Of the first frame only the last of its frames is kept.
                frames = scaling.time() * frames - (scaling.time() - 1);
                (h, w) = (h * scaling.space(), w * scaling.space());
            }
            sum += layers as f64 * resnet(frames * h * w, outputs, outputs);
            dim = outputs;
        }
        sum + convolution(frames * h * w, CUBE, dim, self.out_channels * self.patch_size.pow(2))
    }
}
