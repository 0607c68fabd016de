//! Rotary position embedding of LTX-2: fractional positions, and frequencies that differ between heads.

use std::f64::consts::PI;

use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;
use serde::Deserialize;

use crate::compute::kernels::cpu;
#[cfg(feature = "cuda")]
use crate::compute::kernels::cuda::{self, kernels};
use crate::nn::norm::RmsNorm;
use crate::nn::rope::{turn_halves, turn_neighbours};

/// Which two channels of a head rotate as a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RopeType {
    /// Channel i of the first half with channel i of the second. All released models.
    Split,
    /// Neighbours: (0, 1), (2, 3), …
    Interleaved,
}

/// The parameters of a [`Rope`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeShape {
    /// Channels of all heads together.
    pub width: usize,
    /// Attention heads that share the channels.
    pub heads: usize,
    /// The highest frequency, in quarter turns over the range of positions: 10,000.
    pub theta: f64,
    /// Which channels rotate as a pair.
    pub kind: RopeType,
}

/// Cosines and sines for every token, f32.
#[derive(Debug, Clone)]
pub struct Rope {
    /// (tokens, heads, width / heads / 2)
    cos: Tensor,
    sin: Tensor,
    kind: RopeType,
}

impl Rope {
    /// Tables for tokens with positions on one or more axes.
    ///
    /// `axes[a][n]` is the position of token n on axis a, as a fraction of the trained range; all axes have
    /// the same length. A token's angles are `(2·position − 1)·frequency`, with the axes interleaved from the
    /// lowest frequency to the highest. Pairs left over from that division come first and do not rotate.
    ///
    /// # Errors
    /// Axes of different lengths, a width that does not divide into heads of pairs.
    pub fn new(shape: &RopeShape, axes: &[Vec<f32>], device: &Device) -> Result<Self> {
        let RopeShape { width, heads, theta, kind } = *shape;
        let tokens = axes.first().map_or(0, Vec::len);
        let heads_fit = heads > 0 && width > 0 && width.is_multiple_of(2 * heads);
        if !heads_fit || axes.is_empty() || axes.iter().any(|axis| axis.len() != tokens) {
            candle_core::bail!("no rotary embedding of {width} channels, {heads} heads and {} axes", axes.len());
        }
        let pairs = width / 2;
        let frequencies = frequencies(pairs / axes.len(), theta);
        let still = pairs - frequencies.len() * axes.len();
        let (mut cos, mut sin) = (vec![1f32; tokens * pairs], vec![0f32; tokens * pairs]);
        cos.par_chunks_mut(pairs).zip(sin.par_chunks_mut(pairs)).enumerate().for_each(|(token, (cos, sin))| {
            let turns = cos[still..].chunks_exact_mut(axes.len()).zip(sin[still..].chunks_exact_mut(axes.len()));
            for ((cos, sin), frequency) in turns.zip(&frequencies) {
                for ((cos, sin), axis) in cos.iter_mut().zip(sin).zip(axes) {
                    // The reference rounds the angle, up to 15,708, to f32, and the model was trained with
                    // that:
                    // https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/transformers/transformer_ltx2.py#L1038
                    let angle = f64::from((axis[token] * 2.0 - 1.0) * frequency);
                    (*sin, *cos) = (angle.sin() as f32, angle.cos() as f32);
                }
            }
        });
        let table = |values| Tensor::from_vec(values, (tokens, heads, pairs / heads), device);
        Ok(Self { cos: table(cos)?, sin: table(sin)?, kind })
    }

    /// Tables for a sequence of tokens, as in the text connectors: token i is at `i / base`.
    ///
    /// # Errors
    /// Those of [`Rope::new`].
    pub fn line(shape: &RopeShape, tokens: usize, base: usize, device: &Device) -> Result<Self> {
        let axis = (0..tokens).map(|token| token as f32 / base as f32).collect();
        Self::new(shape, &[axis], device)
    }

    /// Number of tokens in the tables.
    pub fn tokens(&self) -> Result<usize> {
        self.cos.dim(0)
    }

    /// Normalises the channels of every token, then rotates them.
    ///
    /// # Shapes
    /// - `xs` and output: (1, tokens, width), as in [`Rope::turn`]
    ///
    /// # Errors
    /// Those of [`Rope::turn`].
    pub fn turn_norm(&self, xs: &Tensor, norm: &RmsNorm) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if cuda::takes(xs) {
            let halves = self.kind == RopeType::Split;
            let turns = kernels::Turns { cos: &self.cos, sin: &self.sin, halves };
            return kernels::norm_rope(xs, norm.parameters(), self.cos.dim(1)?, turns);
        }
        self.turn(&norm.forward(xs)?)
    }

    /// Rotates the channels of every token.
    ///
    /// # Shapes
    /// - `xs`: (1, tokens, width), of any float type, with the heads one after the other
    /// - output: the same, rotated in f32
    ///
    /// # Errors
    /// Another number of tokens or channels than the tables have.
    pub fn turn(&self, xs: &Tensor) -> Result<Tensor> {
        let (tokens, heads, half) = self.cos.dims3()?;
        if cpu::takes(xs) && xs.elem_count() == tokens * heads * 2 * half {
            return self.on_cpu(xs, half);
        }
        // candle takes one table per batch element: with tokens as batch and heads as time, each head of each
        // token has its own, and nothing is copied.
        let wide = xs.to_dtype(DType::F32)?.contiguous()?.reshape((tokens, 1, heads, 2 * half))?;
        let turned = match self.kind {
            RopeType::Split => candle_nn::rotary_emb::rope(&wide, &self.cos, &self.sin)?,
            RopeType::Interleaved => candle_nn::rotary_emb::rope_i(&wide, &self.cos, &self.sin)?,
        };
        turned.reshape(xs.shape())?.to_dtype(xs.dtype())
    }
}

impl Rope {
    /// One row of the tables per head per token, in memory order.
    fn on_cpu(&self, xs: &Tensor, half: usize) -> Result<Tensor> {
        let turn = match self.kind {
            RopeType::Split => turn_halves,
            RopeType::Interleaved => turn_neighbours,
        };
        let ys = cpu::with_values(&[&self.cos, &self.sin], |tables| {
            cpu::rows(&xs.reshape(((), 2 * half))?, |row, xs, ys| {
                let [cos, sin] = [0, 1].map(|table: usize| &tables[table][row * half..][..half]);
                turn(xs, cos, sin, ys);
            })
        })?;
        ys.reshape(xs.shape())
    }
}

/// `theta^i · π/2` for `count` values of i from 0 to 1, computed in f64 and rounded to f32:
/// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/transformers/transformer_ltx2.py#L1029-L1034>
fn frequencies(count: usize, theta: f64) -> Vec<f32> {
    let step = 1.0 / count.saturating_sub(1).max(1) as f64;
    // From both ends to the middle, as `torch.linspace` computes it.
    let exponent =
        |i: usize| if i < count / 2 || count == 1 { i as f64 * step } else { 1.0 - (count - 1 - i) as f64 * step };
    (0..count).map(|i| (theta.powf(exponent(i)) * PI / 2.0) as f32).collect()
}
