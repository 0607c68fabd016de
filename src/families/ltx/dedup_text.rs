//! Deduplication of text embeddings: equal rows are kept once.
//!
//! The registers after a prompt repeat, and attention to n equal keys equals attention to one of them with ln
//! n added to its score. If the connectors have blocks, no two rows are equal, and all are kept.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use crate::error::Result;

/// A prompt's text embeddings for the video and the audio, each pair of rows once.
#[derive(Debug, Clone)]
pub struct Folded {
    /// (1, rows, video_dim)
    pub video: Tensor,
    /// (1, rows, audio_dim)
    pub audio: Tensor,
    /// Multiplicity of each row (1, rows), f32; `None` if all rows were kept.
    pub counts: Option<Tensor>,
}

impl Folded {
    /// Deduplicates rows (1, rows, video_dim) and (1, rows, audio_dim), if fewer than half of them remain.
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
