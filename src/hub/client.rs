//! Requests to the hub: URLs, redirections, the token, and which failures are transient.

use std::io::Read;

use ureq::Agent;
use ureq::http::{HeaderMap, Response};

use super::config::HubConfig;
use super::names::{RepoName, encoded, is_blob, is_sha256, short};
use crate::error::{Error, Result};

/// A failed request.
pub(super) enum Failure {
    /// The network or a busy server: the same request may succeed a moment later.
    Transient(Error),
    /// Anything else.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// A client of one hub.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// The headers of a file.
pub(super) struct Head {
    pub blob: String,
    pub size: u64,
    pub sha256: Option<String>,
}

/// The content of a file from an offset on.
pub(super) struct Content {
    /// The offset of `reader`: the requested one, or 0 from a server without ranges.
    pub start: u64,
    pub reader: Box<dyn Read>,
}

impl Client {
    pub(super) fn new(config: &HubConfig) -> Self {
        let patience = config.patience;
        let agent = Agent::config_builder()
            // Redirections are followed by hand: the token must not go to other hosts, and HEAD must stop
            // there.
            .max_redirects(0)
            .http_status_as_error(false)
            // A compressed response cannot be resumed, nor its bytes counted.
            .accept_encoding("identity")
            .user_agent(concat!("talkie/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.silence))
            .timeout_per_read(Some(patience.silence))
            .build()
            .into();
        Self { agent, endpoint: config.endpoint.clone(), token: config.token.clone() }
    }

    /// The JSON of a repository, of at most `longest` bytes.
    pub(super) fn api(&self, repo: &RepoName, longest: u64) -> Result<Vec<u8>, Failure> {
        let url = format!("{}/api/{}?blobs=true", self.endpoint, repo.hf().api_url());
        let response = self.follow(url, &Ask::Get { from: 0 })?;
        if response.status().as_u16() != 200 {
            return Err(refused(&response, repo, None));
        }
        let read = response.into_body().into_with_config().limit(longest).read_to_vec();
        read.map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => {
                Error::failed(format!("the answer about {} is longer than any list of files", repo.repo)).into()
            }
            error => broken(&self.endpoint, error),
        })
    }

    /// The size and version of a file, for a hub whose listing lacks them.
    pub(super) fn head(&self, repo: &RepoName, commit: &str, name: &str) -> Result<Head, Failure> {
        let response = self.follow(self.file(repo, commit, name), &Ask::Head)?;
        let status = response.status();
        if !status.is_success() && !status.is_redirection() {
            return Err(refused(&response, repo, Some(name)));
        }
        let headers = response.headers();
        let tag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag")).unwrap_or_default();
        let blob = tag.trim_start_matches("W/").trim_matches('"').to_string();
        let size = text(headers, "x-linked-size").or_else(|| text(headers, "content-length"));
        match size.and_then(|size| size.parse().ok()) {
            Some(size) if is_blob(&blob) => Ok(Head { sha256: is_sha256(&blob).then(|| blob.clone()), blob, size }),
            _ => Err(Error::failed(format!("the hub's headers of {name} have no size or version")).into()),
        }
    }

    /// The content of a file of `size` bytes from offset `from` on.
    pub(super) fn open(
        &self,
        repo: &RepoName,
        commit: &str,
        name: &str,
        from: u64,
        size: u64,
    ) -> Result<Content, Failure> {
        let response = self.follow(self.file(repo, commit, name), &Ask::Get { from })?;
        let start = match response.status().as_u16() {
            200 => 0,
            206 => {
                let range = text(response.headers(), "content-range").unwrap_or_default();
                if range_start(range, size) != Some(from) {
                    let what = format!("asked for {name} from byte {from}, the server answered `{}`", short(range));
                    return Err(Error::failed(what).into());
                }
                from
            }
            _ => return Err(refused(&response, repo, Some(name))),
        };
        Ok(Content { start, reader: Box::new(response.into_body().into_reader()) })
    }

    fn file(&self, repo: &RepoName, commit: &str, name: &str) -> String {
        format!("{}/{}/resolve/{commit}/{}", self.endpoint, repo.repo, encoded(name))
    }

    fn follow(&self, first: String, ask: &Ask) -> Result<Response<ureq::Body>, Failure> {
        const MOST: usize = 8;
        let mut url = first;
        for _ in 0..MOST {
            let response = self.send(&url, ask)?;
            let location = text(response.headers(), "location").filter(|_| response.status().is_redirection());
            let Some(location) = location else { return Ok(response) };
            let next = join(&url, location).ok_or_else(|| {
                Error::failed(format!("the hub redirects to `{}`, which is not an allowed address", short(location)))
            })?;
            // For a file on another host, the hub's headers have more than that host's.
            if matches!(ask, Ask::Head) && origin(&next) != origin(&url) {
                return Ok(response);
            }
            url = next;
        }
        Err(Error::failed("the hub redirects in a circle").into())
    }

    fn send(&self, url: &str, ask: &Ask) -> Result<Response<ureq::Body>, Failure> {
        let mut request = match ask {
            Ask::Head => self.agent.head(url),
            Ask::Get { .. } => self.agent.get(url),
        };
        if let Ask::Get { from: from @ 1.. } = ask {
            request = request.header("Range", format!("bytes={from}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| origin(url) == origin(&self.endpoint)) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.call().map_err(|error| broken(origin(url), error))
    }
}

enum Ask {
    Head,
    Get { from: u64 },
}

/// Scheme and host of a URL.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find(['/', '?', '#']).map_or(url, |end| &url[..host + end])
}

/// Resolves `location` relative to `url`. No downgrade from https to http.
fn join(url: &str, location: &str) -> Option<String> {
    if location.starts_with("https://") || location.starts_with("http://") && url.starts_with("http://") {
        return Some(location.to_string());
    }
    (location.starts_with('/') && !location.starts_with("//")).then(|| format!("{}{location}", origin(url)))
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The first offset in `bytes first-last/size`, if the size is as expected.
fn range_start(range: &str, size: u64) -> Option<u64> {
    let (range, whole) = range.strip_prefix("bytes ")?.split_once('/')?;
    if whole != "*" && whole.parse() != Ok(size) {
        return None;
    }
    range.split_once('-')?.0.parse().ok()
}

/// The failure of a request without a response.
fn broken(host: &str, error: ureq::Error) -> Failure {
    use ureq::Error::{ConnectionFailed, HostNotFound, Io, Protocol, Timeout};
    let passing = matches!(error, ConnectionFailed | HostNotFound | Io(_) | Protocol(_) | Timeout(_));
    let error = Error::failed(format!("there is no answer from {}", short(host)))
        .because(error)
        .hint("check the network, and HF_ENDPOINT if it is set; what was fetched is kept");
    if passing { Failure::Transient(error) } else { Failure::Final(error) }
}

/// The failure of an error response. The hub's codes: <https://huggingface.co/docs/hub/api>.
fn refused(response: &Response<ureq::Body>, repo: &RepoName, file: Option<&str>) -> Failure {
    let RepoName { repo, revision } = repo;
    let status = response.status().as_u16();
    let code = text(response.headers(), "x-error-code").unwrap_or_default();
    let page = format!("https://huggingface.co/{repo}");
    let (what, hint) = match (status, code) {
        (401 | 403, "GatedRepo") => (
            format!("{repo} is only given to those who accept its licence"),
            format!("visit {page}, accept the licence, and set HF_TOKEN to a token of the same account"),
        ),
        (403, _) => (
            format!("the hub refuses {repo}"),
            format!("visit {page} with the account whose token HF_TOKEN is; the token needs to read it"),
        ),
        (401, _) | (404, "RepoNotFound") => (
            format!("the hub has no repository {repo} for you: misspelt, private, or the token is not valid"),
            format!("visit {page}; for a private or gated model set HF_TOKEN"),
        ),
        (404, "RevisionNotFound") => {
            (format!("{repo} has no revision `{revision}`"), format!("visit {page}/tree/main for its branches"))
        }
        (404, _) => match file {
            Some(file) => (format!("{repo} has no file {file}"), format!("visit {page}/tree/{revision}")),
            None => (format!("the hub does not know {repo}"), format!("check the spelling: {page}")),
        },
        (429, _) => ("too many requests to the hub from here".to_string(), "wait a minute, or set HF_TOKEN".into()),
        _ => (
            format!("the hub answered {status} about {}", file.unwrap_or(repo)),
            "try again later; what was fetched is kept".into(),
        ),
    };
    let mut error = Error::failed(what).hint(hint);
    if let Some(message) = text(response.headers(), "x-error-message") {
        error = error.because(short(message));
    }
    let passing = matches!(status, 408 | 429 | 500..=599);
    if passing { Failure::Transient(error) } else { Failure::Final(error) }
}
