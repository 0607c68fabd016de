//! Frames cut into overlapping tiles, and put together again.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::error::Result;
use crate::plan::Tiling;

/// One frame cut into tiles, and how what becomes of the tiles is put together again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    rows: Axis,
    columns: Axis,
}

/// The tiles along one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Axis {
    /// What each tile takes of the input.
    ranges: Vec<Range<usize>>,
    /// How much of a tile's output is its own; the next tile begins there.
    stride: usize,
    /// How much of a tile's output is blended with the tile before it.
    blend: usize,
    /// Length of the whole output.
    length: usize,
}

impl Axis {
    /// Tiles of `tile`, `stride` apart, over a length of `size`, all in units of the input. An output is
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

    /// How much of the output of the tile at `index` is its own: all that is left, for the last one.
    fn own(&self, index: usize) -> usize {
        if index + 1 == self.ranges.len() { self.length } else { self.stride }
    }
}

impl Tiling {
    /// The tiles of latent frames of `(rows, columns)`, and where their pixels go.
    ///
    /// `factor` is the pixels of a frame per latent pixel, along a row. Where the decoder's output has patches of
    /// `patch`·`patch` pixels as channels, tiles are blended before the patches are undone. Frames that are no larger than
    /// a tile stay whole.
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

    /// The tiles of frames of `(rows, columns)`, counted in patches, and where their latent pixels go.
    ///
    /// diffusers takes the same numbers for patches here, so that its tiles are `patch` times as wide as they claim.
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
    /// The same grid without tiles at the end of an axis that are shorter than `least`, in units of the input, where the
    /// tile before sees all that they do: for networks that cannot work on so little.
    #[must_use]
    pub fn without_slivers(self, least: usize) -> Self {
        Self { rows: self.rows.without_slivers(least), columns: self.columns.without_slivers(least) }
    }

    /// How many tiles there are.
    pub fn tiles(&self) -> usize {
        self.rows.ranges.len() * self.columns.ranges.len()
    }

    /// One tile of a frame, with its own memory. They are counted row by row.
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

    /// The whole that these tiles make, given row by row.
    ///
    /// Each tile is blended with the one above it, then with the one to its left, both blended already, and gives up what
    /// belongs to the next ones.
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

/// `tile`, whose first `extent` entries along `axis` fade in while the last ones of `before` fade out, linearly.
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
