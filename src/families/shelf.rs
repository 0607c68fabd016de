//! Loaded networks: made when a stage asks for one, and kept for the next film where the plan says so.

use std::any::Any;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use candle_core::{DType, Device};

use crate::error::{Error, Result};
use crate::model::Component;
use crate::progress::{Chore, Progress, Stage};
use crate::weights::Weights;

/// A network of any type.
type Network = Arc<dyn Any + Send + Sync>;

/// The networks of a session that are loaded. Threads may share it.
#[derive(Default)]
pub struct Shelf {
    kept: Mutex<HashMap<String, Kept>>,
    read: AtomicU64,
}

/// A network that stays loaded, and the tensors that it was made of: with other LoRAs it is made of them again.
struct Kept {
    stage: Stage,
    loras: Vec<crate::request::Adapter>,
    network: Network,
    weights: Option<Weights>,
}

/// Where a stage computes, in which type, and where loaded networks are.
#[derive(Clone)]
pub struct Compute {
    /// The device.
    pub device: Device,
    /// The type of activations.
    pub dtype: DType,
    /// A folder for what is too large for memory while a stage works.
    pub scratch: PathBuf,
    /// The networks that are loaded.
    pub shelf: Arc<Shelf>,
    /// The stages whose networks stay loaded.
    pub keeps: Vec<Stage>,
}

impl Compute {
    /// A device and a type, with nothing loaded and nothing kept, and the system's folder for temporary files.
    pub fn new(device: Device, dtype: DType) -> Self {
        Self { device, dtype, scratch: std::env::temp_dir(), shelf: Arc::default(), keeps: Vec::new() }
    }

    /// The same, computing in another type.
    #[must_use]
    pub fn with_dtype(&self, dtype: DType) -> Self {
        Self { dtype, ..self.clone() }
    }
}

/// A network that a stage asks for.
pub struct Wanted<'a> {
    /// The stage that it works in: whether it is kept depends on that.
    pub stage: Stage,
    /// What of the component it is made of; empty for all of it.
    pub half: &'a str,
    /// The component of the model.
    pub component: &'a Component,
    /// Whether its blocks are streamed from disk.
    pub streamed: bool,
    /// Whether its 8-bit weights are multiplied in 8 bits.
    pub fp8: bool,
}

impl Shelf {
    /// Bytes of weights that were read from files so far.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Drops what none of `stages` keeps.
    pub fn retain(&self, stages: &[Stage]) {
        self.kept().retain(|_, kept| stages.contains(&kept.stage));
    }

    /// The network of `wanted`: the one that is loaded, or what `load` makes of its weights. Reports how much of them has been
    /// read.
    ///
    /// # Errors
    /// What `load` answers, or a stop.
    pub fn network<T: Send + Sync + 'static>(
        &self,
        wanted: &Wanted<'_>,
        compute: &Compute,
        progress: &mut Progress<'_>,
        load: impl FnOnce(&Weights) -> Result<T> + Send,
    ) -> Result<Arc<T>> {
        let component = wanted.component;
        let name = format!("{} {} {}", component.name, wanted.half, if wanted.fp8 { "fp8" } else { "" });
        let keeps = compute.keeps.contains(&wanted.stage) && !wanted.streamed;
        let before = if keeps { self.kept().remove(&name) } else { None };
        let weights = match before {
            Some(kept) if kept.loras == component.loras => {
                let network = kept.network.clone().downcast::<T>();
                self.kept().insert(name, kept);
                return network.map_err(|_| Error::failed("a network that stays loaded is of another type"));
            }
            Some(Kept { weights: Some(weights), .. }) => {
                component.with_loras(weights.bare())?.eight_bits(wanted.fp8)?
            }
            _ => wanted.open(compute, keeps)?,
        };
        let (start, tally) = (Instant::now(), weights.tally());
        let before = tally.done();
        let network = Arc::new(progress.reading(&component.name, weights.bytes(), &tally, || load(&weights))?);
        self.read.fetch_add(tally.done() - before, Ordering::Relaxed);
        progress.spent(Chore::Load, start.elapsed())?;
        if keeps {
            let (loras, network) = (component.loras.clone(), network.clone());
            let kept = Kept { stage: wanted.stage, loras, network, weights: Some(weights) };
            self.kept().insert(name, kept);
        }
        Ok(network)
    }

    /// What `make` makes, kept as long as the networks of a stage are: a tokenizer, for one.
    ///
    /// # Errors
    /// What `make` answers.
    pub fn shared<T: Send + Sync + 'static>(
        &self,
        name: &str,
        stage: Stage,
        compute: &Compute,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<Arc<T>> {
        let known = self.kept().get(name).map(|kept| kept.network.clone());
        if let Some(Ok(known)) = known.map(Arc::downcast::<T>) {
            return Ok(known);
        }
        let made = Arc::new(make()?);
        if compute.keeps.contains(&stage) {
            let kept = Kept { stage, loras: Vec::new(), network: made.clone(), weights: None };
            self.kept().insert(name.to_owned(), kept);
        }
        Ok(made)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted<'_> {
    fn open(&self, compute: &Compute, keeps: bool) -> Result<Weights> {
        let weights = self.component.bare_weights(&compute.device, compute.dtype)?;
        let weights = if keeps && self.component.takes_loras() { weights.remembering() } else { weights };
        let weights = self.component.with_loras(weights)?;
        let weights = if self.streamed { weights.streamed()? } else { weights };
        weights.eight_bits(self.fp8)
    }
}
