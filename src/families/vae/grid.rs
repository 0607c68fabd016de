//! Cuts frames into overlapping tiles, and merges them again with blended seams.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::error::Result;
use crate::plan::Tiling;

/// The tiles of a frame, and how their outputs are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    rows: Axis,
    columns: Axis,
}

/// The tiles along one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Axis {
    /// Input range of each tile.
    ranges: Vec<Range<usize>>,
    /// Output length from one tile to the next.
    stride: usize,
    /// Output length that is blended with the previous tile.
    blend: usize,
    /// Output length of all tiles together.
    length: usize,
}

impl Axis {
    /// Tiles of length `tile`, `stride` apart, over a length of `size`, all in input units. The output is
    /// `scale.0 / scale.1` times as long.
    fn new(size: usize, tile: usize, stride: usize, scale: (usize, usize)) -> Self {
        let scaled = |length: usize| length * scale.0 / scale.1;
        Self {
            ranges: (0..size).step_by(stride).map(|start| start..(start + tile).min(size)).collect(),
            stride: scaled(stride),
            blend: scaled(tile) - scaled(stride),
            length: scaled(size),
        }
    }

    fn without_slivers(mut self, least: usize) -> Self {
        while let [.., before, last] = self.ranges.as_slice()
            && last.len() < least
            && before.end >= last.end
        {
            self.ranges.pop();
        }
        self
    }

    /// The output length that tile `index` contributes; the last one contributes all that is left.
    fn own(&self, index: usize) -> usize {
        if index + 1 == self.ranges.len() { self.length } else { self.stride }
    }
}

impl Tiling {
    /// Tiles for decoding latent frames of `(rows, columns)`; `None` if a frame is no larger than a tile.
    ///
    /// `factor` is the pixels per latent pixel along either axis. If the decoder's output has patches of
    /// `patch`·`patch` pixels as channels, tiles are blended in that form.
    ///
    /// # Errors
    /// Tiles that do not overlap or do not hold whole latent pixels.
    pub fn decode_grid(&self, (rows, columns): (usize, usize), factor: usize, patch: usize) -> Result<Option<Grid>> {
        self.check(factor)?;
        if rows * factor <= self.min_height && columns * factor <= self.min_width {
            return Ok(None);
        }
        let axis = |size, tile, stride| Axis::new(size, tile / factor, stride / factor, (factor / patch, 1));
        Ok(Some(Grid {
            rows: axis(rows, self.min_height, self.stride_height),
            columns: axis(columns, self.min_width, self.stride_width),
        }))
    }

    /// Tiles for encoding frames of `(rows, columns)` patches; `None` if a frame is no larger than a tile.
    ///
    /// diffusers counts tiles in patches here, so its tiles are `patch` times as large.
    ///
    /// # Errors
    /// Tiles that do not overlap or do not hold whole latent pixels.
    pub fn encode_grid(&self, (rows, columns): (usize, usize), factor: usize, patch: usize) -> Result<Option<Grid>> {
        self.check(factor)?;
        if rows * patch <= self.min_height && columns * patch <= self.min_width {
            return Ok(None);
        }
        let axis = |size, tile, stride| Axis::new(size, tile / patch, stride / patch, (1, factor / patch));
        Ok(Some(Grid {
            rows: axis(rows, self.min_height, self.stride_height),
            columns: axis(columns, self.min_width, self.stride_width),
        }))
    }
}

impl Grid {
    /// The same grid without tiles at the end of an axis that are shorter than `least`, in input units, if
    /// the previous tile covers them: some networks cannot process shorter tiles.
    #[must_use]
    pub fn without_slivers(self, least: usize) -> Self {
        Self { rows: self.rows.without_slivers(least), columns: self.columns.without_slivers(least) }
    }

    /// Number of tiles.
    pub fn tiles(&self) -> usize {
        self.rows.ranges.len() * self.columns.ranges.len()
    }

    /// One tile of a frame, with its own memory. Tiles are numbered row by row.
    ///
    /// # Shapes
    /// - `xs`: (…, rows, columns)
    /// - output: (…, rows of the tile, columns of the tile)
    pub fn tile(&self, xs: &Tensor, tile: usize) -> Result<Tensor> {
        let across = self.columns.ranges.len();
        let (rows, columns) = (&self.rows.ranges[tile / across], &self.columns.ranges[tile % across]);
        let band = xs.narrow(candle_core::D::Minus2, rows.start, rows.len())?;
        Ok(band.narrow(candle_core::D::Minus1, columns.start, columns.len())?.force_contiguous()?)
    }

    /// Merges the outputs of all tiles, given row by row.
    ///
    /// Each tile is blended with the (blended) one above it, then with the one to its left, and cropped to
    /// its stride:
    /// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/autoencoders/autoencoder_kl_wan.py#L1315-L1326>
    ///
    /// # Shapes
    /// - `tiles`: (…, rows of the tile, columns of the tile) each
    /// - output: (…, rows, columns)
    ///
    /// # Errors
    /// Tiles that do not belong to this grid.
    pub fn merge(&self, tiles: Vec<Tensor>) -> Result<Tensor> {
        let mut bands = Vec::with_capacity(self.rows.ranges.len());
        let mut above: Vec<Tensor> = Vec::new();
        let mut tiles = tiles.into_iter();
        for index in 0..self.rows.ranges.len() {
            let own_rows = self.rows.own(index);
            let mut row: Vec<Tensor> = Vec::with_capacity(self.columns.ranges.len());
            let mut band = Vec::with_capacity(self.columns.ranges.len());
            for mut tile in tiles.by_ref().take(self.columns.ranges.len()) {
                let (row_axis, column_axis) = (tile.rank() - 2, tile.rank() - 1);
                if let Some(above) = above.get(row.len()) {
                    tile = blend(above, &tile, row_axis, self.rows.blend)?;
                }
                if let Some(left) = row.last() {
                    tile = blend(left, &tile, column_axis, self.columns.blend)?;
                }
                band.push(first(&first(&tile, row_axis, own_rows)?, column_axis, self.columns.own(row.len()))?);
                row.push(tile);
            }
            bands.push(Tensor::cat(&band, candle_core::D::Minus1)?);
            above = row;
        }
        let whole = Tensor::cat(&bands, candle_core::D::Minus2)?;
        let (row_axis, column_axis) = (whole.rank() - 2, whole.rank() - 1);
        Ok(first(&first(&whole, row_axis, self.rows.length)?, column_axis, self.columns.length)?.contiguous()?)
    }
}

/// The first `length` entries along `axis`, or as many as there are.
fn first(xs: &Tensor, axis: usize, length: usize) -> candle_core::Result<Tensor> {
    xs.narrow(axis, 0, length.min(xs.dim(axis)?))
}

/// `tile`, with its first `extent` entries along `axis` cross-faded linearly with the last ones of `before`:
/// <https://github.com/huggingface/diffusers/blob/58eb52c080/src/diffusers/models/autoencoders/autoencoder_kl_wan.py#L1243-L1257>
fn blend(before: &Tensor, tile: &Tensor, axis: usize, extent: usize) -> candle_core::Result<Tensor> {
    let (length_before, length) = (before.dim(axis)?, tile.dim(axis)?);
    let extent = extent.min(length_before).min(length);
    if extent == 0 {
        return Ok(tile.clone());
    }
    let mut shape = vec![1; tile.rank()];
    shape[axis] = extent;
    let ramp = |weight: &dyn Fn(f64) -> f64| {
        let weights: Vec<f32> = (0..extent).map(|i| weight(i as f64 / extent as f64) as f32).collect();
        Tensor::from_vec(weights, shape.as_slice(), &Device::Cpu)?.to_dtype(tile.dtype())?.to_device(tile.device())
    };
    let out = before.narrow(axis, length_before - extent, extent)?.broadcast_mul(&ramp(&|x| 1.0 - x)?)?;
    let mixed = (out + tile.narrow(axis, 0, extent)?.broadcast_mul(&ramp(&|x| x)?)?)?;
    if extent == length {
        return Ok(mixed);
    }
    Tensor::cat(&[mixed, tile.narrow(axis, extent, length - extent)?], axis)
}
