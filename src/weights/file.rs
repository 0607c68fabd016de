//! One memory-mapped file of weights, in any format: the header is checked first.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use memmap2::Mmap;

use super::mapped::Mapped;
use super::packed::Packed;
use super::stored::{Stored, Table};
use super::{gguf, pth, safetensors, unsupported};
use crate::error::{Context, Error, Result};

/// One memory-mapped file.
pub(super) struct File {
    path: PathBuf,
    map: Arc<Mmap>,
    tensors: BTreeMap<String, Stored>,
    metadata: HashMap<String, String>,
}

impl File {
    /// Opens a file in the format that its first bytes show. Unsupported number formats are refused.
    #[expect(unsafe_code, reason = "mapping a file")]
    pub(super) fn open(path: &Path) -> Result<Self> {
        let open = || -> std::io::Result<Mmap> {
            let file = std::fs::File::open(path)?;
            // SAFETY: the map is only read; weights are files that talkie does not write while it reads them.
            unsafe { Mmap::map(&file) }
        };
        let map = open().context(|| format!("cannot open {}", path.display()));
        let map = map.map_err(|error| error.hint("check the name: it has to be a file of weights"))?;
        let (format, table) = match map.get(..4) {
            Some(b"GGUF") => ("GGUF", gguf::parse(&map)),
            Some(b"PK\x03\x04") => (".pth", pth::parse(&map)),
            _ => ("safetensors", safetensors::parse(&map)),
        };
        let table = table.map_err(|cause| {
            let advice =
                cause.advice().unwrap_or("fetch the file again: a download that broke off is the usual reason");
            let advice = advice.to_owned();
            let what = match format {
                "safetensors" => format!("{} is not a whole safetensors file", path.display()),
                _ => format!("cannot read {} as {format}", path.display()),
            };
            Error::failed(what).because(cause).hint(advice)
        })?;
        if format == "safetensors" {
            unsupported::check(&table, &map).context(|| format!("cannot use {}", path.display()))?;
        }
        let Table { tensors, metadata } = table;
        Ok(Self { path: path.to_owned(), map: Arc::new(map), tensors, metadata })
    }

    /// The tensors for which `name_of` has a name, under that name.
    pub(super) fn renamed(mut self, name_of: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let mut renamed = BTreeMap::new();
        for (original, stored) in std::mem::take(&mut self.tensors) {
            let Some(name) = name_of(&original) else { continue };
            if renamed.contains_key(&name) {
                let path = self.path.display();
                return Err(Error::failed(format!("`{original}` is also there as `{name}`, in {path}"))
                    .hint("fetch the file again, or take it from its authors"));
            }
            renamed.insert(name, stored);
        }
        Ok(Self { tensors: renamed, ..self })
    }

    pub(super) fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }

    /// All of the file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(super) fn tensors(&self) -> impl Iterator<Item = (&String, &Stored)> {
        self.tensors.iter()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Stored> {
        self.tensors.get(name)
    }

    /// Copies one tensor to the device in its stored type, and releases the mapped pages. GGML's blocks
    /// become f32, on several threads.
    pub(super) fn load(&self, name: &str, shape: &Shape, device: &Device) -> Result<Tensor> {
        let stored = self.checked(name, shape)?;
        let mapped = self.mapped(stored);
        let tensor = match stored.kind.number() {
            Some(dtype) if dtype != DType::F32 || !device.is_cpu() => mapped.to_device(dtype, shape, device)?,
            _ => {
                let columns = shape.dims().last().copied().unwrap_or(1);
                let rows = shape.elem_count() / columns.max(1);
                let packed = Packed::new(mapped.clone(), stored.kind, (rows, columns), None);
                let packed = packed.ok_or_else(|| self.unreadable(name, stored))?;
                packed.widen(0..rows, &Device::Cpu)?.reshape(shape)?.to_device(device)?
            }
        };
        mapped.release();
        Ok(tensor)
    }

    /// A matrix as it is stored: its values are read from the file in use.
    pub(super) fn packed(&self, name: &str, shape: (usize, usize), scale: Option<Vec<f32>>) -> Result<Packed> {
        let stored = self.checked(name, &Shape::from(shape))?;
        Packed::new(self.mapped(stored), stored.kind, shape, scale).ok_or_else(|| self.unreadable(name, stored))
    }

    /// Asks the system to read a tensor.
    pub(super) fn prefetch(&self, name: &str) {
        if let Some(stored) = self.get(name) {
            self.mapped(stored).prefetch();
        }
    }

    /// Releases the mapped pages of a tensor.
    pub(super) fn release(&self, name: &str) {
        if let Some(stored) = self.get(name) {
            self.mapped(stored).release();
        }
    }

    fn mapped(&self, stored: &Stored) -> Mapped {
        Mapped::new(self.map.clone(), stored.range.0..stored.range.1)
    }

    fn checked(&self, name: &str, shape: &Shape) -> Result<&Stored> {
        let stored =
            self.get(name).ok_or_else(|| Error::failed(format!("no tensor `{name}` in {}", self.path.display())))?;
        if stored.shape == shape.dims() {
            return Ok(stored);
        }
        let (found, wanted) = (&stored.shape, shape.dims());
        Err(Error::failed(format!(
            "`{name}` must have the shape {wanted:?}, not {found:?}, in {}",
            self.path.display()
        ))
        .hint("the file belongs to another model or variant: compare with `config.json` beside it"))
    }

    fn unreadable(&self, name: &str, stored: &Stored) -> Error {
        let (kind, path) = (stored.kind, self.path.display());
        Error::failed(format!("`{name}` is stored as {kind}, which talkie cannot compute with, in {path}"))
            .hint("use weights that are stored as F32, F16, BF16, F8_E4M3 or F8_E5M2, or a GGUF file")
    }
}
