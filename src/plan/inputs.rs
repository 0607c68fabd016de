//! The files of a request that a film is made from, as they are when its run begins.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::request::{ModelChoice, Request};

/// A file that a film is made from, besides its model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// What it is for.
    pub role: Role,
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// When it was last written, in milliseconds since 1970, where the system knows.
    pub modified: Option<u64>,
}

/// What a file of a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It is added to a transformer.
    Lora,
    /// The film begins with it.
    Image,
    /// The denoising begins with it.
    Noise,
}

impl Role {
    /// What such a file is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lora => "LoRA",
            Self::Image => "picture",
            Self::Noise => "noise",
        }
    }
}

impl Input {
    /// Those of a request that are there.
    pub fn of(choice: &ModelChoice, request: &Request) -> Vec<Self> {
        let loras = choice.loras.iter().map(|lora| (Role::Lora, lora.path.as_path()));
        let image = request.conditions.iter().map(|condition| (Role::Image, condition.file()));
        let noise = request.noise.iter().map(|path| (Role::Noise, path.as_path()));
        loras.chain(image).chain(noise).filter_map(|(role, path)| Self::read(role, path)).collect()
    }

    fn read(role: Role, path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = modified.and_then(|time| u64::try_from(time.as_millis()).ok());
        Some(Self { role, path: path.to_owned(), bytes: metadata.len(), modified })
    }

    /// Whether there is nothing at its place any more.
    pub fn is_gone(&self) -> bool {
        !self.path.exists()
    }

    /// Whether it has another size than it had, or was written since.
    pub fn has_changed(&self) -> bool {
        Self::read(self.role, &self.path).as_ref() != Some(self)
    }
}
