//! What is refused, by the hub or by us, and in which words; and what the environment says.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use talkie::error::Kind;
use talkie::hub::{Hub, HubConfig};

use crate::support::cases;

use super::here::{Here, MORE, assert_says, bytes, fetch, model};
use super::server::{COMMIT, REPO, State, sha256};

#[test]
fn a_content_longer_than_listed_is_refused() {
    let here = Here::new(State { longer: 1, ..model() });
    assert_says(&here.fetch().expect_err("one byte too many"), &["model_index.json", "longer", "2 bytes"]);
    // On a resumed file it shows before the first byte: the range is of another whole.
    let here = Here::new(State { longer: 1, ..model() });
    let part = here.repo().join("blobs").join(sha256(&bytes(300_000, 2))).with_extension("part");
    fs::create_dir_all(here.repo().join("blobs")).expect("a folder");
    fs::write(part, &bytes(300_000, 2)[..1000]).expect("a part");
    let error = fetch(&here.hub(), &[MORE]).expect_err("another whole");
    assert_says(&error, &["from byte 1000", "bytes 1000-300000/300001"]);
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
fn a_file_that_the_repository_lacks_is_named() {
    let here = Here::new(model());
    let error = fetch(&here.hub(), &["model_index.json", "vae/*"]).expect_err("no vae");
    assert_says(&error, &[REPO, "`vae/*`", "https://huggingface.co"]);
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
        assert_says(
            &fetch(&here.hub(), wanted).expect_err("no such disk"),
            &["GB are to be fetched", "B are free", "HF_HOME"],
        );
    }
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
        let words = if start.ends_with(' ') { "longer than any" } else { "is not the hub's" };
        assert_says(&error, &[REPO, words]);
        assert!(error.report().len() < 2000, "{start}");
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
    assert!(!error.report().contains("hf_bad"));
    assert_says(&Hub::new(with("t", "huggingface.co")).err().expect("not an allowed address"), &["HF_ENDPOINT"]);
}

/// Names of files as a hub may list them: of pieces that lead elsewhere, or of anything.
fn names_of_files() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z]{1,3}",
        2 => Just("..".to_owned()),
        1 => prop_oneof![Just("."), Just(""), Just("/tmp"), Just("C:"), Just(r"..\.."), Just("%2e%2e")].prop_map(str::to_owned),
    ];
    prop_oneof![3 => prop::collection::vec(piece, 1..6).prop_map(|pieces| pieces.join("/")), 1 => ".{0,20}"]
}

/// Every file and link below a folder, by its path from there. Links are not followed.
fn everything(folder: &Path, below: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let path = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("a type").is_dir() {
            everything(&entry.path(), &format!("{path}/"), found);
        } else {
            found.push(path);
        }
    }
}

proptest! {
    #![proptest_config(cases(96))]

    /// Whatever name, size and commit the server lists, and though it would serve it all: the file itself or a refusal, and
    /// nothing outside the repository's own folders of the cache.
    #[test]
    fn any_listing_is_survived(
        name in names_of_files(),
        sha in prop_oneof![3 => Just(COMMIT.to_owned()), 1 => "[0-9a-f]{38,42}", 1 => "[./a-f]{0,8}"],
        size in prop_oneof![3 => Just("1".to_owned()), 1 => "-?[0-9]{1,22}"],
    ) {
        let outer = tempfile::tempdir().expect("a folder");
        let listing = format!(
            r#"{{"sha": {}, "siblings": [{{"rfilename": {}, "size": {size}}}]}}"#,
            serde_json::Value::from(sha.clone()),
            serde_json::Value::from(name.clone())
        );
        let files = vec![("a".to_owned(), vec![7], false)];
        let mut here = Here::new(State { files, any_name: Some(0), listing: Some(listing), ..State::default() });
        here.config.cache = outer.path().join("a/b/c/d/e/f/cache");
        match fetch(&here.hub(), &[&name]) {
            Ok(folder) => prop_assert_eq!(fs::read(folder.join(&name)).expect("what was fetched"), [7]),
            Err(error) => {
                let report = error.report();
                prop_assert!(report.contains("\n  try: ") && report.len() < 2000, "{}", report);
            }
        }
        let (repo, mut found) = ("a/b/c/d/e/f/cache/models--org--film-model", Vec::new());
        everything(outer.path(), "", &mut found);
        let own = [format!("{repo}/blobs/"), format!("{repo}/refs/"), format!("{repo}/snapshots/{sha}/")];
        prop_assert!(found.iter().all(|path| own.iter().any(|own| path.starts_with(own))), "{:?}", found);
    }
}
