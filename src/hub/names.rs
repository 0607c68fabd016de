//! Names of repositories and files: validation, percent-encoding, patterns.

use hf_hub::{Repo, RepoType};

use crate::error::{Error, Result};

/// A validated repository and revision.
pub(super) struct RepoName {
    /// `org/name`.
    pub repo: String,
    /// A branch, a tag, a commit or `refs/pr/N`.
    pub revision: String,
}

impl RepoName {
    /// Checks the names as the hub does.
    pub(super) fn parse(repo: &str, revision: &str) -> Result<Self> {
        let word = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
                && !text.starts_with(['.', '-'])
                && !text.ends_with(['.', '-'])
                && !text.contains("..")
                && !text.contains("--")
        };
        if repo.len() > 96 || !repo.split_once('/').is_some_and(|(org, name)| word(org) && word(name)) {
            let hint = "a hub repository is written `org/name`, for example Wan-AI/Wan2.1-T2V-1.3B-Diffusers";
            return Err(Error::usage(format!("`{}` cannot be a hub repository", short(repo))).hint(hint));
        }
        let fine = |part: &str| {
            !part.is_empty()
                && !part.starts_with(['.', '-'])
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte))
                && !part.contains("..")
        };
        if revision.len() > 200 || !revision.split('/').all(fine) {
            let hint = "a revision is a branch (main), a tag or a commit";
            return Err(Error::usage(format!("`{}` cannot be a revision", short(revision))).hint(hint));
        }
        Ok(Self { repo: repo.to_string(), revision: revision.to_string() })
    }

    /// The repository for hf-hub, which has the folders and URLs.
    pub(super) fn hf(&self) -> Repo {
        Repo::with_revision(self.repo.clone(), RepoType::Model, self.revision.clone())
    }

    /// The error of missing files when offline.
    pub(super) fn missing(&self, files: &[String]) -> Error {
        const SHOWN: usize = 8;
        let mut list = files.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        if files.len() > SHOWN {
            list.push_str(&format!(" and {} more", files.len() - SHOWN));
        }
        Error::failed(format!("HF_HUB_OFFLINE forbids the network, and of {} this machine lacks: {list}", self.repo))
            .hint(format!("`HF_HUB_OFFLINE=0 talkie models pull {}` fetches what is missing", self.repo))
    }
}

/// Whether a foreign file name stays inside the folder that it is joined to.
pub(super) fn is_safe(name: &str) -> bool {
    // No colon: it would be a drive on Windows.
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    name.len() <= 512 && name.split('/').all(part) && !name.chars().any(|c| c == '\\' || c == ':' || c.is_control())
}

/// Whether a text is a commit, and safe as a folder.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && is_hex(text)
}

/// Whether a text is a SHA-256 in hexadecimal digits.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

/// Whether a text is a blob's name: an ETag without quotes.
pub(super) fn is_blob(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Percent-encodes a name, but for `/` and the unreserved characters of RFC 3986.
pub(super) fn encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Whether `name` matches `pattern`, in which `*` is any run of characters, `/` too.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// A foreign text, truncated for messages, without control characters.
pub(super) fn short(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut out: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}
