//! A model on the loopback hub, a cache beside it, and what the tests ask of both.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use talkie::error::{Error, Result};
use talkie::hub::{Hub, HubConfig, Patience};
use talkie::progress::{Event, Progress};

use super::server::{REPO, Server, State};

pub const WEIGHTS: &str = "transformer/weights-00001-of-00002.safetensors";
pub const MORE: &str = "transformer/weights-00002-of-00002.safetensors";
pub const INDEX: &str = "transformer/weights.safetensors.index.json";
pub const ALL: &[&str] = &["model_index.json", "transformer/*"];

/// Content that differs at every place, so that a piece in the wrong place is noticed.
pub fn bytes(length: usize, seed: u32) -> Vec<u8> {
    (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8).collect()
}

/// A model of two shards, 900 kB and 300 kB.
pub fn model() -> State {
    let index =
        r#"{"weight_map": {"a": "weights-00001-of-00002.safetensors", "b": "weights-00002-of-00002.safetensors"}}"#;
    let file = |name: &str, bytes: Vec<u8>, large| (name.to_string(), bytes, large);
    State {
        files: vec![
            file("README.md", b"# A model".to_vec(), false),
            file("model_index.json", b"{}".to_vec(), false),
            file(INDEX, index.as_bytes().to_vec(), false),
            file(WEIGHTS, bytes(900_000, 1), true),
            file(MORE, bytes(300_000, 2), true),
        ],
        ..State::default()
    }
}

pub struct Here {
    pub server: Server,
    pub cache: tempfile::TempDir,
    pub config: HubConfig,
}

impl Here {
    pub fn new(state: State) -> Self {
        let server = Server::start(state);
        let cache = tempfile::tempdir().expect("a folder");
        let config = HubConfig {
            cache: cache.path().to_path_buf(),
            endpoint: server.endpoint(),
            token: None,
            offline: false,
            patience: Patience {
                connect: Duration::from_secs(5),
                silence: Duration::from_secs(5),
                tries: 3,
                pause: Duration::from_millis(10),
            },
        };
        Self { server, cache, config }
    }

    pub fn hub(&self) -> Hub {
        Hub::new(self.config.clone()).expect("a hub")
    }

    pub fn offline(&self) -> Hub {
        Hub::new(HubConfig { offline: true, ..self.config.clone() }).expect("a hub")
    }

    pub fn fetch(&self) -> Result<PathBuf> {
        self.fetch_with(&mut |_| ControlFlow::Continue(()))
    }

    pub fn fetch_with(&self, sink: &mut dyn FnMut(&Event) -> ControlFlow<()>) -> Result<PathBuf> {
        self.hub().fetch(REPO, "main", ALL, &mut Progress::new(sink))
    }

    pub fn repo(&self) -> PathBuf {
        self.cache.path().join("models--org--film-model")
    }

    /// Every wanted file is in the folder with the server's bytes, and nothing half-done lies about.
    pub fn assert_whole(&self, folder: &Path) {
        for (name, bytes, _) in &self.server.state().files {
            let here = fs::read(folder.join(name));
            if name == "README.md" {
                assert!(here.is_err(), "README.md was not asked for");
            } else {
                assert!(here.expect(name) == *bytes, "the bytes of {name}");
            }
        }
        assert!(self.parts().is_empty(), "parts are left: {:?}", self.parts());
    }

    pub fn parts(&self) -> Vec<PathBuf> {
        let blobs = fs::read_dir(self.repo().join("blobs")).into_iter().flatten();
        blobs
            .map(|entry| entry.expect("a file").path())
            .filter(|path| path.extension() == Some("part".as_ref()))
            .collect()
    }
}

/// Fetches without looking at the events.
pub fn fetch(hub: &Hub, wanted: &[&str]) -> Result<PathBuf> {
    hub.fetch(REPO, "main", wanted, &mut Progress::new(&mut |_| ControlFlow::Continue(())))
}

#[track_caller]
pub fn assert_says(error: &Error, words: &[&str]) {
    let text = error.report();
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in:\n{text}");
    }
}

/// The ranges asked of the file server.
pub fn ranges(server: &Server) -> Vec<String> {
    let seen = server.take_seen();
    seen.iter().filter(|seen| seen.cdn).filter_map(|seen| seen.header("range").map(str::to_string)).collect()
}
