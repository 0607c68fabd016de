//! Helpers of the CPU kernels: when they apply, and loops that use a processor's widest registers.
//!
//! candle's operations remain for other devices and types, and with [`plain`](super::plain): most use one
//! core, and each writes a tensor.

use candle_core::{CpuStorage, DType, Result, Storage, Tensor};
use rayon::prelude::*;

/// Values per block: what fits the L1 cache.
const BLOCK: usize = 1 << 12;

/// Minimum blocks per rayon task.
const WORTH: usize = 8;

/// Whether the CPU kernels take a tensor: f32, on a CPU, not empty.
pub(crate) fn takes(xs: &Tensor) -> bool {
    xs.device().is_cpu() && xs.dtype() == DType::F32 && xs.elem_count() > 0 && !super::plain()
}

/// Calls `f` with the values of each tensor.
///
/// # Errors
/// A tensor that is not contiguous f32 on a CPU, or the error of `f`.
pub(crate) fn with_values<T>(tensors: &[&Tensor], f: impl FnOnce(&[&[f32]]) -> Result<T>) -> Result<T> {
    let guards: Vec<_> = tensors.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let values = guards.iter().map(|(storage, layout)| match (&**storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => Ok(&values[start..end]),
        _ => candle_core::bail!("a CPU kernel takes contiguous f32 on a CPU only"),
    });
    f(&values.collect::<Result<Vec<_>>>()?)
}

/// The values of a tensor from its first on, and the stride of each axis.
pub(crate) type Strided<'a> = (&'a [f32], &'a [usize]);

/// Calls `f` with a strided view of each tensor.
///
/// # Errors
/// A tensor that is not contiguous f32 on a CPU, or the error of `f`.
pub(crate) fn with_strided<T>(tensors: &[&Tensor], f: impl FnOnce(&[Strided<'_>]) -> Result<T>) -> Result<T> {
    let guards: Vec<_> = tensors.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let values = guards.iter().map(|(storage, layout)| match &**storage {
        Storage::Cpu(CpuStorage::F32(values)) => Ok((&values[layout.start_offset()..], layout.stride())),
        _ => candle_core::bail!("a CPU kernel takes f32 on a CPU only"),
    });
    f(&values.collect::<Result<Vec<_>>>()?)
}

/// Applies `f`, element-wise, to blocks of `xs`.
///
/// # Errors
/// A tensor that is not f32 on a processor.
pub(crate) fn map(xs: &Tensor, f: impl Fn(&[f32], &mut [f32]) + Sync) -> Result<Tensor> {
    blocks(xs, BLOCK, |_, xs, ys| f(xs, ys))
}

/// `xs + hs`, of one shape and type.
pub(crate) fn sum_of(xs: &Tensor, hs: &Tensor) -> Result<Tensor> {
    if !takes(xs) || !takes(hs) || xs.dims() != hs.dims() {
        return xs + hs;
    }
    with_values(&[&hs.contiguous()?], |values| {
        blocks(xs, BLOCK, |block, xs, ys| added(xs, &values[0][block * BLOCK..], ys))
    })
}

/// `xs·hs`, of one shape and type.
pub(crate) fn product_of(xs: &Tensor, hs: &Tensor) -> Result<Tensor> {
    if !takes(xs) || !takes(hs) || xs.dims() != hs.dims() {
        return xs * hs;
    }
    with_values(&[&hs.contiguous()?], |values| {
        blocks(xs, BLOCK, |block, xs, ys| multiplied(xs, &values[0][block * BLOCK..], ys))
    })
}

/// Each row of the last axis of `xs` times its scale; `scales` has the shape of the other axes.
pub(crate) fn scaled_rows(xs: &Tensor, scales: &Tensor) -> Result<Tensor> {
    if !takes(xs) || !takes(scales) || xs.dims()[..xs.rank() - 1] != *scales.dims() {
        return xs.broadcast_mul(&scales.unsqueeze(scales.rank())?);
    }
    with_values(&[&scales.contiguous()?], |values| {
        rows(xs, |row, xs, ys| ys.iter_mut().zip(xs).for_each(|(y, x)| *y = x * values[0][row]))
    })
}

/// Applies `f` to each row of the last axis, with the row's index.
///
/// # Errors
/// A tensor that is not f32 on a processor.
pub(crate) fn rows(xs: &Tensor, f: impl Fn(usize, &[f32], &mut [f32]) + Sync) -> Result<Tensor> {
    let width = xs.dim(candle_core::D::Minus1)?.max(1);
    let together = (BLOCK / width).max(1);
    blocks(xs, together * width, |block, xs, ys| {
        for (row, (xs, ys)) in xs.chunks_exact(width).zip(ys.chunks_exact_mut(width)).enumerate() {
            f(block * together + row, xs, ys);
        }
    })
}

fn blocks(xs: &Tensor, length: usize, f: impl Fn(usize, &[f32], &mut [f32]) + Sync) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let ys = with_values(&[&xs], |values| {
        let mut ys = vec![0f32; values[0].len()];
        let worth = (WORTH * BLOCK).div_ceil(length);
        let blocks = ys.par_chunks_mut(length).zip(values[0].par_chunks(length)).enumerate().with_min_len(worth);
        blocks.for_each(|(block, (ys, xs))| f(block, xs, ys));
        Ok(ys)
    })?;
    Tensor::from_vec(ys, xs.shape(), xs.device())
}

/// Compiles a function over slices for each register width (AVX-512, AVX2, baseline) and picks the widest at
/// run time. Its body is plain Rust.
macro_rules! wide {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $made:ty)? $body:block) => {
        $(#[$doc])*
        $vis fn $name($($argument: $kind),*) $(-> $made)? {
            #[inline(always)]
            fn body($($argument: $kind),*) $(-> $made)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,fma")]
                fn with_avx512($($argument: $kind),*) $(-> $made)? {
                    body($($argument),*)
                }

                #[target_feature(enable = "avx2,fma")]
                fn with_avx2($($argument: $kind),*) $(-> $made)? {
                    body($($argument),*)
                }

                let fma = is_x86_feature_detected!("fma");
                if fma && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                {
                    // SAFETY: each of these features was detected.
                    #[expect(unsafe_code, reason = "a function for processors that have AVX-512")]
                    return unsafe { with_avx512($($argument),*) };
                }
                if fma && is_x86_feature_detected!("avx2") {
                    // SAFETY: as above.
                    #[expect(unsafe_code, reason = "a function for processors that have AVX2")]
                    return unsafe { with_avx2($($argument),*) };
                }
            }
            body($($argument),*)
        }
    };
}
pub(crate) use wide;

/// eˣ within two units in the last place (Cephes, S. Moshier): a power of two times a polynomial. 0 and
/// infinity beyond f32's range.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts; integer multiples of the first are exact.
    const LN_2: [f32; 2] = [355.0 / 512.0, -2.121_944_4e-4];
    // Adding this leaves an integer in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // Below, the power of two would be subnormal.
    let low = x.clamp(-87.336_54, 88.722_83);
    let rounded = low * LOG2_E + ROUND;
    let (whole, power) = (rounded - ROUND, rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i32);
    let rest = (low - whole * LN_2[0]) - whole * LN_2[1];
    let series = ((((1.987_569_2e-4 * rest + 1.398_2e-3) * rest + 8.333_452e-3) * rest + 4.166_579_6e-2) * rest
        + 1.666_666_5e-1)
        * rest
        + 0.5;
    let series = series * rest * rest + rest + 1.0;
    // 2ⁿ in two factors: n may be 128, beyond the largest exponent.
    let half = power >> 1;
    let two_to = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
    let value = series * two_to(half) * two_to(power - half);
    let value = if x > 88.722_83 { f32::INFINITY } else { value };
    let value = if x < -87.336_54 { 0.0 } else { value };
    if x.is_nan() { x } else { value }
}

/// Parallel accumulators: twice as many as the widest registers hold.
const LANES: usize = 32;

/// Sum of `f(x)` over `xs`, in the same order on every processor.
#[expect(
    clippy::inline_always,
    reason = "within a function of `wide!` it is to be compiled for that function's registers"
)]
#[inline(always)]
pub(crate) fn sum(xs: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let chunks = xs.chunks_exact(LANES);
    let rest = chunks.remainder().iter().map(|&x| f(x)).sum::<f32>();
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f(x);
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Maximum; -∞ if empty.
#[expect(
    clippy::inline_always,
    reason = "within a function of `wide!` it is to be compiled for that function's registers"
)]
#[inline(always)]
pub(crate) fn largest(xs: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    let chunks = xs.chunks_exact(LANES);
    let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for chunk in chunks {
        for (most, &x) in most.iter_mut().zip(chunk) {
            *most = if x > *most { x } else { *most };
        }
    }
    most.into_iter().fold(rest, f32::max)
}

wide! {
    fn added(xs: &[f32], hs: &[f32], ys: &mut [f32]) {
        ys.iter_mut().zip(xs).zip(hs).for_each(|((y, x), h)| *y = x + h);
    }
}

wide! {
    fn multiplied(xs: &[f32], hs: &[f32], ys: &mut [f32]) {
        ys.iter_mut().zip(xs).zip(hs).for_each(|((y, x), h)| *y = x * h);
    }
}
