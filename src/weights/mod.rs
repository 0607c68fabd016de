//! One view over a network's weights: strict, memory-mapped, and each tensor as it is stored.

pub mod keys;
pub mod pth;
mod safetensors;
mod stored;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Shape, Tensor};

use crate::error::{Error, Result};
use keys::Names;
pub use safetensors::{Header, Stored};

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
    files: Vec<safetensors::File>,
    device: Device,
    dtype: DType,
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

    /// As [`Weights::open`]. With `names`, the files hold other networks too, and all that is seen of them are this one's
    /// tensors, under the names that diffusers gives them.
    ///
    /// # Errors
    /// As [`Weights::open`], and two tensors of a file that would have the same name.
    pub fn open_as(paths: &[PathBuf], names: Option<Names>, device: &Device, dtype: DType) -> Result<Self> {
        let open = |path: &PathBuf| match names {
            Some(names) => safetensors::File::open(path)?.renamed(&|name| names.of(name)),
            None => safetensors::File::open(path),
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
        let store = Store { files, device: device.clone(), dtype, used: Mutex::default() };
        Ok(Self { store: Arc::new(store), prefix: String::new() })
    }

    /// The view from a module further in: `pp("blocks").pp(3)` sees `blocks.3.…`.
    #[must_use]
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self { store: self.store.clone(), prefix: self.key(&name.to_string()) }
    }

    /// All tensors in the files, from the root.
    pub fn tensors(&self) -> impl Iterator<Item = (&String, &Stored)> {
        self.store.files.iter().flat_map(safetensors::File::tensors)
    }

    /// The names and shapes of all tensors in the files, from the root.
    pub fn shapes(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        self.tensors().map(|(name, stored)| (name.clone(), stored.shape.clone()))
    }

    /// The words that the files carry besides their tensors.
    pub fn words(&self) -> HashMap<String, String> {
        self.store.files.iter().flat_map(|file| file.words().clone()).collect()
    }

    /// Where the tensors go.
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

    /// The tensor in the type that it has in its file.
    ///
    /// # Errors
    /// It is missing, has another shape, or a type that is not a number to compute with.
    pub fn stored(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        let (key, shape) = (self.key(name), shape.into());
        let file = self.store.files.iter().find(|file| file.get(&key).is_some()).ok_or_else(|| self.missing(&key))?;
        let tensor = file.load(&key, &shape, &self.store.device)?;
        self.store.used.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        Ok(tensor)
    }

    /// The tensor in f32, for what must stay exact: norms, modulation, time.
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

    /// Fails when the files hold a tensor that nobody asked for, unless its name contains one of `ignore`.
    ///
    /// # Errors
    /// The names of the tensors left over.
    pub fn finish(&self, ignore: &[&str]) -> Result<()> {
        let used = self.store.used.lock().unwrap_or_else(PoisonError::into_inner);
        let foreign: Vec<&str> = (self.store.files.iter().flat_map(safetensors::File::names))
            .filter(|name| !used.contains(*name) && !ignore.iter().any(|ignored| name.contains(ignored)))
            .collect();
        let Some(first) = foreign.first() else { return Ok(()) };
        let what = match foreign.len() {
            1 => format!("the tensor `{first}` does not belong to this network"),
            n => format!("{n} tensors do not belong to this network, `{first}` among them"),
        };
        Err(Error::failed(format!("{what}, in {}", self.place()))
            .hint("use the files that belong to this model and variant"))
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
