//! Winograd convolution F(2×2, 3×3) on a CPU (Lavin and Gray, 2016).
//!
//! The image is cut into squares of 4×4 pixels that overlap by two. Squares and kernels are transformed into
//! 16 numbers each; one matrix product per number, over the channels, gives the transform of 2×2 output
//! pixels. That takes 16 multiplications instead of 36, all in matrix products, which on a CPU run at twice
//! the speed of candle's convolution. The transforms are f32 and only add and halve.
//!
//! Measured on two cores of an AMD EPYC (Zen 5), against candle 0.11.1's own convolution, in CPU time: 288 to
//! 96 channels, 256·256 pixels: 0.40 s against 1.34 s; 1152 to 384, 64·64: 0.28 s against 0.69 s, with a
//! relative error of 7.3e-7 against 5.5e-7. With AVX-512 in the matrix product (gemm's `x86-v4`) it was no
//! faster.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::Edges;
use crate::compute::kernels::cpu::{wide, with_values};
use crate::compute::kernels::product::{self, Matrix, Output};

/// Numbers per square.
const POINTS: usize = 16;

/// Most values of the transformed image at one time: 8 MiB, which stay in a cache between writing and
/// reading.
const IMAGE: usize = 2 << 20;

/// Most values of the transformed kernels at one time: 64 MiB.
const KERNELS: usize = 16 << 20;

/// Bytes of the transformed image, its products and the transformed kernels.
pub(super) fn scratch(inputs: usize, outputs: usize, pixels: usize) -> usize {
    let kernels = KERNELS.min(POINTS * inputs * outputs);
    let image = IMAGE.min(POINTS * inputs * pixels.div_ceil(4));
    (image + image * outputs / inputs.max(1) + kernels) * size_of::<f32>()
}

/// The convolution of images concatenated along the channels, stride 1, padding 1 in the mode `edges`.
///
/// # Shapes
/// - `images`: one or more of (1, c, h, w), contiguous, f32, on the CPU
/// - `weight`: (out, in, 3, 3); its last `images.len()·c` input channels are used
/// - `bias`: (1, out, 1, 1)
/// - output: (1, out, h, w)
///
/// # Errors
/// Tensors of another type, device or shape.
pub(super) fn convolve(images: &[Tensor], weight: &Tensor, bias: &Tensor, edges: Edges) -> Result<Tensor> {
    let (_, _, h, w) = images[0].dims4()?;
    let (outputs, inputs, _, _) = weight.dims4()?;
    let known: usize = images.iter().map(|image| image.elem_count() / (h * w)).sum();
    let kernels_per_turn = (KERNELS / (POINTS * known)).clamp(1, outputs);
    let mut ys = vec![0f32; outputs * h * w];
    let tensors: Vec<&Tensor> = images.iter().chain([weight, bias]).collect();
    with_values(&tensors, |values| {
        let (images, [weight, bias]) = values.split_at(images.len()) else {
            candle_core::bail!("a convolution without a kernel");
        };
        let image = Image { parts: images, h, w, edges };
        let kernels = weight.chunks(kernels_per_turn * inputs * 9);
        let parts = ys.chunks_mut(kernels_per_turn * h * w).zip(kernels).zip(bias.chunks(kernels_per_turn));
        for ((ys, kernels), bias) in parts {
            image.convolve(&turned_kernels(kernels, inputs, known), bias, ys)?;
        }
        Ok(())
    })?;
    Tensor::from_vec(ys, (1, outputs, h, w), images[0].device())
}

/// Transformed kernels, (out, 16, inputs).
struct Kernels {
    values: Vec<f32>,
    inputs: usize,
}

impl Kernels {
    /// The matrix (out, inputs) of one of the 16 numbers.
    fn of(&self, point: usize) -> Matrix<'_> {
        let Self { values, inputs } = self;
        let rows = values.len() / (POINTS * inputs);
        Matrix {
            values: &values[point * inputs..],
            rows,
            columns: *inputs,
            row_stride: POINTS * inputs,
            column_stride: 1,
        }
    }
}

/// Transforms the last `known` inputs of kernels (out, inputs, 3, 3).
fn turned_kernels(kernels: &[f32], inputs: usize, known: usize) -> Kernels {
    let outputs = kernels.len() / (inputs * 9);
    let mut turned = vec![0f32; outputs * POINTS * known];
    turned.par_chunks_mut(POINTS * known).zip(kernels.par_chunks(inputs * 9)).for_each(|(turned, kernels)| {
        for (i, kernel) in kernels[(inputs - known) * 9..].chunks_exact(9).enumerate() {
            let rows: [[f32; 3]; 4] = [0, 1, 2, 3].map(|row| [0, 1, 2].map(|c| turned_tap(kernel, row, c, 3)));
            for (point, value) in (0..POINTS).map(|point| (point, turned_tap(&rows[point / 4], point % 4, 0, 1))) {
                turned[point * known + i] = value;
            }
        }
    });
    Kernels { values: turned, inputs: known }
}

/// One of the four numbers of the transform of three taps, `step` apart from `start`.
fn turned_tap(taps: &[f32], number: usize, start: usize, step: usize) -> f32 {
    let (a, b, c) = (taps[start], taps[start + step], taps[start + 2 * step]);
    match number {
        0 => a,
        1 => (a + b + c) * 0.5,
        2 => (a - b + c) * 0.5,
        _ => c,
    }
}

/// Images of one size, concatenated along the channels: (channels, h, w) each.
struct Image<'a> {
    parts: &'a [&'a [f32]],
    h: usize,
    w: usize,
    edges: Edges,
}

impl Image<'_> {
    /// Writes the convolution into `ys` (out, h, w), some rows of squares at a time.
    fn convolve(&self, kernels: &Kernels, bias: &[f32], ys: &mut [f32]) -> Result<()> {
        let (inputs, outputs) = (kernels.inputs, bias.len());
        let (rows, columns) = (self.h.div_ceil(2), self.w.div_ceil(2));
        let rows_per_turn = (IMAGE / (POINTS * inputs * columns)).clamp(1, rows);
        let mut turned = vec![0f32; POINTS * inputs * rows_per_turn * columns];
        let mut products = vec![0f32; POINTS * outputs * rows_per_turn * columns];
        for first in (0..rows).step_by(rows_per_turn) {
            let band = Band { image: self, first, rows: rows_per_turn.min(rows - first), columns };
            let squares = band.rows * columns;
            let (turned, products) =
                (&mut turned[..POINTS * inputs * squares], &mut products[..POINTS * outputs * squares]);
            band.fill(turned);
            // One core per product: sharing each among all cores would cost more than it saves.
            products.par_chunks_mut(outputs * squares).enumerate().try_for_each(|(point, products)| {
                let (values, row_stride) = (&turned[point * squares..], POINTS * squares);
                let image = Matrix { values, rows: inputs, columns: squares, row_stride, column_stride: 1 };
                let output = Output { values: products, stride: squares, add: false };
                product::multiply(kernels.of(point), image, 1.0, output, false)
            })?;
            let planes = ys.par_chunks_mut(self.h * self.w).zip(bias).enumerate();
            planes.for_each(|(output, (ys, &bias))| band.turn_back(products, output, bias, ys));
        }
        Ok(())
    }
}

impl Image<'_> {
    /// The row of pixels at `place`, counted from one above the image; `None` for a row of zeros.
    fn row(&self, place: usize) -> Option<usize> {
        match (place.checked_sub(1), self.edges) {
            (Some(y), _) if y < self.h => Some(y),
            (None, Edges::Reflect) => Some(1),
            (Some(y), Edges::Reflect) if y == self.h => Some(y - 2),
            _ => None,
        }
    }
}

/// Some rows of squares of an image.
struct Band<'a> {
    image: &'a Image<'a>,
    first: usize,
    rows: usize,
    columns: usize,
}

impl Band<'_> {
    /// Fills the buffer with the transformed squares: (channels, 16, squares).
    fn fill(&self, buffer: &mut [f32]) {
        let Image { parts, h, w, .. } = self.image;
        let planes: Vec<&[f32]> = parts.iter().flat_map(|part| part.chunks_exact(h * w)).collect();
        buffer.par_chunks_mut(POINTS * self.rows * self.columns).zip(planes).for_each(|(turned, plane)| {
            let mut scratch = Scratch::new(*w, self.columns);
            for row in 0..self.rows {
                self.turn(plane, row, &mut scratch, turned);
            }
        });
    }
}

/// One transformed row of an image, its odd columns (from −1) apart from its even ones; zero where not
/// written.
struct Scratch {
    zeros: Vec<f32>,
    odd: Vec<f32>,
    even: Vec<f32>,
}

impl Scratch {
    fn new(w: usize, columns: usize) -> Self {
        // One more than the squares, for the right edge of the last.
        Self { zeros: vec![0.0; w], odd: vec![0.0; columns + 1], even: vec![0.0; columns + 1] }
    }
}

impl Band<'_> {
    /// Transforms one row of squares of one channel.
    fn turn(&self, plane: &[f32], row: usize, scratch: &mut Scratch, turned: &mut [f32]) {
        let (w, columns, squares) = (self.image.w, self.columns, self.rows * self.columns);
        let Scratch { zeros, odd, even } = scratch;
        // The rows of pixels, from one above the output's.
        let top = 2 * (self.first + row);
        let line = |i: usize| match self.image.row(top + i) {
            Some(y) => &plane[y * w..(y + 1) * w],
            None => &zeros[..],
        };
        let lines = [line(0), line(1), line(2), line(3)];
        for i in 0..4 {
            match i {
                0 => split(lines[0], lines[2], -1.0, odd, even),
                1 => split(lines[1], lines[2], 1.0, odd, even),
                2 => split(lines[2], lines[1], -1.0, odd, even),
                _ => split(lines[1], lines[3], -1.0, odd, even),
            }
            if self.image.edges == Edges::Reflect {
                mirror(w, odd, even);
            }
            let (left, right) = (&odd[..columns], &odd[1..=columns]);
            let (middle, beyond) = (&even[..columns], &even[1..=columns]);
            let start = |j: usize| (4 * i + j) * squares + row * columns;
            combine(&mut turned[start(0)..][..columns], left, right, -1.0);
            combine(&mut turned[start(1)..][..columns], middle, right, 1.0);
            combine(&mut turned[start(2)..][..columns], right, middle, -1.0);
            combine(&mut turned[start(3)..][..columns], middle, beyond, -1.0);
        }
    }

    /// Inverse transform of the products of one output channel into its rows of pixels.
    fn turn_back(&self, products: &[f32], output: usize, bias: f32, ys: &mut [f32]) {
        let (h, w, columns, squares) = (self.image.h, self.image.w, self.columns, self.rows * self.columns);
        let outputs = products.len() / (POINTS * squares);
        for row in 0..self.rows {
            let line = |i: usize, j: usize| {
                let start = ((4 * i + j) * outputs + output) * squares + row * columns;
                &products[start..start + columns]
            };
            let top = 2 * (self.first + row);
            let mut pixels = ys[top * w..].chunks_mut(w).take((h - top).min(2));
            if let Some(pixels) = pixels.next() {
                let sums = [0, 1, 2, 3].map(|j| Sum { a: line(0, j), b: line(1, j), c: line(2, j) });
                back(sums, 1.0, bias, pixels);
            }
            if let Some(pixels) = pixels.next() {
                let sums = [0, 1, 2, 3].map(|j| Sum { a: line(1, j), b: line(2, j), c: line(3, j) });
                back(sums, -1.0, bias, pixels);
            }
        }
    }
}

wide! {
    /// `a + sign·b`, element by element.
    fn combine(out: &mut [f32], a: &[f32], b: &[f32], sign: f32) {
        out.iter_mut().zip(a).zip(b).for_each(|((out, a), b)| *out = a + sign * b);
    }
}

wide! {
    /// `a + sign·b` of two rows of pixels, with column −1, 1, 3, … in `odd` and 0, 2, 4, … in `even`.
    fn split(a: &[f32], b: &[f32], sign: f32, odd: &mut [f32], even: &mut [f32]) {
        let pairs = a.chunks_exact(2).zip(b.chunks_exact(2));
        for (((a, b), even), odd) in pairs.zip(even.iter_mut()).zip(odd[1..].iter_mut()) {
            *even = a[0] + sign * b[0];
            *odd = a[1] + sign * b[1];
        }
        if let (w, Some((a, b))) = (a.len(), a.last().zip(b.last()))
            && w % 2 == 1
        {
            even[w / 2] = a + sign * b;
        }
    }
}

/// Columns −1 and `w` of a row that [`split`] wrote, by reflection.
#[inline]
fn mirror(w: usize, odd: &mut [f32], even: &mut [f32]) {
    odd[0] = odd[1];
    match w % 2 {
        0 => even[w / 2] = even[w / 2 - 1],
        _ => odd[w / 2 + 1] = odd[w / 2],
    }
}

/// Three of the four rows of products that make a row of pixels.
struct Sum<'a> {
    a: &'a [f32],
    b: &'a [f32],
    c: &'a [f32],
}

wide! {
    /// One row of pixels from `a + sign·(b + c)` in each of four columns.
    fn back(sums: [Sum<'_>; 4], sign: f32, bias: f32, pixels: &mut [f32]) {
        let columns = pixels.len().div_ceil(2);
        let [p, q, r, s] = sums.map(|sum| (&sum.a[..columns], &sum.b[..columns], &sum.c[..columns]));
        let column = |(a, b, c): (&[f32], &[f32], &[f32]), t: usize| a[t] + sign * b[t] + sign * c[t];
        let (pairs, rest) = pixels.as_chunks_mut::<2>();
        for (t, pair) in pairs.iter_mut().enumerate() {
            let (p, q, r, s) = (column(p, t), column(q, t), column(r, t), column(s, t));
            *pair = [p + q + r + bias, q - r - s + bias];
        }
        if let [last] = rest {
            let t = columns - 1;
            *last = column(p, t) + column(q, t) + column(r, t) + bias;
        }
    }
}
