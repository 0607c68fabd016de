//! A small hub on loopback: HTTP/1.1 as huggingface.co and its file servers speak it, with faults to order.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sha2::{Digest, Sha256};

pub const REPO: &str = "org/film-model";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the hub holds and how it misbehaves.
#[derive(Clone, Default)]
pub struct State {
    /// Name, content, and whether it is a large file (LFS).
    pub files: Vec<(String, Vec<u8>, bool)>,
    /// Every request is answered with this status and `X-Error-Code`.
    pub refuse: Option<(u16, &'static str)>,
    /// The token without which everything is answered with 401.
    pub token: Option<&'static str>,
    /// Whatever name is asked for is this file, as a server would have it that is out to harm.
    pub any_name: Option<usize>,
    /// This instead of the list of files.
    pub listing: Option<String>,
    /// The list says nothing about sizes and hashes.
    pub terse: bool,
    /// Contents end after so many bytes, so often, although the whole length was promised.
    pub cut: Option<(usize, usize)>,
    /// Contents stop coming after so many bytes, with the connection open.
    pub stall: Option<usize>,
    /// Ranges are ignored: always the whole content.
    pub no_ranges: bool,
    /// Large files come with one bit changed.
    pub damaged: bool,
    /// Contents are this many bytes longer than promised in the list.
    pub longer: usize,
    /// So many requests are answered with 503 first.
    pub busy: usize,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// Whether it came to the file server rather than to the hub.
    pub cdn: bool,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Two listeners: the hub, and the other host that keeps large files.
pub struct Server {
    hub: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    seen: Mutex<Vec<Seen>>,
    cdn: SocketAddr,
}

impl Server {
    pub fn start(state: State) -> Self {
        let hub = TcpListener::bind("127.0.0.1:0").expect("a port");
        let cdn = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = hub.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            seen: Mutex::default(),
            cdn: cdn.local_addr().expect("an address"),
        });
        for (listener, is_cdn) in [(hub, false), (cdn, true)] {
            let shared = shared.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let shared = shared.clone();
                    std::thread::spawn(move || shared.answer(stream, is_cdn));
                }
            });
        }
        Self { hub: address, shared }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.hub)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("state")
    }

    /// The requests so far, and forgets them.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.seen.lock().expect("log"))
    }
}

impl Shared {
    fn answer(&self, stream: TcpStream, cdn: bool) -> Option<()> {
        let seen = read_request(&stream, cdn)?;
        self.seen.lock().expect("log").push(seen.clone());
        let mut state = self.state.lock().expect("state").clone();
        if state.busy > 0 {
            self.state.lock().expect("state").busy -= 1;
            return respond(&stream, "503 Service Unavailable", &[], b"");
        }
        if let Some((status, code)) = state.refuse {
            let headers = [format!("X-Error-Code: {code}"), "X-Error-Message: so it is".to_string()];
            return respond(&stream, &format!("{status} No"), &headers, b"");
        }
        let allowed = state.token.is_none_or(|token| seen.header("authorization") == Some(&format!("Bearer {token}")));
        if !cdn && !allowed {
            return respond(&stream, "401 Unauthorized", &["X-Error-Code: GatedRepo".to_string()], b"");
        }
        if cdn {
            if state.damaged {
                state.files.iter_mut().for_each(|(_, bytes, _)| bytes[0] ^= 1);
            }
            // The address is signed: `/NUMBER?signature=…`, and without the signature there is nothing.
            let number = seen.path.strip_suffix("?signature=x")?.strip_prefix('/')?.parse::<usize>().ok()?;
            return self.content(&stream, &seen, &state, &state.files.get(number)?.1, &[]);
        }
        if seen.path == format!("/api/models/{REPO}/revision/main?blobs=true") {
            let listing = state.listing.clone().unwrap_or_else(|| listing(&state));
            return respond(&stream, "200 OK", &[], listing.as_bytes());
        }
        let name = seen.path.strip_prefix(&format!("/{REPO}/resolve/")).and_then(|rest| rest.split_once('/'));
        let name =
            name.filter(|(revision, _)| ["main", COMMIT].contains(revision)).map(|(_, name)| name.replace("%20", " "));
        let found = name.and_then(|name| state.files.iter().position(|(other, ..)| *other == name));
        let found = found.or(state.any_name);
        let Some(number) = found else {
            return respond(&stream, "404 Not Found", &["X-Error-Code: EntryNotFound".to_string()], b"");
        };
        self.resolve(&stream, &seen, &state, number)
    }

    /// Large files are somewhere else, small ones here: behind a redirection within the hub, as since 2025.
    fn resolve(&self, stream: &TcpStream, seen: &Seen, state: &State, number: usize) -> Option<()> {
        let (_, bytes, large) = &state.files[number];
        let mut headers = vec![format!("X-Repo-Commit: {COMMIT}")];
        if *large {
            headers.push(format!("X-Linked-Size: {}", bytes.len()));
            headers.push(format!("X-Linked-Etag: \"{}\"", sha256(bytes)));
            headers.push(format!("Location: http://{}/{number}?signature=x", self.cdn));
            return respond(stream, "302 Found", &headers, b"");
        }
        headers.push(format!("ETag: \"{}\"", git_id(bytes)));
        self.content(stream, seen, state, bytes, &headers)
    }

    fn content(&self, stream: &TcpStream, seen: &Seen, state: &State, bytes: &[u8], headers: &[String]) -> Option<()> {
        let mut bytes = bytes.to_vec();
        bytes.extend(vec![7; state.longer]);
        let range = seen.header("range").filter(|_| !state.no_ranges);
        let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let mut headers = headers.to_vec();
        if let Some(start) = start {
            headers.push(format!("Content-Range: bytes {start}-{}/{}", bytes.len() - 1, bytes.len()));
        }
        headers.push(format!("Content-Length: {}", bytes.len() - start.unwrap_or(0)));
        let status = if start.is_some() { "206 Partial Content" } else { "200 OK" };
        let body = &bytes[start.unwrap_or(0)..];
        let mut end = if seen.method == "HEAD" { 0 } else { body.len() };
        let cut = state.cut.filter(|(at, times)| *times > 0 && *at < end);
        if let Some((at, times)) = cut {
            self.state.lock().expect("state").cut = Some((at, times - 1));
            end = at;
        }
        end = state.stall.map_or(end, |at| at.min(end));
        send_head(stream, status, &headers)?;
        let mut stream = stream;
        stream.write_all(&body[..end]).ok()?;
        if state.stall.is_some() {
            std::thread::sleep(Duration::from_secs(20));
        }
        Some(())
    }
}

fn read_request(stream: &TcpStream, cdn: bool) -> Option<Seen> {
    let mut lines = BufReader::new(stream.take(1 << 16)).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let mut headers = Vec::new();
    for line in lines {
        let line = line.ok()?;
        let Some((key, value)) = line.split_once(':') else { break };
        headers.push((key.to_ascii_lowercase(), value.trim().to_string()));
    }
    Some(Seen { method, path, headers, cdn })
}

fn respond(stream: &TcpStream, status: &str, headers: &[String], body: &[u8]) -> Option<()> {
    let mut headers = headers.to_vec();
    headers.push(format!("Content-Length: {}", body.len()));
    send_head(stream, status, &headers)?;
    let mut stream = stream;
    stream.write_all(body).ok()
}

fn send_head(mut stream: &TcpStream, status: &str, headers: &[String]) -> Option<()> {
    let head = format!("HTTP/1.1 {status}\r\n{}\r\nConnection: close\r\n\r\n", headers.join("\r\n"));
    stream.write_all(head.as_bytes()).ok()
}

/// The list as `/api/models/…?blobs=true` gives it, with more in it than is read.
fn listing(state: &State) -> String {
    let siblings: Vec<String> = state
        .files
        .iter()
        .map(|(name, bytes, large)| {
            let size = bytes.len();
            let lfs = format!(r#", "lfs": {{"sha256": "{}", "size": {size}, "pointerSize": 134}}"#, sha256(bytes));
            let blob = format!(r#", "blobId": "{}", "size": {size}"#, git_id(bytes));
            let known = if state.terse { String::new() } else { blob + if *large { &lfs } else { "" } };
            format!(r#"{{"rfilename": "{name}"{known}}}"#)
        })
        .collect();
    format!(
        r#"{{"_id": "x", "id": "{REPO}", "sha": "{COMMIT}", "private": false, "siblings": [{}]}}"#,
        siblings.join(", ")
    )
}

pub fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Stands for git's hash of a small file: 40 digits that depend on the content.
fn git_id(bytes: &[u8]) -> String {
    sha256(bytes)[..40].to_string()
}
