//! Snake, the periodic activation of vocoders, plain and anti-aliased. Signals are (time, channels).

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::fir::{Tap, filter};
use super::sine::sine_squared;
use crate::weights::Weights;

/// SnakeBeta (Lee et al., 2022): `x + sin²(αx)/β`, α and β learned per channel. In Snake (Ziyin et al., 2020)
/// β is α.
#[derive(Debug, Clone)]
pub struct Snake {
    alpha: Vec<f32>,
    /// 1/β.
    inverse: Vec<f32>,
}

/// Added to β before the division, as in BigVGAN.
const EPSILON: f32 = 1e-9;

impl Snake {
    /// Takes `alpha` (channels) from `weights`, and `beta` if it has one. Both are stored as logarithms.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn load(weights: &Weights, channels: usize, has_beta: bool) -> crate::error::Result<Self> {
        let exp = |name| Ok::<_, crate::error::Error>(weights.f32(name, channels)?.exp()?.to_vec1::<f32>()?);
        let alpha = exp("alpha")?;
        let beta = if has_beta { exp("beta")? } else { alpha.clone() };
        Ok(Self::new(alpha, &beta))
    }

    /// The activation with these α and β, one value per channel each.
    pub fn new(alpha: Vec<f32>, beta: &[f32]) -> Self {
        Self { alpha, inverse: beta.iter().map(|beta| 1.0 / (beta + EPSILON)).collect() }
    }

    /// # Shapes
    /// - `xs`: (…, channels)
    /// - output: the same, in the type of `xs`; computed in f32
    ///
    /// # Errors
    /// Other channels.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let channels = self.alpha.len();
        if xs.dims().last() != Some(&channels) {
            candle_core::bail!("an activation of {channels} channels cannot take {:?}", xs.dims());
        }
        let wide = xs.to_dtype(DType::F32)?;
        let row = |values: &[f32]| Tensor::new(values, xs.device());
        let wave = wide.broadcast_mul(&row(&self.alpha)?)?.sin()?.sqr()?.broadcast_mul(&row(&self.inverse)?)?;
        (wide + wave)?.to_dtype(xs.dtype())
    }

    /// Applies the activation in place; `xs` is (time, channels).
    fn apply(&self, xs: &mut [f32]) {
        for sample in xs.chunks_exact_mut(self.alpha.len()) {
            for ((x, alpha), inverse) in sample.iter_mut().zip(&self.alpha).zip(&self.inverse) {
                *x += inverse * sine_squared(alpha * *x);
            }
        }
    }
}

/// Anti-aliased Snake (Karras et al., 2021; BigVGAN, Lee et al., 2022): upsample, activate, downsample, so
/// that new overtones do not alias.
#[derive(Debug, Clone)]
pub struct AntiAliased {
    snake: Snake,
    ratio: usize,
    up: Vec<f32>,
    down: Vec<f32>,
    plain: bool,
}

impl AntiAliased {
    /// Takes the filters `upsample.filter` and `downsample.filter` (1, 1, kernel) from `weights`, and the
    /// activation ([`Snake::load`]) from its `act`. `shape` is (channels, ratio, kernel): `ratio` is the
    /// upsampling factor, and less than `kernel`.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn load(weights: &Weights, shape: [usize; 3], has_beta: bool) -> crate::error::Result<Self> {
        let [channels, ratio, kernel] = shape;
        let filter =
            |name| Ok::<_, crate::error::Error>(weights.f32(name, (1, 1, kernel))?.flatten_all()?.to_vec1::<f32>()?);
        let snake = Snake::load(&weights.pp("act"), channels, has_beta)?;
        Ok(Self::new(snake, ratio, filter("upsample.filter")?, filter("downsample.filter")?))
    }

    /// The activation with these filters, each longer than `ratio`.
    pub fn new(snake: Snake, ratio: usize, up: Vec<f32>, down: Vec<f32>) -> Self {
        Self { snake, ratio, up, down, plain: false }
    }

    /// The same by candle's operations only, on every device.
    #[must_use]
    pub fn plain(self) -> Self {
        Self { plain: true, ..self }
    }

    /// Receptive field to one side, in samples: the greater of before and after.
    pub fn reach(&self) -> usize {
        self.side(&self.up) + self.side(&self.down)
    }

    /// Receptive field of a filter to one side, in samples of the lower rate: half its length, rounded up,
    /// and one.
    fn side(&self, filter: &[f32]) -> usize {
        filter.len().div_ceil(2 * self.ratio) + 1
    }

    /// # Shapes
    /// - `xs`: (t, channels), t at least 1
    /// - output: the same, in the type of `xs`; computed in f32
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        if !self.plain && xs.device().is_cpu() && xs.dtype() == DType::F32 {
            return xs.contiguous()?.apply_op1_no_bwd(&OnCpu(self));
        }
        let ys = self.upsample(&xs.to_dtype(DType::F32)?)?;
        self.downsample(&self.snake.forward(&ys)?)?.to_dtype(xs.dtype())
    }

    /// Polyphase form of the upsampling filter: output sample `phase` of `ratio` as (input offset, weight).
    fn up_terms(&self, phase: usize) -> Vec<(isize, f32)> {
        let (ratio, kernel) = (self.ratio, self.up.len());
        // The reference repeats the ends by `pad`, filters, and cuts the beginning off.
        let pad = (kernel / ratio).saturating_sub(1);
        let at = phase + pad * ratio + (kernel - ratio) / 2;
        let terms = (at % ratio..kernel).step_by(ratio);
        terms.map(|k| ((at as isize - k as isize) / ratio as isize - pad as isize, self.up[k] * ratio as f32)).collect()
    }

    /// Polyphase form of the downsampling filter: an output sample as (input offset, phase, weight).
    fn down_terms(&self) -> impl Iterator<Item = (isize, usize, f32)> {
        let (ratio, kernel) = (self.ratio as isize, self.down.len());
        let before = (kernel / 2 + kernel % 2) as isize - 1;
        let places = (0..kernel as isize).map(move |k| k - before);
        places.zip(&self.down).map(move |(at, &w)| (at.div_euclid(ratio), at.rem_euclid(ratio) as usize, w))
    }

    /// (t, channels) to (t·ratio, channels).
    fn upsample(&self, xs: &Tensor) -> Result<Tensor> {
        let (length, channels) = xs.dims2()?;
        let side = self.side(&self.up);
        let xs = xs.pad_with_same(0, side, side)?;
        let phases = (0..self.ratio).map(|phase| {
            let mut sum = Tensor::zeros((length, channels), DType::F32, xs.device())?;
            for (place, weight) in self.up_terms(phase) {
                sum = (sum + (xs.narrow(0, side.saturating_add_signed(place), length)? * f64::from(weight))?)?;
            }
            Ok(sum)
        });
        Tensor::stack(&phases.collect::<Result<Vec<_>>>()?, 1)?.reshape((length * self.ratio, channels))
    }

    /// (t·ratio, channels) to (t, channels).
    fn downsample(&self, xs: &Tensor) -> Result<Tensor> {
        let (length, channels) = (xs.dim(0)? / self.ratio, xs.dim(1)?);
        let side = self.side(&self.down);
        let xs = xs.pad_with_same(0, side * self.ratio, side * self.ratio)?;
        let xs = xs.reshape((length + 2 * side, self.ratio, channels))?;
        let mut sum = Tensor::zeros((length, channels), DType::F32, xs.device())?;
        for (place, phase, weight) in self.down_terms() {
            let part = xs.narrow(0, side.saturating_add_signed(place), length)?.narrow(1, phase, 1)?.squeeze(1)?;
            sum = (sum + (part * f64::from(weight))?)?;
        }
        Ok(sum)
    }
}

/// [`AntiAliased::forward`] on a CPU.
struct OnCpu<'a>(&'a AntiAliased);

/// Values of a block that stays in the caches between the filters.
const BLOCK: usize = 1 << 15;

impl CustomOp1 for OnCpu<'_> {
    fn name(&self) -> &'static str {
        "anti-aliased-snake"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("an anti-aliased activation takes contiguous f32 only");
        };
        let channels = self.0.snake.alpha.len();
        if layout.dims().len() != 2 || layout.dims()[1] != channels {
            candle_core::bail!("an activation of {channels} channels cannot take {:?}", layout.dims());
        }
        let signal = Signal { values: &values[start..end], channels };
        let mut ys = vec![0f32; end - start];
        let rows = (BLOCK / channels).max(32);
        ys.par_chunks_mut(rows * channels).enumerate().for_each(|(block, ys)| self.block(&signal, block * rows, ys));
        Ok((CpuStorage::F32(ys), layout.shape().clone()))
    }
}

/// A signal (time, channels).
struct Signal<'a> {
    values: &'a [f32],
    channels: usize,
}

impl Signal<'_> {
    /// `rows` samples from `first` on; beyond the ends the first and last sample repeat.
    fn window(&self, first: isize, rows: usize) -> Vec<f32> {
        let last = (self.values.len() / self.channels) as isize - 1;
        let mut window = Vec::with_capacity(rows * self.channels);
        for row in first..first + rows as isize {
            let start = row.clamp(0, last) as usize * self.channels;
            window.extend_from_slice(&self.values[start..start + self.channels]);
        }
        window
    }
}

impl OnCpu<'_> {
    /// The activation of the samples from `first` on, added to `ys`, which is zeros.
    fn block(&self, signal: &Signal<'_>, first: usize, ys: &mut [f32]) {
        let (layer, channels) = (self.0, signal.channels);
        let (length, rows) = (signal.values.len() / channels, ys.len() / channels);
        // Samples around the block that downsampling reads; around those, what upsampling reads.
        let (up, down) = (layer.side(&layer.up), layer.side(&layer.down));
        let (begin, wide) = (first as isize - down as isize, rows + 2 * down);
        let window = signal.window(begin - up as isize, wide + 2 * up);
        let tap = |side: usize, place, weight| Tap { offset: side.saturating_add_signed(place) * channels, weight };
        let mut phases: Vec<Vec<f32>> = (0..layer.ratio).map(|_| vec![0f32; wide * channels]).collect();
        for (phase, values) in phases.iter_mut().enumerate() {
            let taps = layer.up_terms(phase).into_iter();
            let taps: Vec<Tap> = taps.map(|(place, weight)| tap(up, place, weight)).collect();
            filter(values, &window, &taps);
            layer.snake.apply(values);
        }
        repeat_ends(&mut phases, channels, begin, length);
        for (phase, values) in phases.iter().enumerate() {
            let taps = layer.down_terms().filter(|term| term.1 == phase);
            let taps: Vec<Tap> = taps.map(|(place, _, weight)| tap(down, place, weight)).collect();
            filter(ys, values, &taps);
        }
    }
}

/// Replaces the values beyond the ends of a signal of `length` samples by its first and last sample at the
/// higher rate. The phases begin at the sample `begin`.
fn repeat_ends(phases: &mut [Vec<f32>], channels: usize, begin: isize, length: usize) {
    let rows = phases[0].len() / channels;
    let before = usize::try_from(-begin).unwrap_or(0).min(rows);
    let end = usize::try_from(length as isize - begin).unwrap_or(0).min(rows);
    if before > 0 {
        let first = phases[0][before * channels..][..channels].to_vec();
        for row in phases.iter_mut().flat_map(|phase| phase[..before * channels].chunks_exact_mut(channels)) {
            row.copy_from_slice(&first);
        }
    }
    if end < rows {
        let last = phases[phases.len() - 1][(end - 1) * channels..][..channels].to_vec();
        for row in phases.iter_mut().flat_map(|phase| phase[end * channels..].chunks_exact_mut(channels)) {
            row.copy_from_slice(&last);
        }
    }
}
