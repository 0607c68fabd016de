//! The machine that a film is made on: its devices, their free memory, and where talkie keeps its own files.

use std::path::PathBuf;

use crate::compute::device;
use crate::error::{Error, Result};
use crate::files;

/// The machine that a film is made on. A plan can be made for another one than this.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// The name of the device that computes where the user names none: `cuda`, `metal` or `cpu`.
    pub device: String,
    /// Free memory of devices by their names, in bytes. Of this machine it is measured when a plan asks.
    pub free: Free,
    /// The folder for runs, hashes and other files of talkie's own; none where no folder is known.
    pub home: Option<PathBuf>,
}

/// Free memory of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Free {
    /// Measured when asked for.
    Measured,
    /// Given: bytes by the name of the device.
    Given(Vec<(String, u64)>),
}

impl Machine {
    /// This machine, with the home that the environment names.
    pub fn here() -> Self {
        Self { device: device::best().to_owned(), free: Free::Measured, home: files::home().ok() }
    }

    /// The same machine with another folder for talkie's own files.
    #[must_use]
    pub fn with_home(self, home: impl Into<PathBuf>) -> Self {
        Self { home: Some(home.into()), ..self }
    }

    /// Free memory of a device in bytes, where it is known.
    pub fn free(&self, device: &str) -> Option<u64> {
        match &self.free {
            Free::Measured => device::free(device),
            Free::Given(free) => free.iter().find(|(name, _)| name == device).map(|(_, bytes)| *bytes),
        }
    }

    /// The folder for talkie's own files.
    ///
    /// # Errors
    /// No folder is known.
    pub fn home(&self) -> Result<PathBuf> {
        let unknown =
            || Error::failed("no folder for talkie's data is known").hint("set `TALKIE_HOME` to a folder of yours");
        self.home.clone().ok_or_else(unknown)
    }
}
