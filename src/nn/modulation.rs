//! adaLN-Zero (Peebles and Xie, 2023): shift, scale and gate of tokens by their timestep.

use candle_core::{D, DType, Result, Tensor};

use super::norm::Plain;
use crate::compute::kernels::cpu::{self, wide};
#[cfg(feature = "cuda")]
use crate::compute::kernels::cuda::{self, kernels};

/// Runs of neighbouring tokens that share a timestep.
///
/// Text to video has one run. A given first frame is a second one: its tokens are at time 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Runs {
    /// The timestep of each run.
    pub values: Vec<f64>,
    /// Tokens of each run, in order.
    pub tokens: Vec<usize>,
}

impl Runs {
    /// Runs of `tokens` tokens. `timesteps` has one value for all of them, or one for each.
    pub fn new(timesteps: &[f64], tokens: usize) -> Self {
        let mut runs = Self { values: Vec::new(), tokens: Vec::new() };
        for &timestep in timesteps {
            match (runs.values.last(), runs.tokens.last_mut()) {
                (Some(&last), Some(run)) if last == timestep => *run += 1,
                _ => {
                    runs.values.push(timestep);
                    runs.tokens.push(1);
                }
            }
        }
        if timesteps.len() == 1 {
            runs.tokens = vec![tokens];
        }
        runs
    }

    /// Tokens of all runs.
    pub fn total(&self) -> usize {
        self.tokens.iter().sum()
    }
}

/// Vectors that shift, scale and gate the tokens, one set for each run.
#[derive(Debug, Clone)]
pub struct Modulation {
    /// Tokens of each run, in order.
    runs: Vec<usize>,
    /// (runs, k, dim), f32.
    vectors: Tensor,
}

impl Modulation {
    /// One set of k vectors for each run.
    ///
    /// # Shapes
    /// - `vectors`: (runs, k, dim), f32
    pub fn new(runs: &Runs, vectors: Tensor) -> Self {
        Self { runs: runs.tokens.clone(), vectors }
    }

    /// The same runs with the learned `table` added.
    ///
    /// # Shapes
    /// - `table`: (k, dim) or (1, k, dim), f32
    pub fn with(&self, table: &Tensor) -> Result<Self> {
        Ok(Self { runs: self.runs.clone(), vectors: self.vectors.broadcast_add(table)? })
    }

    /// `xs·(1 + scale) + shift`, the vectors taken by their place among the k.
    ///
    /// # Shapes
    /// - `xs` and output: (1, tokens, dim), f32
    pub fn shift_scale(&self, xs: &Tensor, shift: usize, scale: usize) -> Result<Tensor> {
        if cpu::takes(xs) {
            return self.each_row(xs, xs, |xs, _, set, ys| shifted(xs, set.vector(scale), set.vector(shift), ys));
        }
        self.each_run(xs, |xs, vectors| {
            let scale = (vectors.narrow(0, scale, 1)? + 1.0)?;
            xs.broadcast_mul(&scale)?.broadcast_add(&vectors.narrow(0, shift, 1)?)
        })
    }

    /// `norm(xs)·(1 + scale) + shift`, in f32 up to the end.
    ///
    /// # Shapes
    /// - `xs` and output: (1, tokens, dim), the output in the type of `xs`
    pub fn shift_scale_norm(&self, xs: &Tensor, norm: Plain<'_>, shift: usize, scale: usize) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if cuda::takes(xs) && self.fits(xs)? {
            let (all, runs) = self.on_cuda()?;
            let vectors = kernels::Vectors { all: &all, runs: runs.as_ref() };
            return kernels::norm_modulate(xs, norm.kind(), vectors, [shift, scale]);
        }
        self.shift_scale(&norm.forward(xs)?, shift, scale)?.to_dtype(xs.dtype())
    }

    /// `xs + hs·gate`, summed in f32.
    ///
    /// # Shapes
    /// - `xs`, `hs` and output: (1, tokens, dim), the output in the type of `xs`
    pub fn add_gated(&self, xs: &Tensor, hs: &Tensor, gate: usize) -> Result<Tensor> {
        if cpu::takes(xs) && cpu::takes(hs) && xs.dims() == hs.dims() {
            return self.each_row(xs, hs, |xs, hs, set, ys| gated(xs, hs, set.vector(gate), ys));
        }
        #[cfg(feature = "cuda")]
        if cuda::takes(xs) && xs.dims() == hs.dims() && xs.dtype() == hs.dtype() && self.fits(xs)? {
            let (all, runs) = self.on_cuda()?;
            let vectors = kernels::Vectors { all: &all, runs: runs.as_ref() };
            return kernels::gate_add(xs, hs, vectors, gate);
        }
        let gated =
            self.each_run(&hs.to_dtype(DType::F32)?, |hs, vectors| hs.broadcast_mul(&vectors.narrow(0, gate, 1)?))?;
        (xs.to_dtype(DType::F32)? + gated)?.to_dtype(xs.dtype())
    }

    /// Whether the vectors have the width of `xs`, and the runs its number of tokens.
    fn fits(&self, xs: &Tensor) -> Result<bool> {
        let dim = self.vectors.dim(2)?;
        let tokens = xs.elem_count() / dim.max(1);
        Ok(xs.dim(D::Minus1)? == dim && (self.runs.len() == 1 || tokens == self.runs.iter().sum::<usize>()))
    }

    /// The run of each token.
    fn run_of(&self) -> Vec<u32> {
        let runs = self.runs.iter().enumerate();
        runs.flat_map(|(run, &tokens)| std::iter::repeat_n(run as u32, tokens)).collect()
    }

    /// The vectors, contiguous, and the run of each token if there are several.
    #[cfg(feature = "cuda")]
    fn on_cuda(&self) -> Result<(Tensor, Option<Tensor>)> {
        let runs = (self.runs.len() > 1).then(|| Tensor::new(self.run_of(), self.vectors.device()));
        Ok((self.vectors.contiguous()?, runs.transpose()?))
    }

    /// Applies `f` to each row of `xs` and `hs`, (1, tokens, dim) each, with the vectors of the row's run.
    fn each_row(
        &self,
        xs: &Tensor,
        hs: &Tensor,
        f: impl Fn(&[f32], &[f32], Set<'_>, &mut [f32]) + Sync,
    ) -> Result<Tensor> {
        let (_, places, dim) = self.vectors.dims3()?;
        let one = self.runs.len() == 1;
        if xs.dims() != hs.dims() || !self.fits(xs)? {
            candle_core::bail!("{:?} and {:?} modulated with {:?}", xs.shape(), hs.shape(), self.vectors.shape());
        }
        let run_of = self.run_of();
        cpu::with_values(&[&self.vectors.contiguous()?, &hs.contiguous()?], |values| {
            let (vectors, hs) = (values[0], values[1]);
            cpu::rows(xs, |row, xs, ys| {
                let run = if one { 0 } else { run_of[row] as usize };
                f(xs, &hs[row * dim..][..dim], Set { vectors: &vectors[run * places * dim..], dim }, ys);
            })
        })
    }

    fn each_run(&self, xs: &Tensor, f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
        if self.runs.len() == 1 {
            return f(xs, &self.vectors.get(0)?);
        }
        let mut start = 0;
        let parts = self.runs.iter().enumerate().map(|(run, &tokens)| {
            let part = xs.narrow(1, start, tokens)?;
            start += tokens;
            f(&part, &self.vectors.get(run)?)
        });
        Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 1)
    }
}

/// The vectors of a run: k of `dim` numbers.
#[derive(Clone, Copy)]
struct Set<'a> {
    vectors: &'a [f32],
    dim: usize,
}

impl<'a> Set<'a> {
    fn vector(self, place: usize) -> &'a [f32] {
        &self.vectors[place * self.dim..][..self.dim]
    }
}

wide! {
    fn shifted(xs: &[f32], scale: &[f32], shift: &[f32], ys: &mut [f32]) {
        let rows = ys.iter_mut().zip(xs).zip(scale.iter().zip(shift));
        rows.for_each(|((y, x), (scale, shift))| *y = x * (1.0 + scale) + shift);
    }
}

wide! {
    fn gated(xs: &[f32], hs: &[f32], gate: &[f32], ys: &mut [f32]) {
        ys.iter_mut().zip(xs).zip(hs.iter().zip(gate)).for_each(|((y, x), (h, gate))| *y = x + h * gate);
    }
}
