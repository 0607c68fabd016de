//! Positions of the tokens of a video, in seconds and pixels, as rotary tables.

use candle_core::Device;

use super::config::{Config, Modality};
use super::rope::Rope;
use crate::error::{Error, Result};

/// The token grid of a video with audio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// Latent frames, rows and columns of the video.
    pub video: [usize; 3],
    /// Frames per second.
    pub fps: f64,
    /// Latent frames of the audio.
    pub audio: usize,
}

/// The most tokens of one stream. For comparison: 20 seconds at 1,536 by 1,024 pixels are 93,696.
const MOST: usize = 1 << 18;

impl Grid {
    /// Number of video tokens.
    pub fn video_tokens(&self) -> usize {
        self.video.iter().product()
    }
}

/// The rotary tables of both streams. They are the same at every step.
#[derive(Debug, Clone)]
pub struct Positions {
    pub(super) video: Side,
    pub(super) audio: Side,
}

/// The tables of one stream.
#[derive(Debug, Clone)]
pub(super) struct Side {
    /// For the self-attention: time, row and column (video), or time only (audio).
    pub own: Rope,
    /// For its side of the cross-attention between video and audio: time only.
    pub cross: Rope,
}

impl Positions {
    /// Computes the tables.
    ///
    /// # Errors
    /// No tokens or more than 2¹⁸ in a stream; a frame rate that is not above 0 and below 10,000.
    pub fn new(config: &Config, grid: &Grid, device: &Device) -> Result<Self> {
        config.check()?;
        let tokens =
            grid.video.iter().try_fold(1usize, |product, &side| product.checked_mul(side)).unwrap_or(usize::MAX);
        let countable = (1..=MOST).contains(&tokens) && (1..=MOST).contains(&grid.audio);
        let possible = countable && grid.fps > 0.0 && grid.fps < 1e4;
        if !possible {
            return Err(Error::failed(format!(
                "cannot place {tokens} video tokens at {} frames per second and {} audio tokens",
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

/// Positions as fractions of the range that the network was trained on.
fn fractions(positions: &[f32], range: usize) -> Vec<f32> {
    positions.iter().map(|position| position / range as f32).collect()
}

/// The centre of each video token: seconds, row and column in pixels, with the rounding to f32 of the
/// reference:
/// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/transformers/transformer_ltx2.py#L931-L939>
///
/// The first latent frame holds one frame, each other as many as the autoencoder compresses into one; so all
/// but the first begin earlier than on a regular grid.
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

/// The centre of each audio token in seconds:
/// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/transformers/transformer_ltx2.py#L978-L990>
fn audio_positions(config: &Config, tokens: usize) -> Vec<f32> {
    let scale = config.audio_scale_factor as f32;
    let offset = config.causal_offset as f32 - scale;
    let (hop, rate) = (config.audio_hop_length as f32, config.audio_sampling_rate as f32);
    let second = |index: usize| (index as f32 * scale + offset).max(0.0) * hop / rate;
    (0..tokens).map(|index| (second(index) + second(index + 1)) / 2.0).collect()
}
