//! AMX matrix products with weights of 16 bits and fewer, on Intel's server processors since 2023.
//!
//! An AMX tile product multiplies bf16 and adds in f32. A bf16 weight is exact in it, and an f32 is the sum
//! of three bf16 of eight bits each: three tile products round nothing but their sums, like an f32 product,
//! and are faster. Values below 2⁻¹²⁶ count as zero. Intel 64 and IA-32 Architectures Software Developer's
//! Manual, volume 1, chapter 18.

use std::cell::Cell;
use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;

/// Rows and columns of an AMX tile of sums. A tile of factors has `SIDE` rows of `STEP` bf16.
const SIDE: usize = 16;
/// Depth of one tile product.
const STEP: usize = 32;
/// bf16 values in a tile of factors.
const TILE: usize = SIDE * STEP;
/// bf16 terms of an f32.
const TERMS: usize = 3;
/// Rows of weights, and of `x`, per inner product: two tiles of each.
const PAIR: usize = 2 * SIDE;
/// Rows of weights per task: with their sums they fit a core's L2 cache.
const PANEL: usize = 4 * PAIR;
/// Depth of a panel of weights.
const DEPTH: usize = 32 * STEP;
/// Most values of the split `x` at a time.
const ROOM: usize = 1 << 23;

/// Whether this processor has AMX with bf16, and the system permits its use. Checked once.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(detect)
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn detect() -> bool {
    false
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn detect() -> bool {
    // From <asm/prctl.h>: Linux saves the large tile registers only for processes that request permission.
    const REQUEST_PERMISSION: libc::c_int = 0x1023;
    const TILE_DATA: libc::c_int = 18;
    let features = raw_cpuid::CpuId::new().get_extended_feature_info();
    // SAFETY: it requests permission for registers, and changes nothing else.
    #[expect(unsafe_code, reason = "a call of the system that has no other name")]
    let permitted = || unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 };
    features.is_some_and(|features| features.has_amx_tile() && features.has_amx_bf16()) && permitted()
}

/// Tile configuration: eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Config([u8; 64]);

static CONFIG: Config = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64;
        bytes[48 + tile] = SIDE as u8;
        tile += 1;
    }
    Config(bytes)
};

/// The products with one term of `x`.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
macro_rules! term {
    ($term:literal) => {
        concat!(
            "tileloadd tmm6, [{xs} + {row} + 2048 * ",
            $term,
            "]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            ahead!($term, 0),
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            ahead!($term, 1),
            "tileloadd tmm7, [{xs} + {row} + 2048 * ",
            $term,
            " + 1024]\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            ahead!($term, 2),
            "tdpbf16ps tmm3, tmm5, tmm7\n",
            ahead!($term, 3),
        )
    };
}

/// Prefetches a twelfth of the next step into L1: 8 lines of `x` and 3 of the weights.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
macro_rules! ahead {
    ($term:literal, $part:literal) => {
        concat!(
            ".irp line, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "prefetcht0 [{xs} + 6144 + 2048 * ",
            $term,
            " + 512 * ",
            $part,
            " + 64 * \\line]\n",
            ".endr\n",
            ".irp line, 0, 1, 2\n",
            "prefetcht0 [{weights} + 2048 + 768 * ",
            $term,
            " + 192 * ",
            $part,
            " + 64 * \\line]\n",
            ".endr\n",
        )
    };
}

/// Adds to `sums`, 2×2 tiles, the products of two tiles of weights per step with two tiles of `x` per step
/// and term.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn add_products(weights: &[u16], xs: &[u16], sums: &mut [f32]) {
    let steps = weights.len() / (2 * TILE);
    let whole = weights.len() == steps * 2 * TILE && xs.len() == steps * 2 * TERMS * TILE;
    assert!(steps > 0 && whole && sums.len() == PAIR * PAIR, "tiles that do not fit each other");
    // SAFETY: it reads and writes these slices, whose lengths were checked above, and registers that Rust
    // does not use; only processors with AMX come here.
    #[expect(unsafe_code, reason = "instructions that Rust has no names for")]
    unsafe {
        std::arch::asm!(
            "ldtilecfg [{config}]",
            "tileloadd tmm0, [{sums} + {row}]",
            "tileloadd tmm1, [{sums} + {row} + 1024]",
            "tileloadd tmm2, [{sums} + {row} + 2048]",
            "tileloadd tmm3, [{sums} + {row} + 3072]",
            "2:",
            "tileloadd tmm4, [{weights} + {row}]",
            "tileloadd tmm5, [{weights} + {row} + 1024]",
            term!(0),
            term!(1),
            term!(2),
            "add {weights}, 2048",
            "add {xs}, 6144",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {row}], tmm0",
            "tilestored [{sums} + {row} + 1024], tmm1",
            "tilestored [{sums} + {row} + 2048], tmm2",
            "tilestored [{sums} + {row} + 3072], tmm3",
            "tilerelease",
            config = in(reg) &raw const CONFIG,
            sums = in(reg) sums.as_mut_ptr(),
            row = in(reg) 64usize,
            weights = inout(reg) weights.as_ptr() => _,
            xs = inout(reg) xs.as_ptr() => _,
            steps = inout(reg) steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn add_products(_: &[u16], _: &[u16], _: &mut [f32]) {
    unreachable!("this processor has no AMX")
}

thread_local! {
    // Buffers are kept from product to product: new pages cost as much as the product.
    static SPLIT: Cell<Vec<u16>> = const { Cell::new(Vec::new()) };
    static PANELS: Cell<(Vec<u16>, Vec<f32>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

/// A matrix (outs, depth) that is exact in bf16 up to a scale.
pub(crate) struct Weights<'a, F> {
    pub outs: usize,
    pub depth: usize,
    /// Writes a range of a row as bf16.
    pub part: F,
    /// Scales of the products: none, one for all, or one per row.
    pub scale: &'a [f32],
}

/// `ys = keep·ys + xs·Wᵀ`.
///
/// # Shapes
/// - `xs`: (n, depth), `ys`: (n, outs)
pub(crate) fn multiply<F>(xs: &[f32], weights: &Weights<'_, F>, keep: bool, ys: &mut [f32])
where
    F: Fn(usize, Range<usize>, &mut [u16]) + Sync,
{
    let &Weights { outs, depth, .. } = weights;
    if outs == 0 || depth == 0 {
        return;
    }
    let pair = depth.div_ceil(STEP) * 2 * TERMS * TILE;
    let mut split = SPLIT.take();
    let together = (ROOM / pair).max(1) * PAIR;
    for (xs, ys) in xs.chunks(together * depth).zip(ys.chunks_mut(together * outs)) {
        let size = (xs.len() / depth).div_ceil(PAIR) * pair;
        if split.len() < size {
            split.resize(size, 0);
        }
        let split = &mut split[..size];
        split
            .par_chunks_mut(pair)
            .zip(xs.par_chunks(PAIR * depth))
            .for_each(|(split, xs)| split_rows(xs, depth, split));
        multiply_split(split, weights, keep, ys);
    }
    SPLIT.set(split);
}

/// [`multiply`] with a split `x`, panels of weights on all cores.
fn multiply_split<F>(xs: &[u16], weights: &Weights<'_, F>, keep: bool, ys: &mut [f32])
where
    F: Fn(usize, Range<usize>, &mut [u16]) + Sync,
{
    let &Weights { outs, depth, scale, .. } = weights;
    let steps = depth.div_ceil(STEP);
    let pairs = xs.len() / (steps * 2 * TERMS * TILE);
    let columns = Columns { ys: ys.as_mut_ptr(), rows: ys.len() / outs, width: outs };
    (0..outs.div_ceil(PANEL)).into_par_iter().for_each(|at| {
        let rows = at * PANEL..((at + 1) * PANEL).min(outs);
        let height = rows.len().div_ceil(PAIR);
        let (mut panel, mut sums) = PANELS.take();
        panel.resize(PANEL * DEPTH, 0);
        sums.clear();
        sums.resize(pairs * height * PAIR * PAIR, 0.0);
        for from in (0..steps).step_by(DEPTH / STEP) {
            let to = (from + DEPTH / STEP).min(steps);
            let size = (to - from) * 2 * TILE;
            let panel = &mut panel[..height * size];
            lay_out(weights, rows.clone(), from * STEP..(to * STEP).min(depth), panel);
            for (xs, sums) in xs.chunks(steps * 2 * TERMS * TILE).zip(sums.chunks_mut(height * PAIR * PAIR)) {
                let xs = &xs[from * 2 * TERMS * TILE..to * 2 * TERMS * TILE];
                for (weights, sums) in panel.chunks(size).zip(sums.chunks_mut(PAIR * PAIR)) {
                    add_products(weights, xs, sums);
                }
            }
        }
        for row in 0..columns.rows {
            let sums = &sums[row / PAIR * height * PAIR * PAIR..][..height * PAIR * PAIR];
            // SAFETY: no other task has these columns.
            #[expect(unsafe_code, reason = "tasks write into different columns of the same rows")]
            let ys = unsafe { columns.of(row, rows.clone()) };
            // The tiles of a 2×2 block with this row of `x`, which is a column in them.
            let (tile, column) = (row % PAIR / SIDE, row % SIDE);
            let sum = |out: usize| {
                let tile = out / PAIR * 4 + out % PAIR / SIDE * 2 + tile;
                sums[tile * SIDE * SIDE + out % SIDE * SIDE + column]
            };
            for (out, y) in ys.iter_mut().enumerate() {
                let scaled = match scale {
                    [] => sum(out),
                    [one] => one * sum(out),
                    scale => scale[rows.start + out] * sum(out),
                };
                *y = if keep { *y + scaled } else { scaled };
            }
        }
        PANELS.set((panel, sums));
    });
}

/// A matrix that tasks write to in disjoint columns.
struct Columns {
    ys: *mut f32,
    rows: usize,
    width: usize,
}

// SAFETY: it is an address; callers of `of` write to disjoint columns.
#[expect(unsafe_code, reason = "tasks write into different columns of the same rows")]
unsafe impl Send for Columns {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "as above")]
unsafe impl Sync for Columns {}

impl Columns {
    /// # Safety
    /// No other borrow of these columns of this row.
    #[expect(unsafe_code, reason = "as above")]
    #[expect(clippy::mut_from_ref, reason = "callers have different columns")]
    unsafe fn of(&self, row: usize, columns: Range<usize>) -> &mut [f32] {
        assert!(row < self.rows && columns.end <= self.width, "columns that are not there");
        // SAFETY: the place is within the matrix.
        unsafe { std::slice::from_raw_parts_mut(self.ys.add(row * self.width + columns.start), columns.len()) }
    }
}

/// Packs rows of weights into tiles: by 32 rows, then by steps along the depth, then two tiles of 16 rows of
/// 32.
fn lay_out<F>(weights: &Weights<'_, F>, rows: Range<usize>, depth: Range<usize>, panel: &mut [u16])
where
    F: Fn(usize, Range<usize>, &mut [u16]) + Sync,
{
    let steps = depth.len().div_ceil(STEP);
    if !rows.len().is_multiple_of(PAIR) {
        panel.fill(0);
    }
    let mut part = [0u16; DEPTH];
    for (at, row) in rows.enumerate() {
        (weights.part)(row, depth.clone(), &mut part[..depth.len()]);
        let panel = &mut panel[at / PAIR * steps * 2 * TILE..][at % PAIR * STEP..];
        for (to, from) in panel.chunks_mut(2 * TILE).zip(&part.as_chunks::<STEP>().0[..steps]) {
            to[..STEP].copy_from_slice(from);
        }
    }
}

/// Splits up to 32 rows of `x` into terms and packs them into tiles: by steps along the depth, then by terms,
/// then two tiles of 16 rows of `x`, which are columns there, with two neighbouring values side by side.
fn split_rows(xs: &[f32], depth: usize, split: &mut [u16]) {
    for (step, split) in split.chunks_mut(2 * TERMS * TILE).enumerate() {
        let from = step * STEP;
        let length = STEP.min(depth - from);
        for tile in 0..2 {
            let mut here = [[0f32; STEP]; SIDE];
            for (here, xs) in here.iter_mut().zip(xs.chunks(depth).skip(tile * SIDE)) {
                here[..length].copy_from_slice(&xs[from..][..length]);
            }
            for two in 0..SIDE {
                let mut rows = [[0u16; STEP]; TERMS];
                for (at, here) in here.iter().enumerate() {
                    for one in 0..2 {
                        for (row, term) in rows.iter_mut().zip(terms(here[2 * two + one])) {
                            row[2 * at + one] = term;
                        }
                    }
                }
                for (term, row) in rows.iter().enumerate() {
                    split[(term * 2 + tile) * TILE + two * STEP..][..STEP].copy_from_slice(row);
                }
            }
        }
    }
}

/// Three bf16 that add up to `x` exactly: its upper bits, those of the rest, and the last rest.
fn terms(x: f32) -> [u16; TERMS] {
    let upper = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000);
    // The rest of infinity is NaN, and some NaN have the upper bits of infinity.
    let first = if x.is_nan() { f32::NAN } else { upper(x) };
    let rest = if x.is_finite() { x - first } else { 0.0 };
    let second = upper(rest);
    [first, second, rest - second].map(|term| (term.to_bits() >> 16) as u16)
}
