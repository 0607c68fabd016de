//! The weights of a network: memory-mapped files, strict loading, each tensor in its stored type.

pub mod bundle;
mod file;
pub mod gguf;
pub mod keys;
mod lora;
mod mapped;
mod packed;
pub mod pth;
mod remembered;
mod safetensors;
mod stored;
mod streaming;
mod unsupported;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ::safetensors::tensor::Dtype;
use candle_core::{DType, Device, Shape, Tensor};

use crate::error::{Error, Result};
use crate::progress::Tally;
use file::File;
use keys::Names;
use lora::Lora;
pub use lora::{Change, Fit};
pub use packed::{Packed, e4m3, widened};
use remembered::Remembered;
pub use safetensors::Header;
pub use stored::{Kind, Stored, Table};

/// Names of the scale of an fp8 matrix: ComfyUI's, and that of others.
const SCALES: [&str; 2] = ["scale_weight", "weight_scale"];

/// fp8 metadata that we ignore: scales of activations, and markers of the type.
const FP8_METADATA: [&str; 4] = ["scaled_fp8", "scale_input", "input_scale", "comfy_quant"];

/// Whether the name is fp8 metadata (a scale or a marker of the type), not a parameter.
pub fn is_fp8_metadata(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    SCALES.contains(&last) || FP8_METADATA.contains(&last)
}

/// A weight matrix.
#[derive(Debug, Clone)]
pub enum Matrix {
    /// In a type that candle computes in.
    Dense(Tensor),
    /// As stored, in fewer bits or in its file, with the changes by LoRAs.
    Packed(Packed, Vec<Change>),
}

/// The weights of one network, seen from one of its modules.
///
/// Loading is strict in both directions: a tensor that is asked for must be there in its shape, and
/// [`Weights::finish`] fails when the files hold one that nobody asked for.
#[derive(Clone)]
pub struct Weights {
    store: Arc<Store>,
    prefix: String,
}

struct Store {
    files: Arc<Vec<File>>,
    device: Device,
    dtype: DType,
    names: Option<Names>,
    loras: Vec<Lora>,
    /// Whether matrices stay in their files.
    streamed: bool,
    /// Whether e4m3 matrices are multiplied with e4m3 activations.
    eight_bits: bool,
    tally: Arc<Tally>,
    /// Tensors that stay loaded for the same network with other LoRAs.
    remembered: Option<Arc<Remembered>>,
    used: Mutex<BTreeSet<String>>,
}

impl Weights {
    /// Opens the safetensors files of one network. `dtype` is the type that the network computes in.
    ///
    /// # Errors
    /// A file that is missing, cut short or not safetensors, or a tensor that two files both hold.
    pub fn open(paths: &[PathBuf], device: &Device, dtype: DType) -> Result<Self> {
        Self::open_as(paths, None, device, dtype)
    }

    /// As [`Weights::open`]. With `names`, the files may hold other networks too: only this one's tensors are
    /// visible, under their names in diffusers.
    ///
    /// # Errors
    /// As [`Weights::open`], and two tensors of a file with the same name in diffusers.
    pub fn open_as(paths: &[PathBuf], names: Option<Names>, device: &Device, dtype: DType) -> Result<Self> {
        let open = |path: &PathBuf| match names {
            Some(names) => File::open(path)?.renamed(&|name| names.of(name)),
            None => File::open(path),
        };
        let files = paths.iter().map(open).collect::<Result<Vec<_>>>()?;
        let mut seen = BTreeSet::new();
        for (file, name) in files.iter().flat_map(|file| file.names().map(move |name| (file, name))) {
            if !seen.insert(name) {
                return Err(Error::failed(format!(
                    "two files hold the tensor `{name}`; the second is {}",
                    file.path().display()
                ))
                .hint("remove the file that does not belong to this model"));
            }
        }
        let store = Store {
            files: Arc::new(files),
            device: device.clone(),
            dtype,
            names,
            loras: Vec::new(),
            streamed: false,
            eight_bits: false,
            tally: Arc::default(),
            remembered: None,
            used: Mutex::default(),
        };
        Ok(Self { store: Arc::new(store), prefix: String::new() })
    }

    /// Applies a LoRA file, times `strength`, and returns how it fits.
    ///
    /// # Errors
    /// A file that is damaged, is not a LoRA, or is for a network of other shapes.
    pub fn with_lora(self, path: &Path, strength: f64) -> Result<(Self, Fit)> {
        let shape = |name: &str| {
            let stored = self.store.files.iter().find_map(|file| file.get(name))?;
            Some(stored.shape.clone())
        };
        let (lora, fit) = Lora::open(path, strength, &shape)?;
        let mut store = Arc::try_unwrap(self.store).map_err(|_| Error::failed("a LoRA is added to weights in use"))?;
        store.loras.push(lora);
        Ok((Self { store: Arc::new(store), prefix: self.prefix }, fit))
    }

    /// The view of a submodule: `pp("blocks").pp(3)` sees `blocks.3.…`.
    #[must_use]
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self { store: self.store.clone(), prefix: self.key(&name.to_string()) }
    }

    /// All tensors in the files, from the root.
    pub fn tensors(&self) -> impl Iterator<Item = (&String, &Stored)> {
        self.store.files.iter().flat_map(File::tensors)
    }

    /// The names and shapes of all tensors in the files, from the root.
    pub fn shapes(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        self.tensors().map(|(name, stored)| (name.clone(), stored.shape.clone()))
    }

    /// The metadata of the files.
    pub fn metadata(&self) -> HashMap<String, String> {
        self.store.files.iter().flat_map(|file| file.metadata().clone()).collect()
    }

    /// Counter of the stored bytes of all tensors loaded so far.
    pub fn tally(&self) -> Arc<Tally> {
        self.store.tally.clone()
    }

    /// Bytes of all tensors in the files.
    pub fn bytes(&self) -> u64 {
        self.tensors().map(|(_, stored)| (stored.range.1 - stored.range.0) as u64).sum()
    }

    /// The device that tensors are loaded to.
    pub fn device(&self) -> &Device {
        &self.store.device
    }

    /// The type that the network computes in.
    pub fn dtype(&self) -> DType {
        self.store.dtype
    }

    /// Whether the files hold this tensor.
    pub fn contains(&self, name: &str) -> bool {
        let key = self.key(name);
        self.store.files.iter().any(|file| file.get(&key).is_some())
    }

    /// The tensor in its stored type.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape, or a type that talkie does not compute with.
    pub fn stored(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        let key = self.key(name);
        let shape = shape.into();
        let tensor = self.loaded(&key, &shape)?;
        let tensor = match self.scale(name, shape.dims().first().copied().unwrap_or(1))? {
            Some(scale) => {
                let scale = Tensor::new(scale, &self.store.device)?;
                let dims: Vec<usize> =
                    (0..shape.rank()).map(|dim| if dim == 0 { scale.elem_count() } else { 1 }).collect();
                tensor.to_dtype(DType::F32)?.broadcast_mul(&scale.reshape(dims)?)?
            }
            None => tensor,
        };
        let raised = self.store.names.is_some_and(|names| names.layout.raised.iter().any(|end| key.ends_with(end)));
        let tensor = if raised { (tensor.to_dtype(DType::F32)? - 1.0)? } else { tensor };
        let changed = self.changes(&key)?.iter().try_fold(tensor, |tensor, change| change.merge(&tensor))?;
        self.note(key);
        Ok(changed)
    }

    /// A matrix for products or lookups only: kept as stored if that is not the type to compute in, or if the
    /// weights are [`streamed`](Self::streamed).
    ///
    /// An fp8 matrix is multiplied by its scale: `scale_weight` or `weight_scale` of the same layer.
    ///
    /// # Errors
    /// As [`Weights::stored`], and a scale of another shape.
    pub fn matrix(&self, name: &str, shape: (usize, usize)) -> Result<Matrix> {
        let (key, kind) = (self.key(name), self.kind(name)?);
        let stays = self.device().is_cpu() && (kind.widens() || self.is_streamed() && kind == Kind::Plain(Dtype::F32));
        if kind.number().is_some() && !stays {
            return Ok(Matrix::Dense(self.stored(name, shape)?));
        }
        let scale = self.scale(name, shape.0)?;
        let packed = self.packed(&key, shape, scale)?.eight_bits(self.store.eight_bits);
        let changes = self.changes(&key)?;
        self.note(key);
        Ok(Matrix::Packed(packed, changes))
    }

    /// Multiplies e4m3 matrices with activations rounded to e4m3 (three bits of fraction), on devices that
    /// can: faster and less exact.
    ///
    /// # Errors
    /// Weights that are in use, or without an e4m3 matrix.
    pub fn eight_bits(self, on: bool) -> Result<Self> {
        if !on {
            return Ok(self);
        }
        if !self.tensors().any(|(_, stored)| stored.kind == Kind::Plain(Dtype::F8_E4M3)) {
            return Err(Error::usage(format!(
                "`--set fp8_matmul=true` needs weights in e4m3, and there are none in {}",
                self.place()
            ))
            .hint("make them with `talkie quantize`, or leave it out"));
        }
        let mut store = Arc::try_unwrap(self.store).map_err(|_| Error::failed("weights in use cannot be changed"))?;
        store.eight_bits = true;
        Ok(Self { store: Arc::new(store), prefix: self.prefix })
    }

    /// The tensor in f32, for layers that must stay exact: norms, modulation, time embedding.
    ///
    /// # Errors
    /// As [`Weights::stored`].
    pub fn f32(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        Ok(self.stored(name, shape)?.to_dtype(DType::F32)?)
    }

    /// The tensor in the type that the network computes in.
    ///
    /// # Errors
    /// As [`Weights::stored`].
    pub fn compute(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        Ok(self.stored(name, shape)?.to_dtype(self.store.dtype)?)
    }

    /// Fails if the files hold a tensor that was not loaded, unless its name contains one of `ignore`.
    ///
    /// # Errors
    /// Tensors that were not loaded.
    pub fn finish(&self, ignore: &[&str]) -> Result<()> {
        let used = self.store.used.lock().unwrap_or_else(PoisonError::into_inner);
        let foreign: Vec<&str> = (self.store.files.iter().flat_map(File::names))
            .filter(|name| !used.contains(*name) && !ignore.iter().any(|ignored| name.contains(ignored)))
            .filter(|name| !FP8_METADATA.contains(&name.rsplit('.').next().unwrap_or(name)))
            .collect();
        let Some(first) = foreign.first() else { return Ok(()) };
        let what = match foreign.len() {
            1 => format!("the tensor `{first}` does not belong to this network"),
            n => format!("{n} tensors do not belong to this network, `{first}` among them"),
        };
        Err(Error::failed(format!("{what}, in {}", self.place()))
            .hint("use the files that belong to this model and variant"))
    }

    /// The changes of a tensor by LoRAs.
    fn changes(&self, key: &str) -> Result<Vec<Change>> {
        let changes = self.store.loras.iter().map(|lora| lora.changes(key, self.device()));
        Ok(changes.collect::<Result<Vec<_>>>()?.concat())
    }

    fn file(&self, key: &str) -> Result<&File> {
        self.store.files.iter().find(|file| file.get(key).is_some()).ok_or_else(|| self.missing(key))
    }

    fn kind(&self, name: &str) -> Result<Kind> {
        let key = self.key(name);
        self.file(&key)?.get(&key).map(|stored| stored.kind).ok_or_else(|| self.missing(&key))
    }

    /// Counts a tensor that is read from its file.
    fn count(&self, key: &str) -> Result<()> {
        let bytes = self.file(key)?.get(key).map_or(0, |stored| stored.range.1 - stored.range.0);
        self.store.tally.add(bytes as u64)
    }

    /// Marks a tensor as used.
    fn note(&self, key: String) {
        self.store.used.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    /// What the numbers of a matrix of eight bits are multiplied with: one for all, or one for each of its `rows`.
    fn scale(&self, matrix: &str, rows: usize) -> Result<Option<Vec<f32>>> {
        if !matches!(self.kind(matrix)?, Kind::Plain(Dtype::F8_E4M3 | Dtype::F8_E5M2)) {
            return Ok(None);
        }
        let beside =
            |name: &str| matrix.rsplit_once('.').map_or(name.to_owned(), |(layer, _)| format!("{layer}.{name}"));
        let Some(name) = SCALES.map(beside).into_iter().find(|name| self.contains(name)) else { return Ok(None) };
        let key = self.key(&name);
        let shape = self.file(&key)?.get(&key).map(|stored| stored.shape.clone()).unwrap_or_default();
        let count: usize = shape.iter().product();
        if shape.len() > 2 || (count != 1 && count != rows) {
            return Err(Error::failed(format!(
                "`{key}` must be one scale, or one per output, not of the shape {shape:?}, in {}",
                self.place()
            ))
            .hint("talkie reads fp8 weights with one scale for a layer, or one for each of its outputs"));
        }
        Ok(Some(self.f32(&name, shape)?.flatten_all()?.to_vec1()?))
    }

    fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    fn missing(&self, key: &str) -> Error {
        Error::failed(format!("the tensor `{key}` is missing from {}", self.place()))
            .hint("the files are incomplete or of another model: compare with `config.json` beside them")
    }

    fn place(&self) -> String {
        let path = self.store.files.first().map_or(Path::new("an empty list of files"), |file| file.path());
        match self.store.files.len() {
            0 | 1 => path.display().to_string(),
            n => format!("{} and {} more", path.display(), n - 1),
        }
    }
}
