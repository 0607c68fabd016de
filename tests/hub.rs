//! The hub, against a server on loopback that speaks its protocol.

mod server;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use talkie::error::{Error, Kind, Result};
use talkie::hub::{Hub, HubConfig, Patience};
use talkie::progress::{Event, Progress, Stage};

use server::{COMMIT, REPO, Server, State, sha256};

const WEIGHTS: &str = "transformer/weights-00001-of-00002.safetensors";
const MORE: &str = "transformer/weights-00002-of-00002.safetensors";
const INDEX: &str = "transformer/weights.safetensors.index.json";
const ALL: &[&str] = &["model_index.json", "transformer/*"];

/// Content that differs at every place, so that a piece in the wrong place is noticed.
fn bytes(length: usize, seed: u32) -> Vec<u8> {
    (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8).collect()
}

/// A model of two shards, 900 kB and 300 kB.
fn model() -> State {
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

struct Here {
    server: Server,
    cache: tempfile::TempDir,
    config: HubConfig,
}

impl Here {
    fn new(state: State) -> Self {
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

    fn hub(&self) -> Hub {
        Hub::new(self.config.clone()).expect("a hub")
    }

    fn offline(&self) -> Hub {
        Hub::new(HubConfig { offline: true, ..self.config.clone() }).expect("a hub")
    }

    fn fetch(&self) -> Result<PathBuf> {
        self.fetch_with(&mut |_| ControlFlow::Continue(()))
    }

    fn fetch_with(&self, sink: &mut dyn FnMut(&Event) -> ControlFlow<()>) -> Result<PathBuf> {
        self.hub().fetch(REPO, "main", ALL, &mut Progress::new(sink))
    }

    fn repo(&self) -> PathBuf {
        self.cache.path().join("models--org--film-model")
    }

    /// Every wanted file is in the folder with the server's bytes, and nothing half-done lies about.
    fn assert_whole(&self, folder: &Path) {
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

    fn parts(&self) -> Vec<PathBuf> {
        let blobs = fs::read_dir(self.repo().join("blobs")).into_iter().flatten();
        blobs
            .map(|entry| entry.expect("a file").path())
            .filter(|path| path.extension() == Some("part".as_ref()))
            .collect()
    }
}

fn fetch_offline(hub: &Hub, wanted: &[&str]) -> Result<PathBuf> {
    hub.fetch(REPO, "main", wanted, &mut Progress::new(&mut |_| ControlFlow::Continue(())))
}

fn message(error: &Error) -> String {
    error.report()
}

#[track_caller]
fn assert_says(error: &Error, words: &[&str]) {
    let text = message(error);
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in:\n{text}");
    }
}

#[test]
fn fetches_a_whole_model_into_the_standard_layout() {
    let here = Here::new(model());
    let mut events = Vec::new();
    let folder = here
        .fetch_with(&mut |event| {
            events.push(event.clone());
            ControlFlow::Continue(())
        })
        .expect("a model");
    assert_eq!(folder, here.repo().join("snapshots").join(COMMIT));
    here.assert_whole(&folder);

    assert_eq!(fs::read_to_string(here.repo().join("refs/main")).expect("a reference"), COMMIT);
    let link = fs::read_link(folder.join(WEIGHTS)).expect("a link");
    assert_eq!(link, Path::new("../../../blobs").join(sha256(&bytes(900_000, 1))));
    assert_eq!(here.hub().cached(REPO, "main", WEIGHTS), Some(folder.join(WEIGHTS)));
    assert_eq!(here.hub().cached(REPO, "main", "README.md"), None);

    let total: u64 = here.server.state().files[1..].iter().map(|(_, bytes, _)| bytes.len() as u64).sum();
    assert!(matches!(events[0], Event::Begin { stage: Stage::Download, total: t } if t == total));
    assert!(matches!(events[events.len() - 2], Event::Advance { done, .. } if done == total));
    assert!(matches!(events[events.len() - 1], Event::End { stage: Stage::Download, .. }));
    let whole = |event: &Event| matches!(event, Event::File { name, done: 900_000, total: 900_000 } if name == WEIGHTS);
    assert!(events.iter().any(whole), "the shard's own bar gets to its end");
}

#[test]
fn a_second_call_asks_only_for_the_list() {
    let here = Here::new(model());
    here.fetch().expect("a model");
    here.server.take_seen();
    let mut events = 0;
    let folder = here.fetch_with(&mut |_| {
        events += 1;
        ControlFlow::Continue(())
    });
    here.assert_whole(&folder.expect("the model"));
    assert_eq!(here.server.take_seen().len(), 1);
    assert_eq!(events, 0, "no stage for nothing");
}

#[test]
fn a_cut_connection_is_resumed_in_the_same_call() {
    let here = Here::new(State { cut: Some((250_000, 5)), ..model() });
    let folder = here.fetch().expect("a model in spite of five cuts, more than are forgiven in vain");
    here.assert_whole(&folder);
    let ranges: Vec<String> = ranges(&here.server);
    assert_eq!(ranges[..3], ["bytes=250000-", "bytes=500000-", "bytes=750000-"]);
}

/// The ranges asked of the file server.
fn ranges(server: &Server) -> Vec<String> {
    let seen = server.take_seen();
    seen.iter().filter(|seen| seen.cdn).filter_map(|seen| seen.header("range").map(str::to_string)).collect()
}

#[test]
fn a_broken_download_is_resumed_by_the_next_call() {
    let mut here = Here::new(State { cut: Some((400_000, 1)), ..model() });
    here.config.patience.tries = 1;
    let error = here.fetch().expect_err("one try, and a cut");
    assert_says(&error, &["broke off", WEIGHTS, "goes on from there"]);
    assert_eq!(fs::metadata(&here.parts()[0]).expect("a part").len(), 400_000);
    assert_eq!(ranges(&here.server), Vec::<String>::new());

    let states = here.hub().survey(REPO, "main", ALL).expect("a survey");
    let state = states.iter().find(|state| state.name == WEIGHTS).expect("the shard");
    assert_eq!((state.present, state.size, state.whole), (400_000, Some(900_000), false));

    let mut first = None;
    let folder = here.fetch_with(&mut |event| {
        if let Event::Advance { done, .. } = event {
            first.get_or_insert(*done);
        }
        ControlFlow::Continue(())
    });
    here.assert_whole(&folder.expect("the rest"));
    assert_eq!(ranges(&here.server), ["bytes=400000-"]);
    assert_eq!(first, Some(400_000), "what is here is counted");
}

#[test]
fn a_server_without_ranges_starts_again() {
    let here = Here::new(State { cut: Some((400_000, 1)), no_ranges: true, ..model() });
    here.assert_whole(&here.fetch().expect("a model"));
}

#[test]
fn a_server_that_brings_nothing_is_given_up() {
    let here = Here::new(State { cut: Some((0, 1000)), ..model() });
    let error = here.fetch().expect_err("nothing comes");
    assert_says(&error, &["broke off"]);
    let asked = here.server.take_seen().iter().filter(|seen| seen.path.ends_with("model_index.json")).count();
    assert_eq!(asked, 3, "three tries, as configured");
}

#[test]
fn a_busy_server_is_asked_again() {
    let here = Here::new(State { busy: 2, ..model() });
    here.assert_whole(&here.fetch().expect("a model"));
}

#[test]
fn a_wrong_hash_is_refused_and_the_file_removed() {
    let here = Here::new(State { damaged: true, ..model() });
    let error = here.fetch().expect_err("damaged weights");
    assert_says(&error, &[WEIGHTS, "SHA-256", &sha256(&bytes(900_000, 1)), "try:"]);
    assert!(here.parts().is_empty(), "the damaged file is gone");
    assert_eq!(here.hub().cached(REPO, "main", WEIGHTS), None);
    here.server.state().damaged = false;
    here.assert_whole(&here.fetch().expect("a sound model"));
}

#[test]
fn a_damaged_part_is_noticed() {
    let here = Here::new(model());
    fs::create_dir_all(here.repo().join("blobs")).expect("a folder");
    let part = here.repo().join("blobs").join(sha256(&bytes(900_000, 1))).with_extension("part");
    fs::write(&part, bytes(400_000, 99)).expect("a part");
    assert_says(&here.fetch().expect_err("someone else's beginning"), &["SHA-256"]);
    here.assert_whole(&here.fetch().expect("a sound model"));
    fs::remove_file(here.repo().join("blobs").join(sha256(&bytes(300_000, 2)))).expect("a blob");
    let part = here.repo().join("blobs").join(sha256(&bytes(300_000, 2))).with_extension("part");
    fs::write(part, bytes(300_001, 2)).expect("a part that is too long");
    here.assert_whole(&here.fetch().expect("a sound model"));
}

#[test]
fn a_content_longer_than_listed_is_refused() {
    let here = Here::new(State { longer: 1, ..model() });
    assert_says(&here.fetch().expect_err("one byte too many"), &["model_index.json", "longer", "2 bytes"]);
}

#[test]
fn gated_models_name_the_page_to_visit() {
    let page = format!("https://huggingface.co/{REPO}");
    for status in [401, 403] {
        let here = Here::new(State { refuse: Some((status, "GatedRepo")), ..model() });
        let error = here.fetch().expect_err("gated");
        assert_says(&error, &[REPO, "licence", &page, "HF_TOKEN"]);
        assert_eq!(here.server.take_seen().len(), 1, "a refusal is not asked for again");
    }
}

#[test]
fn refusals_are_told_apart() {
    for (status, code, words) in [
        (401, "RepoNotFound", ["no repository", "HF_TOKEN"]),
        (401, "", ["no repository", "token is not valid"]),
        (403, "", ["refuses", "token"]),
        (404, "RepoNotFound", ["no repository", "misspelt"]),
        (404, "RevisionNotFound", ["no revision", "`main`"]),
        (418, "", ["418", "so it is"]),
        (429, "", ["too many requests", "so it is"]),
    ] {
        let here = Here::new(State { refuse: Some((status, code)), ..model() });
        assert_says(&here.fetch().expect_err("a refusal"), &words);
    }
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let mut here = Here::new(State { token: Some("hf_secret"), ..model() });
    assert_says(&here.fetch().expect_err("without a token"), &["licence"]);
    here.config.token = Some("hf_secret".to_string());
    here.assert_whole(&here.fetch().expect("with a token"));
    let seen = here.server.take_seen();
    assert!(seen.iter().any(|seen| seen.cdn), "large files come from elsewhere");
    for seen in seen.iter().filter(|seen| seen.cdn) {
        assert_eq!(seen.header("authorization"), None);
    }
    assert!(!format!("{:?}", here.config).contains("hf_secret"), "nor into a log");
}

#[test]
fn offline_with_a_full_cache_asks_nobody() {
    let here = Here::new(model());
    let folder = here.fetch().expect("a model");
    here.server.take_seen();
    assert_eq!(fetch_offline(&here.offline(), ALL).expect("a full cache"), folder);
    let names: Vec<String> =
        here.offline().list(REPO, "main").expect("a list").into_iter().map(|file| file.name).collect();
    assert_eq!(names, ["model_index.json", WEIGHTS, MORE, INDEX]);
    assert!(here.server.take_seen().is_empty());
}

#[test]
fn offline_with_a_hole_names_it_and_the_command() {
    let here = Here::new(model());
    let folder = here.fetch().expect("a model");
    here.server.take_seen();
    let command = format!("talkie models pull {REPO}");

    // The link stays when the content goes.
    fs::remove_file(here.repo().join("blobs").join(sha256(&bytes(300_000, 2)))).expect("a blob");
    assert_says(
        &fetch_offline(&here.offline(), ALL).expect_err("a dangling link"),
        &[MORE, &command, "HF_HUB_OFFLINE"],
    );
    // With the link gone as well, the index still names the shard.
    fs::remove_file(folder.join(MORE)).expect("a link");
    let error = fetch_offline(&here.offline(), ALL).expect_err("a shard less");
    assert_says(&error, &[MORE, &command]);
    assert!(!message(&error).contains(WEIGHTS), "what is here is not missing");
    // A file that nothing points to is missing by its own name, or by its pattern.
    assert_says(&fetch_offline(&here.offline(), &["vae/*.safetensors"]).expect_err("no vae"), &["vae/*.safetensors"]);
    let states = here.offline().survey(REPO, "main", &["transformer/*"]).expect("a survey");
    let missing: Vec<&str> = states.iter().filter(|state| !state.whole).map(|state| state.name.as_str()).collect();
    assert_eq!(missing, [MORE]);
    assert!(here.server.take_seen().is_empty());

    let empty = tempfile::tempdir().expect("a folder");
    let config = HubConfig { cache: empty.path().to_path_buf(), offline: true, ..here.config.clone() };
    let error = fetch_offline(&Hub::new(config).expect("a hub"), ALL).expect_err("nothing at all");
    assert_says(&error, &["model_index.json", &command]);
}

#[test]
fn a_hub_out_of_reach_leaves_the_cache_usable() {
    let mut here = Here::new(model());
    let folder = here.fetch().expect("a model");
    // A port on which nobody listens.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    here.config.endpoint = format!("http://{closed}");
    let mut notes = Vec::new();
    let again = here.fetch_with(&mut |event| {
        if let Event::Note { message } = event {
            notes.push(message.clone());
        }
        ControlFlow::Continue(())
    });
    assert_eq!(again.expect("the cache"), folder);
    assert!(notes.iter().any(|note| note.contains("out of reach")), "{notes:?}");
    fs::remove_file(folder.join(MORE)).expect("a link");
    assert_says(&here.fetch().expect_err("a hole"), &["no answer", &closed.to_string(), "network"]);
}

#[test]
fn a_stop_in_the_middle_is_obeyed_and_resumed() {
    let here = Here::new(State { cut: Some((400_000, 1)), ..model() });
    // The server pauses by cutting: the first event with bytes of the shard is the one after the cut.
    let error = here
        .fetch_with(&mut |event| match event {
            Event::Note { .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
        .expect_err("a stop");
    assert_eq!(error.kind(), Kind::Stopped);
    assert_eq!(fs::metadata(&here.parts()[0]).expect("a part").len(), 400_000);
    here.assert_whole(&here.fetch().expect("the rest"));
    assert_eq!(ranges(&here.server), ["bytes=400000-"]);
}

#[test]
fn a_stop_is_obeyed_between_two_bytes() {
    let here = Here::new(State { files: vec![("big".into(), bytes(40_000_000, 3), true)], ..State::default() });
    let mut sink = |event: &Event| match event {
        Event::File { done: 1.., .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let error = here.hub().fetch(REPO, "main", &["big"], &mut Progress::new(&mut sink)).expect_err("a stop");
    assert_eq!(error.kind(), Kind::Stopped);
    let length = fs::metadata(&here.parts()[0]).expect("a part").len();
    assert!((1..40_000_000).contains(&length), "stopped at {length}");
    let folder = here.hub().fetch(REPO, "main", &["big"], &mut Progress::new(&mut |_| ControlFlow::Continue(())));
    assert!(fs::read(folder.expect("the rest").join("big")).expect("a file") == bytes(40_000_000, 3));
    assert_eq!(ranges(&here.server), [format!("bytes={length}-")]);
}

#[test]
fn a_silent_server_is_left_and_its_part_kept() {
    let mut here = Here::new(State { stall: Some(1000), ..model() });
    here.config.patience.silence = Duration::from_millis(300);
    here.config.patience.tries = 2;
    let start = Instant::now();
    let wanted =
        |hub: &Hub| hub.fetch(REPO, "main", &[WEIGHTS], &mut Progress::new(&mut |_| ControlFlow::Continue(())));
    let error = {
        // After 1000 bytes each time: a server that drips is given up only when it brings nothing.
        here.server.state().cut = None;
        here.server.state().stall = Some(0);
        wanted(&here.hub()).expect_err("a silent server")
    };
    assert_says(&error, &["broke off", WEIGHTS]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    here.server.state().stall = Some(500_000);
    let folder = wanted(&here.hub()).expect("two silences, and progress between them");
    assert!(fs::read(folder.join(WEIGHTS)).expect("a file") == bytes(900_000, 1));
}

#[test]
fn a_terse_list_is_completed_by_asking_for_each_file() {
    let here = Here::new(State { terse: true, ..model() });
    here.assert_whole(&here.fetch().expect("a model"));
    let heads = here.server.take_seen().iter().filter(|seen| seen.method == "HEAD").count();
    assert_eq!(heads, 4);
    let here = Here::new(State { terse: true, damaged: true, ..model() });
    assert_says(&here.fetch().expect_err("damaged weights"), &["SHA-256"]);
}

#[test]
fn a_file_that_the_repository_lacks_is_named() {
    let here = Here::new(model());
    let wanted = ["model_index.json", "vae/*"];
    let error = here.hub().fetch(REPO, "main", &wanted, &mut Progress::new(&mut |_| ControlFlow::Continue(())));
    assert_says(&error.expect_err("no vae"), &[REPO, "`vae/*`", "https://huggingface.co"]);
    assert!(!here.repo().join("blobs").exists(), "nothing is fetched in vain");
}

#[test]
fn a_disk_without_room_is_refused_with_both_figures() {
    let listing = format!(
        r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "big", "lfs": {{"sha256": "{}", "size": 9000000000000000000}}}},
            {{"rfilename": "big2", "lfs": {{"sha256": "{}", "size": 18000000000000000000}}}}]}}"#,
        sha256(b"1"),
        sha256(b"2")
    );
    let here = Here::new(State { listing: Some(listing), ..State::default() });
    for wanted in [&["big"][..], &["big", "big2"]] {
        let fetched = here.hub().fetch(REPO, "main", wanted, &mut Progress::new(&mut |_| ControlFlow::Continue(())));
        assert_says(&fetched.expect_err("no such disk"), &["GB are to be fetched", "B are free", "HF_HOME"]);
    }
}

#[test]
fn a_new_commit_replaces_the_old_one_only_when_whole() {
    let here = Here::new(model());
    let old = here.fetch().expect("a model");
    let newer = "f".repeat(40);
    let listing = format!(
        r#"{{"sha": "{newer}", "siblings": [{{"rfilename": "model_index.json", "blobId": "{}", "size": 2}},
            {{"rfilename": "transformer/new", "lfs": {{"sha256": "{}", "size": 5}}}}]}}"#,
        &sha256(b"{}")[..40],
        sha256(b"other")
    );
    here.server.state().listing = Some(listing);
    assert_says(&here.fetch().expect_err("the server knows no such commit"), &["transformer/new"]);
    assert_eq!(fetch_offline(&here.offline(), ALL).expect("the old one"), old);
    assert!(here.repo().join("snapshots").join(&newer).join("model_index.json").exists(), "shared without a request");
}

#[test]
fn hostile_answers_are_refused() {
    let sibling = |name: &str| format!(r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "{name}", "size": 1}}]}}"#);
    let lfs = format!(
        r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "a", "lfs": {{"sha256": "../../a", "size": 1}}}}]}}"#
    );
    let blob = format!(r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "a", "blobId": "../a", "size": 1}}]}}"#);
    let mut hostile = vec![
        "<html>Please log in</html>".to_string(),
        String::new(),
        "[".repeat(100_000),
        r#"{"sha": "../../..", "siblings": []}"#.to_string(),
        r#"{"sha": 7, "siblings": []}"#.to_string(),
        r#"{"siblings": []}"#.to_string(),
        sibling("a").replace(": 1", ": -1"),
        format!("{}{}", sibling("a"), " ".repeat(17 << 20)),
        lfs,
        blob,
    ];
    for name in ["../escape", "/etc/passwd", "a/../../b", "a//b", "", ".", r"..\\b", "C:b", r"a\u0000b", "a/./b"] {
        hostile.push(sibling(name));
    }
    let here = Here::new(model());
    for listing in hostile {
        let start: String = listing.chars().take(120).collect();
        here.server.state().listing = Some(listing);
        let error = here.fetch().expect_err(&start);
        assert_says(&error, &[REPO]);
        assert!(message(&error).len() < 2000, "{start}");
    }
    assert!(fs::read_dir(here.cache.path()).expect("a folder").next().is_none(), "nothing was written");
}

#[test]
fn names_that_cannot_be_are_refused_before_anything() {
    let here = Here::new(model());
    for repo in ["model", "a/b/c", "../b", "a/..", "a b/c", "a/b?c", "/b", "a/", "a/b--c", "-a/b", "a/b\n", "ä/b"] {
        let error = here.hub().list(repo, "main").expect_err(repo);
        assert_eq!(error.kind(), Kind::Usage);
        assert_says(&error, &["org/name"]);
    }
    for revision in ["", "../x", "a//b", "a b", "-x", "a?b", "a\\b", "/a", "a#b"] {
        assert_says(&here.hub().list(REPO, revision).expect_err(revision), &["revision"]);
    }
    assert_eq!(here.hub().cached(REPO, "main", "../../../etc/passwd"), None);
    assert!(here.server.take_seen().is_empty());
}

#[test]
fn the_environment_is_read_as_python_reads_it() {
    let home = tempfile::tempdir().expect("a folder");
    let read = |vars: &[(&str, &str)]| {
        let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
        let var = move |name: &str| vars.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        HubConfig::from_vars(&var, Some(home.path().to_path_buf())).expect("a configuration")
    };
    let default = read(&[]);
    assert_eq!(default.cache, home.path().join(".cache/huggingface/hub"));
    assert_eq!(default.endpoint, "https://huggingface.co");
    assert_eq!((default.token, default.offline), (None, false));
    assert_eq!(read(&[("HF_HOME", "/hf"), ("XDG_CACHE_HOME", "/xdg")]).cache, Path::new("/hf/hub"));
    assert_eq!(read(&[("XDG_CACHE_HOME", "/xdg")]).cache, Path::new("/xdg/huggingface/hub"));
    assert_eq!(read(&[("HF_HUB_CACHE", "~/c"), ("HF_HOME", "/hf")]).cache, home.path().join("c"));
    assert_eq!(read(&[("HF_ENDPOINT", "https://mirror.example/")]).endpoint, "https://mirror.example");
    for (value, offline) in [("1", true), ("true", true), ("YES", true), ("On", true), ("0", false), ("", false)] {
        assert_eq!(read(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
    }
    fs::create_dir_all(home.path().join("hf")).expect("a folder");
    fs::write(home.path().join("hf/token"), "hf_file\n").expect("a token");
    assert_eq!(read(&[("HF_HOME", "~/hf")]).token.as_deref(), Some("hf_file"));
    assert_eq!(read(&[("HF_HOME", "~/hf"), ("HF_TOKEN", " hf_own ")]).token.as_deref(), Some("hf_own"));
    assert!(HubConfig::from_vars(&|_| None, None).is_err());

    let with = |token: &str, endpoint: &str| HubConfig {
        token: Some(token.to_string()),
        endpoint: endpoint.to_string(),
        ..read(&[])
    };
    let error = Hub::new(with("hf_bad\ntoken", "https://huggingface.co")).err().expect("a bad token");
    assert_says(&error, &["HF_TOKEN"]);
    assert!(!message(&error).contains("hf_bad"));
    assert_says(&Hub::new(with("t", "huggingface.co")).err().expect("no address"), &["HF_ENDPOINT"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the server's JSON says, there is an answer and nothing outside the cache.
    #[test]
    fn any_listing_is_survived(text in r#"\{"sha": "[0-9a-f]{38,42}", "siblings": \[\{"rfilename": ".{0,20}", "size": -?[0-9]{1,22}\}\]\}"#) {
        let here = Here::new(State { listing: Some(text), ..State::default() });
        let _ = here.hub().list(REPO, "main");
    }
}
