//! Equal rows of a text, kept once.
//!
//! Behind a prompt stand registers, over and over: attention to n equal keys is attention to one of them whose score is
//! larger by ln n. Where connectors have blocks of their own no two rows are equal, and nothing is folded.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use crate::error::Result;

/// A prompt's rows for the pictures and for the sound, each pair of rows once.
#[derive(Debug, Clone)]
pub struct Folded {
    /// (1, rows, video_dim)
    pub video: Tensor,
    /// (1, rows, audio_dim)
    pub audio: Tensor,
    /// How many rows each stands for (1, rows), f32; none where each stands for itself.
    pub counts: Option<Tensor>,
}

impl Folded {
    /// Folds rows (1, rows, video_dim) and (1, rows, audio_dim), where that leaves fewer than half of them.
    pub fn of(video: &Tensor, audio: &Tensor) -> Result<Self> {
        let bits = |rows: &Tensor| -> Result<Vec<Vec<u32>>> {
            let rows = rows.squeeze(0)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec2::<f32>()?;
            Ok(rows.into_iter().map(|row| row.into_iter().map(f32::to_bits).collect()).collect())
        };
        let (seen, heard) = (bits(video)?, bits(audio)?);
        let all = seen.len();
        let (mut places, mut first, mut counts) = (HashMap::new(), Vec::new(), Vec::<f32>::new());
        for (row, pair) in seen.into_iter().zip(heard).enumerate() {
            let place = *places.entry(pair).or_insert(first.len());
            if place == first.len() {
                first.push(row as u32);
                counts.push(0.0);
            }
            counts[place] += 1.0;
        }
        if 2 * first.len() >= all {
            return Ok(Self { video: video.clone(), audio: audio.clone(), counts: None });
        }
        let rows = Tensor::new(first, video.device())?;
        let kept = |text: &Tensor| text.contiguous()?.index_select(&rows, 1);
        let counts = Tensor::new(counts, video.device())?.unsqueeze(0)?;
        Ok(Self { video: kept(video)?, audio: kept(audio)?, counts: Some(counts) })
    }
}
