//! The hub, against a server on loopback that speaks its protocol: downloads, and what becomes of broken ones.

mod here;
mod refusals;
mod server;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use talkie::error::Kind;
use talkie::hub::{Hub, HubConfig};
use talkie::progress::{Event, Progress, Stage};

use here::{ALL, Here, INDEX, MORE, WEIGHTS, assert_says, bytes, fetch, model, ranges};
use server::{COMMIT, REPO, State, sha256};

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

#[test]
fn a_broken_download_is_resumed_by_the_next_call() {
    let mut here = Here::new(State { cut: Some((400_000, 1)), ..model() });
    here.config.patience.tries = 1;
    let error = here.fetch().expect_err("one try, and a cut");
    assert_says(&error, &["broke off", WEIGHTS, "the same command resumes it"]);
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
fn offline_with_a_full_cache_asks_nobody() {
    let here = Here::new(model());
    let folder = here.fetch().expect("a model");
    here.server.take_seen();
    assert_eq!(fetch(&here.offline(), ALL).expect("a full cache"), folder);
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
    assert_says(&fetch(&here.offline(), ALL).expect_err("a dangling link"), &[MORE, &command, "HF_HUB_OFFLINE"]);
    // With the link gone as well, the index still names the shard.
    fs::remove_file(folder.join(MORE)).expect("a link");
    let error = fetch(&here.offline(), ALL).expect_err("a shard less");
    assert_says(&error, &[MORE, &command]);
    assert!(!error.report().contains(WEIGHTS), "what is here is not missing");
    // A file that nothing points to is missing by its own name, or by its pattern.
    assert_says(&fetch(&here.offline(), &["vae/*.safetensors"]).expect_err("no vae"), &["vae/*.safetensors"]);
    let states = here.offline().survey(REPO, "main", &["transformer/*"]).expect("a survey");
    let missing: Vec<&str> = states.iter().filter(|state| !state.whole).map(|state| state.name.as_str()).collect();
    assert_eq!(missing, [MORE]);
    assert!(here.server.take_seen().is_empty());

    let empty = tempfile::tempdir().expect("a folder");
    let config = HubConfig { cache: empty.path().to_path_buf(), offline: true, ..here.config.clone() };
    let error = fetch(&Hub::new(config).expect("a hub"), ALL).expect_err("nothing at all");
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
    assert!(notes.iter().any(|note| note.contains("using the files that are here")), "{notes:?}");
    fs::remove_file(folder.join(MORE)).expect("a link");
    assert_says(&here.fetch().expect_err("a hole"), &["no answer", &closed.to_string(), "network"]);
}

#[test]
fn a_stop_in_the_middle_is_obeyed_and_resumed() {
    let here = Here::new(State { cut: Some((400_000, 1)), ..model() });
    // The note is about the cut, after 400,000 bytes.
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
    let folder = fetch(&here.hub(), &["big"]);
    assert!(fs::read(folder.expect("the rest").join("big")).expect("a file") == bytes(40_000_000, 3));
    assert_eq!(ranges(&here.server), [format!("bytes={length}-")]);
}

#[test]
fn two_at_once_fetch_everything_once() {
    let here = Here::new(model());
    let folders = std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..4).map(|_| scope.spawn(|| here.fetch())).collect();
        fetches.into_iter().map(|fetch| fetch.join().expect("no panic")).collect::<Vec<_>>()
    });
    for folder in folders {
        here.assert_whole(&folder.expect("a model"));
    }
    assert_eq!(here.server.take_seen().iter().filter(|seen| seen.cdn).count(), 2, "each large file once");
}

#[test]
fn a_silent_server_is_left_and_its_part_kept() {
    let mut here = Here::new(State { stall: Some(0), ..model() });
    here.config.patience.silence = Duration::from_millis(300);
    here.config.patience.tries = 2;
    let start = Instant::now();
    assert_says(&fetch(&here.hub(), &[WEIGHTS]).expect_err("a silent server"), &["broke off", WEIGHTS]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    here.server.state().stall = Some(500_000);
    let folder = fetch(&here.hub(), &[WEIGHTS]).expect("a silence, with progress before and after it");
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
    assert_eq!(fetch(&here.offline(), ALL).expect("the old one"), old);
    assert!(here.repo().join("snapshots").join(&newer).join("model_index.json").exists(), "shared without a request");
}
