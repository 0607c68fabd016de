//! The hub's listing of a repository: its files at a commit.

use serde::{Deserialize, Serialize};

use super::client::{Client, Failure};
use super::names::{RepoName, is_blob, is_commit, is_safe, is_sha256, matches, short};
use crate::error::{Error, Result};

/// Most bytes of a listing. The largest repositories list a few thousand files of 200 bytes each.
const LONGEST: u64 = 16 << 20;

/// A file of a hub repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemoteFile {
    /// Its name, with `/` between folders.
    pub name: String,
    /// Its size in bytes, if the hub lists it.
    pub size: Option<u64>,
    /// Its SHA-256 in hexadecimal digits, which the hub has for large files.
    pub sha256: Option<String>,
    /// The name of its blob: the SHA-256, or git's hash of a small file.
    #[serde(skip)]
    pub(super) blob: Option<String>,
}

/// The files of a repository at one commit.
pub(super) struct Listing {
    /// The commit of the revision.
    pub commit: String,
    pub files: Vec<RemoteFile>,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: Option<u64>,
}

impl RemoteFile {
    /// The files in a hub's answer about a repository, for tests of answers without a hub.
    ///
    /// # Errors
    /// An answer that is not the hub's.
    #[doc(hidden)]
    pub fn listed(answer: &[u8]) -> Result<Vec<Self>> {
        Ok(Listing::parse(answer).map_err(Error::failed)?.files)
    }
}

impl Listing {
    /// Fetches the listing. Only names and hashes that are safe in paths pass.
    pub(super) fn ask(client: &Client, repo: &RepoName) -> Result<Self, Failure> {
        Self::parse(&client.api(repo, LONGEST)?).map_err(|what| {
            Failure::Final(
                Error::failed(format!("the answer about {} is not the hub's: {what}", repo.repo))
                    .hint("check HF_ENDPOINT, and that no proxy or log-in page of the network answers in its place"),
            )
        })
    }

    /// Reads the hub's answer, or says what is wrong with it.
    fn parse(answer: &[u8]) -> Result<Self, String> {
        let answer: Answer = serde_json::from_slice(answer).map_err(|error| short(&error.to_string()))?;
        if !is_commit(&answer.sha) {
            return Err(format!("`{}` is not a commit", short(&answer.sha)));
        }
        let files = answer.siblings.into_iter().map(file).collect::<Result<_, _>>()?;
        Ok(Self { commit: answer.sha, files })
    }

    /// Keeps the files that match `wanted`.
    pub(super) fn keep(&mut self, wanted: &[&str], repo: &RepoName) -> Result<()> {
        for pattern in wanted {
            if !self.files.iter().any(|file| matches(pattern, &file.name)) {
                let hint = format!("https://huggingface.co/{}/tree/{} shows what it has", repo.repo, repo.revision);
                return Err(Error::failed(format!("{} has no file `{}`", repo.repo, short(pattern))).hint(hint));
            }
        }
        self.files.retain(|file| wanted.iter().any(|pattern| matches(pattern, &file.name)));
        Ok(())
    }
}

/// One file of the response, or what is wrong with it.
fn file(sibling: Sibling) -> Result<RemoteFile, String> {
    let name = sibling.rfilename;
    if !is_safe(&name) {
        return Err(format!("the file name `{}` leads out of its folder", short(&name)));
    }
    if let Some(lfs) = sibling.lfs {
        if !is_sha256(&lfs.sha256) {
            return Err(format!("`{}` is not a SHA-256", short(&lfs.sha256)));
        }
        return Ok(RemoteFile {
            name,
            size: lfs.size.or(sibling.size),
            blob: Some(lfs.sha256.clone()),
            sha256: Some(lfs.sha256),
        });
    }
    if let Some(id) = sibling.blob_id.as_deref().filter(|id| !is_blob(id)) {
        return Err(format!("`{}` is not a blob", short(id)));
    }
    Ok(RemoteFile { name, size: sibling.size, sha256: None, blob: sibling.blob_id })
}
