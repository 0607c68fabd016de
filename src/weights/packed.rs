//! Quantised matrices: read where they are stored, widened in use.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{CpuStorage, DType, Device, Error, Result, Tensor};
use half::f16;
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use super::mapped::Mapped;
use super::stored::Kind;
use crate::compute::kernels::amx;
use crate::compute::kernels::cpu::{self, wide};
#[cfg(feature = "cuda")]
use crate::compute::kernels::cuda::{self, kernels};
#[cfg(feature = "cuda")]
use crate::compute::kernels::plain;
use crate::compute::kernels::product::{self, Matrix, Output};

/// Values that a thread widens at a time: they fit its caches.
const GRAIN: usize = 1 << 16;
/// Most values of a matrix in f32 at one time during a product.
const PANEL: usize = 1 << 22;

/// Scratch bytes in f32 of a product with a matrix (rows, columns).
pub fn widened(rows: usize, columns: usize) -> usize {
    PANEL.min(rows.saturating_mul(columns)) * size_of::<f32>()
}

/// A matrix (rows, columns), as it is stored.
#[derive(Debug, Clone)]
pub struct Packed {
    data: Data,
    kind: Kind,
    rows: usize,
    columns: usize,
    /// Scales of the values: one for all, or one per row.
    scale: Option<Vec<f32>>,
    /// Whether to multiply with e4m3 activations, if the matrix is e4m3.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "other devices cannot"))]
    eight_bits: bool,
}

#[derive(Debug, Clone)]
enum Data {
    /// In its file, for a CPU.
    Mapped(Mapped),
    /// On another device, in blocks.
    Blocks(Arc<QTensor>),
    /// On a CUDA device: the bytes of all blocks.
    #[cfg(feature = "cuda")]
    Raw(Tensor, GgmlDType),
    /// On another device: bytes (rows, columns), the value of each byte (256), and the scale if there is one.
    Bytes(Tensor, Tensor, Option<Tensor>),
}

impl Packed {
    /// `None` if values of this kind cannot be widened, or do not fit the number of bytes.
    pub(crate) fn new(
        mapped: Mapped,
        kind: Kind,
        (rows, columns): (usize, usize),
        scale: Option<Vec<f32>>,
    ) -> Option<Self> {
        let readable = match kind {
            Kind::Plain(dtype) => {
                matches!(dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16 | Dtype::F8_E4M3 | Dtype::F8_E5M2)
            }
            Kind::Blocks(_) => true,
        };
        let fits = kind.bytes(&[rows.checked_mul(columns)?]) == Some(mapped.bytes().len());
        let scaled = scale.as_ref().is_none_or(|scale| scale.len() == 1 || scale.len() == rows);
        (readable && fits && scaled).then_some(Self {
            data: Data::Mapped(mapped),
            kind,
            rows,
            columns,
            scale,
            eight_bits: false,
        })
    }

    /// Rows and columns.
    pub fn dims(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// How it is stored.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Copies the matrix to a device. For a CPU it stays in its file.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let Data::Mapped(mapped) = &self.data else { return Ok(self.clone()) };
        let data = match (device.is_cpu(), self.kind) {
            (true, _) => return Ok(self.clone()),
            #[cfg(feature = "cuda")]
            (false, Kind::Blocks(kind)) if device.is_cuda() && kernels::takes(kind) && !plain() => {
                Data::Raw(mapped.to_device(DType::U8, &mapped.bytes().len().into(), device)?, kind)
            }
            (false, Kind::Blocks(dtype)) => {
                let storage = QStorage::from_data(Cow::Borrowed(mapped.bytes()), device, dtype)?;
                Data::Blocks(Arc::new(QTensor::new(storage, (self.rows, self.columns))?))
            }
            (false, Kind::Plain(dtype)) => {
                let bytes = mapped.to_device(DType::U8, &(self.rows, self.columns).into(), device)?;
                let values: Vec<f32> = (0..=u8::MAX).map(|byte| eight_bits(byte, dtype)).collect();
                let scale = self.scale.as_ref().map(|scale| Tensor::new(scale.as_slice(), device)).transpose()?;
                Data::Bytes(bytes, Tensor::new(values, device)?, scale)
            }
        };
        mapped.release();
        Ok(Self { data, ..self.clone() })
    }

    /// Sets whether to multiply with e4m3 activations, on devices that can.
    #[must_use]
    pub(crate) fn eight_bits(self, on: bool) -> Self {
        Self { eight_bits: on, ..self }
    }

    /// Some rows in f32, (rows, columns), on the device of the matrix.
    pub fn widen(&self, rows: Range<usize>, device: &Device) -> Result<Tensor> {
        let count = rows.len();
        let wide = match &self.data {
            Data::Mapped(mapped) => {
                let mut wide = vec![0f32; count * self.columns];
                self.widen_into(mapped.bytes(), rows.clone(), &mut wide)?;
                Tensor::from_vec(wide, (count, self.columns), device)?
            }
            Data::Blocks(blocks) => blocks.dequantize(device)?.narrow(0, rows.start, count)?,
            #[cfg(feature = "cuda")]
            Data::Raw(blocks, kind) => {
                kernels::widen_blocks(blocks, self.dims(), *kind, DType::F32)?.narrow(0, rows.start, count)?
            }
            Data::Bytes(bytes, values, _) => {
                // As an 8-bit index, 255 would mean no element, and give 0.
                let bytes = bytes.narrow(0, rows.start, count)?.flatten_all()?.to_dtype(DType::U32)?;
                values.index_select(&bytes, 0)?.reshape((count, self.columns))?
            }
        };
        let scale = match (&self.data, &self.scale) {
            (_, None) => return Ok(wide),
            (Data::Bytes(_, _, Some(scale)), _) => scale.clone(),
            (_, Some(scale)) => Tensor::new(scale.as_slice(), device)?,
        };
        let scale = if scale.elem_count() == 1 { scale } else { scale.narrow(0, rows.start, count)? };
        wide.broadcast_mul(&scale.unsqueeze(1)?)
    }

    /// Chosen rows in f32: (n, columns).
    ///
    /// # Errors
    /// A row past the last.
    pub fn rows(&self, chosen: &[u32], device: &Device) -> Result<Tensor> {
        if let Some(row) = chosen.iter().find(|&&row| row as usize >= self.rows) {
            candle_core::bail!("there is no row {row} of {}", self.rows);
        }
        if !matches!(self.data, Data::Mapped(_) | Data::Bytes(..)) {
            // Such a device widens all rows or none: once, not for every row.
            return self.widen(0..self.rows, device)?.index_select(&Tensor::new(chosen, device)?, 0);
        }
        let row = |&row: &u32| self.widen(row as usize..row as usize + 1, device);
        Tensor::cat(&chosen.iter().map(row).collect::<Result<Vec<_>>>()?, 0)
    }

    /// `xs · Wᵀ`, by panels of rows of `W`, so that the matrix is never widened as a whole.
    ///
    /// # Shapes
    /// - `xs`: (n, columns)
    /// - output: (n, rows), in the type of `xs`
    pub fn multiply(&self, xs: &Tensor) -> Result<Tensor> {
        if let Data::Mapped(_) = &self.data
            && cpu::takes(xs)
        {
            let ys = cpu::with_values(&[xs], |values| {
                let mut ys = vec![0f32; xs.dim(0)? * self.rows];
                self.add_products(values[0], false, &mut ys).map(|()| ys)
            })?;
            return Tensor::from_vec(ys, (xs.dim(0)?, self.rows), xs.device());
        }
        let panel = match &self.data {
            Data::Mapped(_) => self.panel(),
            _ => self.rows.max(1),
        };
        let starts = (0..self.rows).step_by(panel);
        let product = |start: usize| {
            let wide = self.widen(start..(start + panel).min(self.rows), xs.device())?;
            xs.matmul(&wide.to_dtype(xs.dtype())?.t()?)
        };
        let products = starts.map(product).collect::<Result<Vec<_>>>()?;
        match products.as_slice() {
            [one] => Ok(one.clone()),
            several => Tensor::cat(several, 1),
        }
    }

    /// `xs · Wᵀ + bias`, and GELU if `gelu`, on a CUDA device: the matrix is widened to the type of `xs` as a
    /// whole. `None` without a kernel for its kind.
    ///
    /// # Shapes
    /// - `xs`: (n, columns), `bias`: (rows), both of one type
    /// - output: (n, rows)
    #[cfg(feature = "cuda")]
    pub(crate) fn multiply_on_cuda(&self, xs: &Tensor, bias: Option<&Tensor>, gelu: bool) -> Result<Option<Tensor>> {
        if let (true, Data::Bytes(bytes, _, scale), Kind::Plain(Dtype::F8_E4M3)) =
            (self.eight_bits, &self.data, self.kind)
            && let Some(ys) = cuda::product::multiply_eight(xs, bytes, scale.as_ref(), bias, gelu)?
        {
            return Ok(Some(ys));
        }
        let wide = match (&self.data, self.kind) {
            (Data::Raw(blocks, kind), _) => kernels::widen_blocks(blocks, self.dims(), *kind, xs.dtype())?,
            (Data::Bytes(bytes, _, scale), Kind::Plain(dtype)) => {
                kernels::widen_bytes(bytes, scale.as_ref(), dtype == Dtype::F8_E5M2, xs.dtype())?
            }
            _ => return Ok(None),
        };
        cuda::product::multiply(xs, &wide, bias, gelu)
    }

    /// Writes `xs · Wᵀ` into `ys`, or adds it with `add`, on a CPU.
    ///
    /// # Shapes
    /// - `xs`: (n, columns), `ys`: (n, rows)
    ///
    /// # Errors
    /// A matrix on another device, or slices of other lengths.
    pub(crate) fn add_products(&self, xs: &[f32], add: bool, ys: &mut [f32]) -> Result<()> {
        let Data::Mapped(mapped) = &self.data else { candle_core::bail!("this matrix is on another device") };
        let n = xs.len() / self.columns.max(1);
        if n * self.columns != xs.len() || n * self.rows != ys.len() {
            let (rows, columns) = self.dims();
            candle_core::bail!("{} numbers times ({rows}, {columns}) into {} numbers", xs.len(), ys.len());
        }
        if self.add_by_amx(mapped.bytes(), xs, add, ys) {
            return Ok(());
        }
        let panel = self.panel().min(self.rows);
        let mut wide = vec![0f32; panel * self.columns];
        for start in (0..self.rows).step_by(panel.max(1)) {
            let rows = start..(start + panel).min(self.rows);
            let wide = &mut wide[..rows.len() * self.columns];
            self.widen_into(mapped.bytes(), rows.clone(), wide)?;
            self.rescale(rows.clone(), wide);
            let weight = Matrix::plain(wide, rows.len(), self.columns);
            let output = Output { values: ys.get_mut(start..).unwrap_or_default(), stride: self.rows, add };
            product::multiply(Matrix::plain(xs, n, self.columns), weight.t(), 1.0, output, true)?;
        }
        Ok(())
    }

    /// The same by AMX, if the processor has it and it takes this kind of values.
    fn add_by_amx(&self, bytes: &[u8], xs: &[f32], add: bool, ys: &mut [f32]) -> bool {
        let dtype = match self.kind {
            Kind::Plain(dtype @ (Dtype::BF16 | Dtype::F8_E4M3 | Dtype::F8_E5M2)) if amx::is_available() => dtype,
            _ => return false,
        };
        let (outs, depth, scale) = (self.rows, self.columns, self.scale.as_deref().unwrap_or_default());
        let place = |row: usize, part: &Range<usize>| row * depth + part.start..row * depth + part.end;
        if dtype == Dtype::BF16 {
            let pairs = bytes.as_chunks().0;
            let part = |row: usize, part: Range<usize>, to: &mut [u16]| {
                to.iter_mut().zip(&pairs[place(row, &part)]).for_each(|(to, pair)| *to = u16::from_le_bytes(*pair));
            };
            amx::multiply(xs, &amx::Weights { outs, depth, part, scale }, add, ys);
        } else {
            // Both fp8 types have fewer bits of exponent and fraction than bf16.
            let values: [u16; 256] = std::array::from_fn(|byte| (eight_bits(byte as u8, dtype).to_bits() >> 16) as u16);
            let part = |row: usize, part: Range<usize>, to: &mut [u16]| {
                to.iter_mut().zip(&bytes[place(row, &part)]).for_each(|(to, byte)| *to = values[usize::from(*byte)]);
            };
            amx::multiply(xs, &amx::Weights { outs, depth, part, scale }, add, ys);
        }
        true
    }

    /// Rows to widen at a time.
    fn panel(&self) -> usize {
        (PANEL / self.columns.max(1)).max(1)
    }

    /// Multiplies widened rows by their scales.
    fn rescale(&self, rows: Range<usize>, wide: &mut [f32]) {
        let Some(scale) = &self.scale else { return };
        let scale = if scale.len() == 1 { &scale[..] } else { &scale[rows] };
        wide.par_chunks_mut(self.columns.max(1)).enumerate().for_each(|(row, wide)| {
            let scale = scale[row % scale.len()];
            wide.iter_mut().for_each(|number| *number *= scale);
        });
    }

    /// Widens rows of the bytes to f32, without the scale.
    fn widen_into(&self, bytes: &[u8], rows: Range<usize>, wide: &mut [f32]) -> Result<()> {
        let (begin, end) = (rows.start * self.columns, rows.end * self.columns);
        match self.kind {
            // Blocks cross the ends of rows if a matrix was flattened.
            Kind::Blocks(dtype) if !self.columns.is_multiple_of(dtype.block_size()) => {
                let mut whole = vec![0.0; self.rows * self.columns];
                from_blocks(bytes, dtype, &mut whole)?;
                wide.copy_from_slice(&whole[begin..end]);
            }
            Kind::Blocks(dtype) => {
                let place = |at: usize| at / dtype.block_size() * dtype.type_size();
                from_blocks(&bytes[place(begin)..place(end)], dtype, wide)?;
            }
            Kind::Plain(Dtype::F32) => {
                let numbers = bytes[4 * begin..4 * end].par_chunks(4 * GRAIN);
                wide.par_chunks_mut(GRAIN).zip(numbers).for_each(|(wide, bytes)| from_singles(bytes, wide));
            }
            Kind::Plain(dtype @ (Dtype::F16 | Dtype::BF16)) => {
                let pairs = bytes[2 * begin..2 * end].par_chunks(2 * GRAIN);
                wide.par_chunks_mut(GRAIN).zip(pairs).for_each(|(wide, pairs)| from_halves(pairs, dtype, wide));
            }
            Kind::Plain(dtype) => {
                let values: [f32; 256] = std::array::from_fn(|byte| eight_bits(byte as u8, dtype));
                let look = |(wide, bytes): (&mut [f32], &[u8])| {
                    wide.iter_mut().zip(bytes).for_each(|(wide, byte)| *wide = values[usize::from(*byte)]);
                };
                wide.par_chunks_mut(GRAIN).zip(bytes[begin..end].par_chunks(GRAIN)).for_each(look);
            }
        }
        Ok(())
    }
}

/// Widens whole blocks. They are aligned to 16 bits, which `gguf` checks.
fn from_blocks(bytes: &[u8], dtype: GgmlDType, wide: &mut [f32]) -> Result<()> {
    let blocks = GRAIN / dtype.block_size();
    let parts = wide.par_chunks_mut(blocks * dtype.block_size()).zip(bytes.par_chunks(blocks * dtype.type_size()));
    parts.try_for_each(|(wide, bytes)| match dtype.from_data(Cow::Borrowed(bytes)).dequantize(wide.len())? {
        CpuStorage::F32(values) if values.len() == wide.len() => {
            wide.copy_from_slice(&values);
            Ok(())
        }
        _ => Err(Error::Msg(format!("blocks of {dtype:?} did not become numbers"))),
    })
}

fn from_halves(pairs: &[u8], dtype: Dtype, wide: &mut [f32]) {
    if dtype == Dtype::BF16 { from_bf16(pairs, wide) } else { from_f16(pairs, wide) }
}

wide! {
    fn from_singles(bytes: &[u8], wide: &mut [f32]) {
        wide.iter_mut().zip(bytes.as_chunks().0).for_each(|(wide, number)| *wide = f32::from_le_bytes(*number));
    }
}

wide! {
    /// Widens bf16, the upper half of an f32.
    fn from_bf16(pairs: &[u8], wide: &mut [f32]) {
        let upper = |pair: [u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(pair)) << 16);
        wide.iter_mut().zip(pairs.as_chunks().0).for_each(|(wide, pair)| *wide = upper(*pair));
    }
}

wide! {
    /// Widens f16. Its 5-bit exponent, moved into f32's 8 bits, is too small by 2¹¹², but for infinities and
    /// NaN, whose exponent is the largest.
    fn from_f16(pairs: &[u8], wide: &mut [f32]) {
        let number = |pair: [u8; 2]| {
            let bits = u32::from(u16::from_le_bytes(pair));
            let small = f32::from_bits((bits & 0x7fff) << 13);
            let size = (small * f32::from_bits((127 + 112) << 23)).to_bits();
            let size = if bits & 0x7c00 == 0x7c00 { size | 0x7f80_0000 } else { size };
            f32::from_bits(size | (bits & 0x8000) << 16)
        };
        wide.iter_mut().zip(pairs.as_chunks().0).for_each(|(wide, pair)| *wide = number(*pair));
    }
}

/// fp8 (Micikevicius et al. 2022): a sign, then four bits of exponent and three of fraction (e4m3), or five
/// and two (e5m2). e4m3 has no infinities, and one NaN of each sign.
fn eight_bits(byte: u8, dtype: Dtype) -> f32 {
    if dtype == Dtype::F8_E5M2 {
        return f16::from_bits(u16::from(byte) << 8).to_f32();
    }
    let (exponent, fraction) = (i32::from(byte >> 3 & 15), f32::from(byte & 7) / 8.0);
    let size = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => fraction * 2f32.powi(-6),
        _ => (1.0 + fraction) * 2f32.powi(exponent - 7),
    };
    if byte & 128 == 0 { size } else { -size }
}

/// Rounds to the nearest e4m3, ties to even, and saturates at the largest.
pub fn e4m3(value: f32) -> u8 {
    const LARGEST: u8 = 0x7e;
    let size = value.abs().min(448.0);
    let number = |byte: u8| eight_bits(byte, Dtype::F8_E4M3);
    // Bytes have the order of their values: the last that is not above.
    let below = (0..8u8).rev().fold(0u8, |at, bit| {
        let next = at | 1 << bit;
        if next <= LARGEST && number(next) <= size { next } else { at }
    });
    let above = (below + 1).min(LARGEST);
    let (down, up) = (size - number(below), number(above) - size);
    let nearest = if up < down || (up == down && below % 2 == 1) { above } else { below };
    nearest | if value.is_sign_negative() { 128 } else { 0 }
}
