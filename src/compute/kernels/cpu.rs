//! What the ways that were written for processors have in common: when they are taken, and how loops over numbers get a
//! processor's widest registers.
//!
//! candle's own operations are the plain way, taken on every other device and type, and everywhere where [`plain`](super::plain) says
//! so: most of them are of one core, and write a tensor for each.

use candle_core::{CpuStorage, DType, Result, Storage, Tensor};
use rayon::prelude::*;

/// Numbers that a core takes at one time: what fits the nearest cache.
const BLOCK: usize = 1 << 12;

/// So many of these at least are worth waking another core for.
const WORTH: usize = 8;

/// Whether a tensor takes the way that was written for processors: it is f32, and on one.
pub(crate) fn takes(xs: &Tensor) -> bool {
    xs.device().is_cpu() && xs.dtype() == DType::F32 && xs.elem_count() > 0 && !super::plain()
}

/// Calls `f` with the numbers of each tensor, which are contiguous f32 on a processor.
///
/// # Errors
/// A tensor that is not, and what `f` answers.
pub(crate) fn with_values<T>(tensors: &[&Tensor], f: impl FnOnce(&[&[f32]]) -> Result<T>) -> Result<T> {
    let guards: Vec<_> = tensors.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let values = guards.iter().map(|(storage, layout)| match (&**storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => Ok(&values[start..end]),
        _ => candle_core::bail!("this wants contiguous f32 on a processor"),
    });
    f(&values.collect::<Result<Vec<_>>>()?)
}

/// The numbers of a tensor from its first on, as they lie, and how far apart those of each side are.
pub(crate) type Strided<'a> = (&'a [f32], &'a [usize]);

/// Calls `f` with the numbers of each tensor as they lie. They are f32 on a processor.
///
/// # Errors
/// A tensor that is not, and what `f` answers.
pub(crate) fn with_strided<T>(tensors: &[&Tensor], f: impl FnOnce(&[Strided<'_>]) -> Result<T>) -> Result<T> {
    let guards: Vec<_> = tensors.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let values = guards.iter().map(|(storage, layout)| match &**storage {
        Storage::Cpu(CpuStorage::F32(values)) => Ok((&values[layout.start_offset()..], layout.stride())),
        _ => candle_core::bail!("this wants f32 on a processor"),
    });
    f(&values.collect::<Result<Vec<_>>>()?)
}

/// A tensor of the same shape, `f` of some numbers at a time.
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

/// Each row of the last side of `xs` times its number in `scales`, which has the other sides.
pub(crate) fn scaled_rows(xs: &Tensor, scales: &Tensor) -> Result<Tensor> {
    if !takes(xs) || !takes(scales) || xs.dims()[..xs.rank() - 1] != *scales.dims() {
        return xs.broadcast_mul(&scales.unsqueeze(scales.rank())?);
    }
    with_values(&[&scales.contiguous()?], |values| {
        rows(xs, |row, xs, ys| ys.iter_mut().zip(xs).for_each(|(y, x)| *y = x * values[0][row]))
    })
}

/// A tensor of the same shape, `f` of one row of the last side at a time, with its number.
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

/// A function over slices that is compiled once for each width of registers, of which the processor's widest is taken when it is
/// called. Its body is plain Rust.
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

                let has = |wide: bool| match wide {
                    true => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl")
                        && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("fma"),
                    false => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
                };
                if has(true) {
                    // SAFETY: the processor was asked for each of these features.
                    #[expect(unsafe_code, reason = "a function for processors that have AVX-512")]
                    return unsafe { with_avx512($($argument),*) };
                }
                if has(false) {
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

/// eˣ, to within two units in the last place (Cephes, S. Moshier): the power of two is put together in the exponent, and the rest
/// is a polynomial. 0 and infinity where f32 ends.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, of which the first times a whole number is exact.
    const LN_2: [f32; 2] = [355.0 / 512.0, -2.121_944_4e-4];
    // Added, it leaves a whole number in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // Below it the power of two would not be a normal number.
    let low = x.clamp(-87.336_54, 88.722_83);
    let rounded = low * LOG2_E + ROUND;
    let (whole, power) = (rounded - ROUND, rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i32);
    let rest = (low - whole * LN_2[0]) - whole * LN_2[1];
    let series = ((((1.987_569_2e-4 * rest + 1.398_2e-3) * rest + 8.333_452e-3) * rest + 4.166_579_6e-2) * rest
        + 1.666_666_5e-1)
        * rest
        + 0.5;
    let series = series * rest * rest + rest + 1.0;
    // 2ⁿ in two halves: n may be 128, which no exponent has.
    let half = power >> 1;
    let two_to = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
    let value = series * two_to(half) * two_to(power - half);
    let value = if x > 88.722_83 { f32::INFINITY } else { value };
    let value = if x < -87.336_54 { 0.0 } else { value };
    if x.is_nan() { x } else { value }
}

/// Numbers that are summed side by side: as many as the widest registers hold, twice.
const LANES: usize = 32;

/// The sum of `f` of each number, in the same order on every processor.
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

/// The largest number; -∞ of none.
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
