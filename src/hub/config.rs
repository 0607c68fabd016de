//! Configuration from the environment: cache, hub, token, timeouts and retries.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};

/// The configuration of a [`super::Hub`].
#[derive(Clone)]
pub struct HubConfig {
    /// The cache folder, which holds `models--org--name` folders.
    pub cache: PathBuf,
    /// The hub's URL, `https://huggingface.co` or a mirror, without a trailing `/`.
    pub endpoint: String,
    /// The user's token, for gated models.
    pub token: Option<String>,
    /// Whether to use the cache only.
    pub offline: bool,
    /// Timeouts and retries.
    pub patience: Patience,
}

/// Timeouts and retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Timeout to connect.
    pub connect: Duration,
    /// Timeout for the start of a response, and between any two bytes of it.
    pub silence: Duration,
    /// Consecutive attempts without progress before giving up.
    pub tries: u32,
    /// Pause before the second attempt; doubled before each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(20),
            tries: 5,
            pause: Duration::from_millis(500),
        }
    }
}

impl HubConfig {
    /// The configuration of the environment, as in Python's `huggingface_hub`.
    ///
    /// `HF_HUB_CACHE`, else `HF_HOME/hub`, else `XDG_CACHE_HOME/huggingface/hub`, else
    /// `~/.cache/huggingface/hub`; `HF_TOKEN`, else the file `HF_TOKEN_PATH`, else `HF_HOME/token`;
    /// `HF_ENDPOINT`; `HF_HUB_OFFLINE` (`1`, `true`, `yes` or `on`).
    ///
    /// # Errors
    /// No variable names the cache and there is no home folder.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(&|name| std::env::var(name).ok(), std::env::home_dir())
    }

    /// As [`HubConfig::from_env`], with the variables from `var` and the user's folder from `home`.
    ///
    /// # Errors
    /// As [`HubConfig::from_env`].
    pub fn from_vars(var: &dyn Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Result<Self> {
        // An empty variable counts as unset, as usual in a shell.
        let var = |name: &str| var(name).map(|value| value.trim().to_string()).filter(|value| !value.is_empty());
        let path = |name: &str| var(name).map(|value| expand(&value, home.as_deref()));
        let hf_home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|folder| folder.join("huggingface")))
            .or_else(|| home.as_ref().map(|home| home.join(".cache/huggingface")));
        let cache =
            path("HF_HUB_CACHE").or_else(|| hf_home.as_ref().map(|folder| folder.join("hub"))).ok_or_else(|| {
                Error::failed("there is no home folder to keep downloads in").hint("set HF_HOME to a folder")
            })?;
        let token_file = path("HF_TOKEN_PATH").or_else(|| hf_home.map(|folder| folder.join("token")));
        let token = var("HF_TOKEN").or_else(|| read_token(&token_file?));
        let endpoint = var("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_string());
        Ok(Self {
            cache,
            endpoint: endpoint.trim_end_matches('/').to_string(),
            token,
            offline: var("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
            patience: Patience::default(),
        })
    }

    /// Refuses an invalid token or endpoint.
    pub(super) fn check(&self) -> Result<()> {
        if self
            .token
            .as_ref()
            .is_some_and(|token| token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            // The message omits the token: messages end up in bug reports.
            return Err(Error::usage("the hub token holds characters that no token has").hint("check HF_TOKEN"));
        }
        let host = self.endpoint.strip_prefix("https://").or_else(|| self.endpoint.strip_prefix("http://"));
        if !host.is_some_and(|host| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic())) {
            let hint = "HF_ENDPOINT is an address such as https://huggingface.co";
            return Err(Error::usage(format!("the hub cannot be at `{}`", self.endpoint)).hint(hint));
        }
        Ok(())
    }
}

impl fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConfig")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .field("patience", &self.patience)
            .finish()
    }
}

fn is_true(value: &str) -> bool {
    ["1", "true", "yes", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

/// Expands a leading `~`.
fn expand(value: &str, home: Option<&Path>) -> PathBuf {
    match (value.strip_prefix('~'), home) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(value),
    }
}

/// The first word of the file that `hf auth login` writes.
fn read_token(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()?.split_whitespace().next().map(str::to_string)
}
