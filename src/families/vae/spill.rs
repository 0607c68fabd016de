//! Temporary file for the pixels of tiles until their neighbours are decoded, so that memory does not grow
//! with the video.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::View;

use super::grid::Grid;
use crate::error::{Context, Error, Result};

/// The decoded tiles of a video, until all are there and can be blended.
///
/// The file has no name, so it disappears with the process, however that ends. All tiles have the same number
/// of parts: one per output of the decoder.
#[derive(Debug)]
pub struct TileSpill {
    grid: Grid,
    folder: PathBuf,
    file: File,
    end: u64,
    /// The parts of each tile.
    tiles: Vec<Vec<Part>>,
}

/// Where a tensor lies in the file.
#[derive(Debug)]
struct Part {
    at: u64,
    shape: Vec<usize>,
    dtype: DType,
    device: Device,
}

impl TileSpill {
    /// Creates an empty file in `folder`, and the folder if missing.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn new(grid: Grid, folder: &Path) -> Result<Self> {
        let file = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
        let file = file.map_err(|cause| full(folder, cause))?;
        let tiles = (0..grid.tiles()).map(|_| Vec::new()).collect();
        Ok(Self { grid, folder: folder.to_owned(), file, end: 0, tiles })
    }

    /// The tiles.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// Appends the next part of a tile.
    ///
    /// # Shapes
    /// - `part`: (…, rows of the tile, columns of the tile)
    ///
    /// # Errors
    /// A full disk.
    pub fn push(&mut self, tile: usize, part: &Tensor) -> Result<()> {
        let host = part.to_device(&Device::Cpu)?.contiguous()?;
        let bytes = View::data(&host);
        let written = self.file.seek(SeekFrom::Start(self.end)).and_then(|_| self.file.write_all(&bytes));
        written.map_err(|cause| full(&self.folder, cause))?;
        let (shape, device) = (part.dims().to_vec(), part.device().clone());
        self.tiles[tile].push(Part { at: self.end, shape, dtype: part.dtype(), device });
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Number of parts that every tile has.
    pub fn parts(&self) -> usize {
        self.tiles.iter().map(Vec::len).min().unwrap_or(0)
    }

    /// One part of all tiles, merged: see [`Grid::merge`].
    ///
    /// # Shapes
    /// - output: (…, rows, columns), on the device of the parts
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn merged(&mut self, part: usize) -> Result<Tensor> {
        let Self { file, tiles, grid, .. } = self;
        grid.merge(tiles.iter().map(|parts| parts[part].read(file)).collect::<Result<_>>()?)
    }
}

impl Part {
    fn read(&self, file: &mut File) -> Result<Tensor> {
        let values: usize = self.shape.iter().product();
        let mut bytes = vec![0; values * self.dtype.size_in_bytes()];
        let read = file.seek(SeekFrom::Start(self.at)).and_then(|_| file.read_exact(&mut bytes));
        read.context(|| "cannot read the tiles back from the disk")?;
        Ok(Tensor::from_raw_buffer(&bytes, self.dtype, &self.shape, &self.device)?)
    }
}

fn full(folder: &Path, cause: std::io::Error) -> Error {
    Error::failed(format!("cannot store the tiles of the film in {}", folder.display()))
        .because(cause)
        .hint("set `TALKIE_HOME` to a folder that you may write to, on a disk with free space")
}
