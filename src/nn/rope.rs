//! Rotary position embedding (Su et al., 2021).

use candle_core::{DType, Device, Result, Tensor};

use super::norm::RmsNorm;
use crate::compute::kernels::cpu::{self, wide};
#[cfg(feature = "cuda")]
use crate::compute::kernels::cuda::{self, kernels};

/// Tables of cosines and sines per position, computed in f64 and kept in f32.
#[derive(Debug, Clone)]
pub struct Rope {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// Tables for tokens on a grid of frames, rows and columns: each axis rotates its share of the pairs.
    ///
    /// `grid` is (frames, rows, columns), `dims` the channels of a head that belong to each axis, `theta` the
    /// base of the wavelengths (10,000 in the paper). The tables have `dims.sum() / 2` columns and a row per
    /// token.
    pub fn grid3(grid: [usize; 3], dims: [usize; 3], theta: f64, device: &Device) -> Result<Self> {
        let frequencies: Vec<Vec<f64>> = dims.iter().map(|&dim| frequencies(dim, theta)).collect();
        let pairs: usize = dims.iter().sum::<usize>() / 2;
        let tokens: usize = grid.iter().product();
        let mut angles = Vec::with_capacity(tokens * pairs);
        for t in 0..grid[0] {
            for h in 0..grid[1] {
                for w in 0..grid[2] {
                    for (position, frequencies) in [t, h, w].into_iter().zip(&frequencies) {
                        angles.extend(frequencies.iter().map(|frequency| position as f64 * frequency));
                    }
                }
            }
        }
        Self::from_angles(&angles, (tokens, pairs), device)
    }

    /// Tables of `angles` in radians, one row per token.
    ///
    /// # Errors
    /// More or fewer angles than `shape`, (tokens, pairs), has.
    pub fn from_angles(angles: &[f64], shape: (usize, usize), device: &Device) -> Result<Self> {
        let table = |f: fn(f64) -> f64| {
            let values = angles.iter().map(|&angle| f(angle) as f32).collect();
            Tensor::from_vec::<_, f32>(values, shape, device)
        };
        Ok(Self { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }

    /// Rotates neighbouring pairs of channels: (0, 1), (2, 3), …
    ///
    /// # Shapes
    /// - `xs`: (b, heads, tokens, dim), of any float type
    /// - output: the same, rotated in f32
    pub fn interleaved(&self, xs: &Tensor) -> Result<Tensor> {
        if cpu::takes(xs) {
            return self.on_cpu(xs, turn_neighbours);
        }
        let wide = xs.to_dtype(DType::F32)?.contiguous()?;
        candle_nn::rotary_emb::rope_i(&wide, &self.cos, &self.sin)?.to_dtype(xs.dtype())
    }

    /// Rotates pairs of channels from the two halves of a head: (0, d/2), (1, d/2 + 1), …
    ///
    /// # Shapes
    /// - `xs`: (b, heads, tokens, dim), of any float type
    /// - output: the same, rotated in f32
    pub fn halves(&self, xs: &Tensor) -> Result<Tensor> {
        if cpu::takes(xs) {
            return self.on_cpu(xs, turn_halves);
        }
        let wide = xs.to_dtype(DType::F32)?.contiguous()?;
        candle_nn::rotary_emb::rope(&wide, &self.cos, &self.sin)?.to_dtype(xs.dtype())
    }
}

impl Rope {
    /// Queries or keys: RMS normalisation over all heads, split into heads, [`Rope::interleaved`].
    ///
    /// # Shapes
    /// - `xs`: (1, tokens, heads · dim)
    /// - output: (1, heads, tokens, dim), in the type of `xs`
    pub fn interleaved_norm(&self, xs: &Tensor, norm: &RmsNorm, heads: usize) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if cuda::takes(xs) {
            let turns = kernels::Turns { cos: &self.cos, sin: &self.sin, halves: false };
            return split_heads(&kernels::norm_rope(xs, norm.parameters(), heads, turns)?, heads);
        }
        self.interleaved(&split_heads(&norm.forward(xs)?, heads)?)
    }
}

/// Splits tokens into heads: (b, n, heads · dim) → (b, heads, n, dim).
///
/// # Errors
/// A width that does not divide into heads.
pub fn split_heads(xs: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, n, width) = xs.dims3()?;
    xs.reshape((b, n, heads, width / heads.max(1)))?.transpose(1, 2)
}

type Turn = fn(&[f32], &[f32], &[f32], &mut [f32]);

impl Rope {
    /// The output is laid out as (b, tokens, heads, dim), as the layers before and after the attention have
    /// it.
    fn on_cpu(&self, xs: &Tensor, turn: Turn) -> Result<Tensor> {
        let (_, heads, tokens, dim) = xs.dims4()?;
        if self.cos.dims() != [tokens, dim / 2] || dim % 2 != 0 {
            candle_core::bail!("tokens of {:?} on positions of {:?}", xs.shape(), self.cos.shape());
        }
        let ys = cpu::with_values(&[&self.cos.contiguous()?, &self.sin.contiguous()?], |tables| {
            cpu::rows(&xs.transpose(1, 2)?, |row, xs, ys| {
                let place = row / heads % tokens * (dim / 2);
                let [cos, sin] = [0, 1].map(|table: usize| &tables[table][place..][..dim / 2]);
                turn(xs, cos, sin, ys);
            })
        })?;
        ys.transpose(1, 2)
    }
}

wide! {
    /// Rotates neighbouring channels of a head by angles with these cosines and sines.
    pub(crate) fn turn_neighbours(xs: &[f32], cos: &[f32], sin: &[f32], ys: &mut [f32]) {
        let pairs = ys.chunks_exact_mut(2).zip(xs.chunks_exact(2)).zip(cos.iter().zip(sin));
        for ((y, x), (cos, sin)) in pairs {
            (y[0], y[1]) = (x[0] * cos - x[1] * sin, x[0] * sin + x[1] * cos);
        }
    }
}

wide! {
    /// The same with channels i and i + dim/2.
    pub(crate) fn turn_halves(xs: &[f32], cos: &[f32], sin: &[f32], ys: &mut [f32]) {
        let half = cos.len();
        let ((x0, x1), (y0, y1)) = (xs.split_at(half), ys.split_at_mut(half));
        for (i, (cos, sin)) in cos.iter().zip(sin).enumerate() {
            (y0[i], y1[i]) = (x0[i] * cos - x1[i] * sin, x1[i] * cos + x0[i] * sin);
        }
    }
}

/// `theta^(-2i/dim)` for each of the `dim / 2` pairs.
fn frequencies(dim: usize, theta: f64) -> Vec<f64> {
    (0..dim / 2).map(|i| theta.powf(-2.0 * i as f64 / dim as f64)).collect()
}
