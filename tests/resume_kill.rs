//! A run that cannot be lost: killed at a random moment, resumed, and the same film in the end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::fixture;

/// Kills, each at another moment of the run.
const KILLS: usize = 20;

fn talkie(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_talkie"));
    command.env("TALKIE_HOME", home).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn generate(home: &Path, frames: &Path) -> Command {
    let mut command = talkie(home);
    command.args(["generate", "a red fox", "-m"]).arg(fixture("wan21-t2v")).arg("-o").arg(frames);
    command.args(["--size", "64x48", "--frames", "17", "--steps", "40", "--seed", "7"]);
    command
}

/// The frames of a film, by name.
fn frames(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut frames: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| name.starts_with("frame-"))
        .collect();
    frames.sort();
    frames
}

#[test]
fn a_killed_run_ends_in_the_same_film() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = scratch.path().join("whole/");
    let start = Instant::now();
    assert!(generate(&scratch.path().join("home"), &whole).status().unwrap().success());
    let length = start.elapsed();
    let expected = frames(&whole);
    assert_eq!(expected.len(), 17);

    let (mut interrupted, mut resumed) = (0, 0);
    for kill in 0..KILLS {
        let (home, out) = (scratch.path().join(format!("home-{kill}")), scratch.path().join(format!("film-{kill}/")));
        let mut child = generate(&home, &out).spawn().unwrap();
        // Spread over the run, with a step that is no divisor of anything.
        std::thread::sleep(length.mul_f64((kill as f64 * 0.618).fract()));
        child.kill().unwrap();
        let ended = child.wait().unwrap().success();
        interrupted += usize::from(!ended);
        if !ended {
            assert!(!out.exists(), "kill {kill}: something half-written is under the film's name");
            let output = talkie(&home).arg("resume").stderr(Stdio::piped()).output().unwrap();
            if !output.status.success() {
                let words = String::from_utf8_lossy(&output.stderr);
                assert!(
                    words.contains("no unfinished run") || words.contains("before its plan"),
                    "kill {kill}: {words}"
                );
                continue;
            }
            resumed += 1;
        }
        assert!(frames(&out) == expected, "kill {kill}: another film");
        let left = std::fs::read_dir(home.join("runs")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "kill {kill}: the run's folder is still there");
    }
    assert!(
        interrupted >= KILLS / 2 && resumed >= KILLS / 3,
        "only {interrupted} runs were killed and {resumed} resumed"
    );
}
