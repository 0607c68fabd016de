//! Where the tokens of a film are, in seconds and pixels, as rotary tables.

use candle_core::Device;

use super::config::{Config, Modality};
use super::rope::Rope;
use crate::error::{Error, Result};

/// The tokens of a film.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// Latent frames, rows and columns of the video.
    pub video: [usize; 3],
    /// Frames in a second.
    pub fps: f64,
    /// Latent frames of the audio.
    pub audio: usize,
}

/// More tokens of one kind than any film of these models has: 20 seconds at 1,536 by 1,024 pixels are 93,696.
const MOST: usize = 1 << 18;

impl Grid {
    /// Tokens of the video.
    pub fn video_tokens(&self) -> usize {
        self.video.iter().product()
    }
}

/// The rotary tables of a film. They do not depend on the step: one value serves every forward.
#[derive(Debug, Clone)]
pub struct Positions {
    pub(super) video: Side,
    pub(super) audio: Side,
}

/// The tables of one stream.
#[derive(Debug, Clone)]
pub(super) struct Side {
    /// Of its self-attention: time, row and column, or time alone.
    pub own: Rope,
    /// Of its side of the attention between video and audio: time alone.
    pub cross: Rope,
}

impl Positions {
    /// The tables of a film for a network.
    ///
    /// # Errors
    /// A film without tokens or with countless ones, a frame rate that is no rate.
    pub fn new(config: &Config, grid: &Grid, device: &Device) -> Result<Self> {
        config.check()?;
        let tokens =
            grid.video.iter().try_fold(1usize, |product, &side| product.checked_mul(side)).unwrap_or(usize::MAX);
        let countable = (1..=MOST).contains(&tokens) && (1..=MOST).contains(&grid.audio);
        let possible = countable && grid.fps > 0.0 && grid.fps < 1e4;
        if !possible {
            return Err(Error::failed(format!(
                "no film has {tokens} video tokens at {} frames a second and {} audio tokens",
                grid.fps, grid.audio
            )));
        }
        let longest = config.pos_embed_max_pos.max(config.audio_pos_embed_max_pos);
        let side = |modality, own: Vec<Vec<f32>>, seconds: &[f32]| -> Result<Side> {
            let cross = fractions(seconds, longest);
            let own = Rope::new(&config.rope(modality), &own, device)?;
            Ok(Side { own, cross: Rope::new(&config.cross_rope(modality), &[cross], device)? })
        };
        let [times, rows, columns] = video_positions(config, grid);
        let own = vec![
            fractions(&times, config.pos_embed_max_pos),
            fractions(&rows, config.base_height),
            fractions(&columns, config.base_width),
        ];
        let video = side(Modality::Video, own, &times)?;
        let times = audio_positions(config, grid.audio);
        let audio = side(Modality::Audio, vec![fractions(&times, config.audio_pos_embed_max_pos)], &times)?;
        Ok(Self { video, audio })
    }
}

/// Positions as parts of the range that the network was trained on.
fn fractions(positions: &[f32], range: usize) -> Vec<f32> {
    positions.iter().map(|position| position / range as f32).collect()
}

/// The middle of each video token: its second, its row and its column of pixels.
///
/// As `LTX2AudioVideoRotaryPosEmbed.prepare_video_coords` has it, with its roundings to f32. The first latent frame stands
/// for one frame and each other one for as many as the autoencoder compresses into one: so all but the first begin earlier
/// than a regular grid has it.
fn video_positions(config: &Config, grid: &Grid) -> [Vec<f32>; 3] {
    let [frames, rows, columns] = grid.video;
    let [scale_t, scale_h, scale_w] = config.vae_scale_factors.map(|scale| scale as f32);
    let offset = config.causal_offset as f32 - scale_t;
    let second = |index: f32| (index * scale_t + offset).max(0.0) / grid.fps as f32;
    let middle = |index: usize, at: &dyn Fn(f32) -> f32| (at(index as f32) + at((index + 1) as f32)) / 2.0;
    let mut positions = [(); 3].map(|()| Vec::with_capacity(grid.video_tokens()));
    for t in 0..frames {
        for h in 0..rows {
            for w in 0..columns {
                positions[0].push(middle(t, &second));
                positions[1].push(middle(h, &|index| index * scale_h));
                positions[2].push(middle(w, &|index| index * scale_w));
            }
        }
    }
    positions
}

/// The middle of each audio token in seconds: `LTX2AudioVideoRotaryPosEmbed.prepare_audio_coords`.
fn audio_positions(config: &Config, tokens: usize) -> Vec<f32> {
    let scale = config.audio_scale_factor as f32;
    let offset = config.causal_offset as f32 - scale;
    let (hop, rate) = (config.audio_hop_length as f32, config.audio_sampling_rate as f32);
    let second = |index: usize| (index as f32 * scale + offset).max(0.0) * hop / rate;
    (0..tokens).map(|index| (second(index) + second(index + 1)) / 2.0).collect()
}
