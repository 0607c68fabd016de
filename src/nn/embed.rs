//! Embeddings of time and of tokens.

use candle_core::{DType, Device, Result, Tensor};

use crate::weights::{Matrix, Weights};

/// Sinusoidal embedding of timesteps (Ho et al., 2020): cosines, then sines, of wavelengths from 2π to
/// 10,000·2π.
///
/// # Shapes
/// - `timesteps`: n values in [0, 1000]
/// - output: (n, dim), f32, computed in f64
pub fn sinusoid(timesteps: &[f64], dim: usize, device: &Device) -> Result<Tensor> {
    let half = dim / 2;
    let mut values = Vec::with_capacity(timesteps.len() * dim);
    for timestep in timesteps {
        // The reference computes the frequencies and the angles in f32; its rounding is part of the trained
        // model.
        let angle = |i: usize| *timestep as f32 * ((-(10_000f32.ln()) * i as f32) / half as f32).exp();
        values.extend((0..half).map(|i| angle(i).cos()));
        values.extend((0..half).map(|i| angle(i).sin()));
        values.extend(std::iter::repeat_n(0.0, dim % 2));
    }
    Tensor::from_vec(values, (timesteps.len(), dim), device)
}

/// A table of token embeddings, kept in its stored type and widened row by row.
#[derive(Debug, Clone)]
pub struct Embedding {
    table: Matrix,
}

impl Embedding {
    /// Takes `weight` (vocabulary, dim) from `weights`.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn load(weights: &Weights, vocabulary: usize, dim: usize) -> crate::error::Result<Self> {
        Ok(Self { table: weights.matrix("weight", (vocabulary, dim))? })
    }

    /// # Shapes
    /// - `ids`: (n), u32, each less than the size of the vocabulary
    /// - output: (n, dim), in `dtype`
    ///
    /// # Errors
    /// An id past the end of the table.
    pub fn forward(&self, ids: &Tensor, dtype: DType) -> Result<Tensor> {
        match &self.table {
            Matrix::Dense(table) => table.index_select(ids, 0)?.to_dtype(dtype),
            Matrix::Packed(table, _) => table.rows(&ids.to_vec1()?, ids.device())?.to_dtype(dtype),
        }
    }
}
