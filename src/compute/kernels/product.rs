//! Matrix product on a CPU by the crate `gemm`, as in candle, but into a given slice, and added to it if
//! wanted.

use candle_core::Result;
use rayon::prelude::*;

/// A strided view of a matrix: its values from the first on, and the distances of rows and columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub values: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A contiguous matrix, row after row.
    pub(crate) fn plain(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The transposed matrix.
    pub(crate) fn t(self) -> Self {
        let Self { values, rows, columns, row_stride, column_stride } = self;
        Self { values, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }

    /// Whether every element lies within `values`.
    fn is_whole(&self) -> bool {
        match (self.rows, self.columns) {
            (0, _) | (_, 0) => true,
            (rows, columns) => (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.values.len(),
        }
    }
}

/// Fewest multiplications of a product that uses several cores.
const WORTH: usize = 1 << 22;

/// Where a product goes.
pub(crate) struct Output<'a> {
    pub values: &'a mut [f32],
    /// Distance of the rows in `values`.
    pub stride: usize,
    /// Whether to add the product to `values` instead of replacing them.
    pub add: bool,
}

/// Writes `scale·(a·b)` to `output`, on all cores with `threads`.
///
/// # Errors
/// Matrices that do not fit each other, or an output that is too small.
pub(crate) fn multiply(a: Matrix<'_>, b: Matrix<'_>, scale: f32, output: Output<'_>, threads: bool) -> Result<()> {
    let Output { values: ys, stride, add } = output;
    let (n, m, depth) = (a.rows, b.columns, a.columns);
    let room = n == 0 || m == 0 || ((n - 1) * stride + m <= ys.len() && stride >= m);
    if b.rows != depth || !a.is_whole() || !b.is_whole() || !room {
        candle_core::bail!("a product of ({n}, {depth}) and ({}, {m}) into {} numbers", b.rows, ys.len());
    }
    let cores = rayon::current_num_threads();
    let worth = n.saturating_mul(m).saturating_mul(depth) >= WORTH;
    let parallelism =
        if threads && worth && cores > 1 { gemm::Parallelism::Rayon(cores) } else { gemm::Parallelism::None };
    // SAFETY: every element of the three matrices lies within its slice, as checked above, and `ys` is
    // borrowed exclusively.
    #[expect(unsafe_code, reason = "the crate takes pointers")]
    unsafe {
        gemm::gemm(
            n,
            m,
            depth,
            ys.as_mut_ptr(),
            1,
            stride as isize,
            add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
    Ok(())
}

/// A buffer for products, (rows, width): `begin` in every row, or zeros.
pub(crate) fn place(rows: usize, width: usize, begin: Option<&[f32]>) -> Vec<f32> {
    let mut ys = vec![0f32; rows * width];
    if let Some(begin) = begin {
        ys.par_chunks_mut(width).for_each(|row| row.copy_from_slice(begin));
    }
    ys
}
