//! Blocked attention on a CPU with an online softmax (Milakov and Gimelshein, 2018; Dao et al., 2022): the
//! scores never exist as a whole.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use crate::compute::kernels::cpu::{self, exp, largest, sum, wide};
use crate::compute::kernels::product::{self, Matrix, Output};

/// Most queries per task.
const QUERIES: usize = 192;
/// Keys per block: the scores of one block fit the L2 cache.
const KEYS: usize = 512;

/// See [`super::attend`]. All tensors are f32 on a CPU; the output is laid out as (b, n, heads, d).
pub(super) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    let (b, heads, n, d) = q.dims4()?;
    let (m, width) = (k.dim(2)?, v.dim(3)?);
    let bias = bias.map(|bias| bias.broadcast_as((b, heads, n, m))).transpose()?;
    let cores = rayon::current_num_threads();
    let block = n.div_ceil(cores * n.div_ceil(cores * QUERIES));
    let mut ys = vec![0f32; b * n * heads * width];
    let tensors: Vec<&Tensor> = [q, k, v].into_iter().chain(&bias).collect();
    cpu::with_strided(&tensors, |parts| {
        let part = |index: usize| parts.get(index).map(|&(values, strides)| Part { values, strides });
        let [Some(q), Some(k), Some(v)] = [0, 1, 2].map(part) else { candle_core::bail!("three tensors attend") };
        let whole = Heads { q, k, v, bias: part(3), keys: m, dims: [d, width], scale: scale as f32 };
        let batches = ys.par_chunks_mut(n * heads * width).enumerate();
        batches.try_for_each(|(batch, ys)| {
            let blocks = ys.par_chunks_mut(block * heads * width).enumerate();
            blocks.try_for_each_init(Scratch::default, |scratch, (index, ys)| {
                (0..heads).try_for_each(|head| {
                    let first = Place { batch, head, row: index * block };
                    whole.gather(first, &mut ys[head * width..], heads * width, scratch)
                })
            })
        })
    })?;
    Tensor::from_vec(ys, (b, n, heads, width), q.device())?.transpose(1, 2)
}

/// A strided view of a tensor (b, heads, rows, columns).
#[derive(Clone, Copy)]
struct Part<'a> {
    values: &'a [f32],
    strides: &'a [usize],
}

impl<'a> Part<'a> {
    /// `rows` rows of a head from `place` on.
    fn rows(self, place: Place, rows: usize, columns: usize) -> Matrix<'a> {
        let Self { values, strides } = self;
        let start = place.batch * strides[0] + place.head * strides[1] + place.row * strides[2];
        let values = values.get(start..).unwrap_or_default();
        Matrix { values, rows, columns, row_stride: strides[2], column_stride: strides[3] }
    }
}

/// A row of a head.
#[derive(Clone, Copy)]
struct Place {
    batch: usize,
    head: usize,
    row: usize,
}

/// All heads.
struct Heads<'a> {
    q: Part<'a>,
    k: Part<'a>,
    v: Part<'a>,
    bias: Option<Part<'a>>,
    keys: usize,
    /// Channels of queries and keys, and of values.
    dims: [usize; 2],
    scale: f32,
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    /// (queries, keys)
    scores: Vec<f32>,
    /// Per query: the largest score so far, and the sum of its weights.
    most: Vec<f32>,
    sums: Vec<f32>,
}

impl Heads<'_> {
    /// Attention of the queries of a head from `first` on, as many as `ys` has rows; they are `stride` apart.
    fn gather(&self, first: Place, ys: &mut [f32], stride: usize, scratch: &mut Scratch) -> Result<()> {
        let (rows, [d, width]) = (ys.len().div_ceil(stride), self.dims);
        let Scratch { scores, most, sums } = scratch;
        scores.resize(rows * KEYS.min(self.keys), 0.0);
        most.clear();
        most.resize(rows, f32::NEG_INFINITY);
        sums.clear();
        sums.resize(rows, 0.0);
        let q = self.q.rows(first, rows, d);
        for start in (0..self.keys).step_by(KEYS) {
            let keys = KEYS.min(self.keys - start);
            let scores = &mut scores[..rows * keys];
            let at = |row| Place { row, ..first };
            let k = self.k.rows(at(start), keys, d);
            let output = Output { values: scores, stride: keys, add: false };
            product::multiply(q, k.t(), self.scale, output, false)?;
            for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
                if let Some(bias) = self.bias {
                    let bias = bias.rows(at(first.row + row), 1, self.keys);
                    let skip = start * bias.column_stride;
                    add(scores, &bias.values[skip..], bias.column_stride);
                }
                let (kept, sum) = weigh(scores, &mut most[row]);
                sums[row] = sums[row] * kept + sum;
                if start > 0 && kept != 1.0 {
                    ys[row * stride..][..width].iter_mut().for_each(|y| *y *= kept);
                }
            }
            let v = self.v.rows(at(start), keys, width);
            let output = Output { values: ys, stride, add: start > 0 };
            product::multiply(Matrix::plain(scores, rows, keys), v, 1.0, output, false)?;
        }
        for (row, sum) in sums.iter().enumerate() {
            let inverse = 1.0 / sum;
            ys[row * stride..][..width].iter_mut().for_each(|y| *y *= inverse);
        }
        Ok(())
    }
}

wide! {
    fn add(scores: &mut [f32], bias: &[f32], stride: usize) {
        match stride {
            1 => scores.iter_mut().zip(bias).for_each(|(score, bias)| *score += bias),
            0 => scores.iter_mut().for_each(|score| *score += bias[0]),
            _ => scores.iter_mut().zip(bias.iter().step_by(stride)).for_each(|(score, bias)| *score += bias),
        }
    }
}

wide! {
    /// Turns scores into weights relative to the largest score so far. Returns the factor for the earlier
    /// weights, and the sum of the new ones.
    fn weigh(scores: &mut [f32], most: &mut f32) -> (f32, f32) {
        let before = *most;
        *most = before.max(largest(scores));
        // If every key so far is masked, every weight is 0.
        let top = if *most == f32::NEG_INFINITY { 0.0 } else { *most };
        scores.iter_mut().for_each(|score| *score = exp(*score - top));
        (exp(before - top), sum(scores, |weight| weight))
    }
}
