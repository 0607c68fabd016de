//! `kill -9`, anywhere.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader};
use std::time::Duration;

use super::{bench, next_step, telling};
use crate::support::command::{Bench, Done, files, names};
use crate::support::fixture;

/// What a kill waits for: so many lines of events, and then so long.
#[derive(Debug, Clone, Copy)]
struct Moment {
    lines: usize,
    more: Duration,
}

/// A film to be made, and what comes of it when nobody disturbs.
struct Case {
    model: &'static str,
    arguments: Vec<String>,
    events: Vec<String>,
    film: Files,
}

type Files = BTreeMap<String, Vec<u8>>;

impl Case {
    fn new(model: &'static str, arguments: &[&str]) -> Self {
        // The fixture itself and not the bench's copy: the recipe names the folder, and the bytes are to be the same.
        let folder = fixture(model).to_string_lossy().into_owned();
        let arguments = telling(&[&["-m", &folder], arguments].concat()).into_iter().map(str::to_owned).collect();
        let mut case = Self { model, arguments, events: Vec::new(), film: Files::new() };
        let bench = bench(model);
        let done = bench.run(&case.arguments());
        done.worked(&[]);
        (case.events, case.film) = (done.stdout.lines().map(str::to_owned).collect(), written(&bench));
        case
    }

    fn arguments(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }

    /// The moment of the first event that has all of `words`.
    fn at(&self, words: &[&str]) -> Moment {
        let has = |event: &String| words.iter().all(|word| event.contains(word));
        let before = self.events.iter().position(has);
        let before = before.unwrap_or_else(|| panic!("no {words:?} in {:?}", self.events));
        Moment { lines: before + 1, more: Duration::ZERO }
    }

    /// Begins the film and kills it at a moment. Whether it was still at work.
    fn kill(&self, bench: &Bench, moment: Moment) -> bool {
        let mut child = bench.command(&self.arguments()).spawn().expect("the command");
        let events = BufReader::new(child.stdout.take().expect("a pipe"));
        assert_eq!(events.lines().take(moment.lines).count(), moment.lines, "{moment:?}");
        std::thread::sleep(moment.more);
        child.kill().expect("a kill");
        !child.wait().expect("an end").success()
    }

    /// Kills a run at a moment, resumes it, and compares. How far it had come, in a word.
    fn kill_and_resume(&self, moment: Moment) -> &'static str {
        let bench = bench(self.model);
        let killed = self.kill(&bench, moment);
        let at = format!("{}, {moment:?} of {} events", self.model, self.events.len());
        let (step, before) = (next_step(&bench), written(&bench));
        assert!(before.is_empty() || before == self.film, "{at}: half-written under the film's name");
        assert!(killed || !before.is_empty(), "{at}: it ended without a film");

        let done = bench.run(&["resume"]);
        if done.code != Some(0) {
            // Killed before its plan was written, or when the film was whole.
            assert_eq!(done.code, Some(1), "{at}: {done}");
            assert!(done.stderr.starts_with("error: there is no unfinished run\n"), "{at}: {done}");
            return if before.is_empty() { "nowhere" } else { "whole" };
        }
        assert!(done.stderr.contains("going on with the run"), "{at}: {done}");
        self.is_made(&bench, &done, &at);
        match step {
            Some(2..) => "midway",
            _ => "begun",
        }
    }

    /// The film is there, and nothing else.
    fn is_made(&self, bench: &Bench, done: &Done, at: &str) {
        let film = written(bench);
        assert_eq!(film.keys().collect::<Vec<_>>(), self.film.keys().collect::<Vec<_>>(), "{at}: {done}");
        assert!(film == self.film, "{at}: another film");
        let left = bench.left();
        assert!(left.len() == 1 && !left[0].starts_with('.'), "{at}: {left:?}");
        assert_eq!(bench.runs(), [""; 0], "{at}: the run's folder is still there");
    }
}

/// What is under the film's name: the files of a folder of frames, or the one file.
fn written(bench: &Bench) -> Files {
    let visible = bench.left().into_iter().filter(|name| !name.starts_with('.'));
    let paths = visible.map(|name| bench.path("out").join(name));
    let of = |path: std::path::PathBuf| match path.is_dir() {
        true => files(&path),
        false => [(String::new(), std::fs::read(&path).expect("a film"))].into(),
    };
    paths.flat_map(of).collect()
}

/// Kills at random moments. The generator begins with the time, and a failure says which moment it was.
fn at_random(model: &'static str, arguments: &[&str]) {
    const KILLS: usize = 5;
    let case = Case::new(model, arguments);
    let mut random = generator();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for _ in 0..KILLS {
        let lines = random() as usize % (case.events.len() + 1);
        let more = Duration::from_micros(random() % 10_000);
        *places.entry(case.kill_and_resume(Moment { lines, more })).or_default() += 1;
    }
    println!("{model}: {places:?}");
}

/// SplitMix64.
fn generator() -> impl FnMut() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let mut state = now.as_nanos() as u64;
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 11
    }
}

#[test]
fn at_random_with_unipc() {
    at_random("wan21-t2v", &["--steps", "40", "--frames", "9"]);
}

#[test]
fn at_random_across_the_switch_of_experts() {
    at_random("wan22-a14b", &["--steps", "40", "--frames", "9"]);
}

#[test]
fn at_random_with_a_picture_and_euler() {
    at_random("wan22-ti2v-5b", &["--image", "picture.png", "--sampler", "euler", "--steps", "40", "--frames", "9"]);
}

#[test]
fn at_random_with_a_picture_and_dpm() {
    at_random("wan22-i2v-a14b", &["--image", "picture.png", "--sampler", "dpm++", "--steps", "40", "--frames", "9"]);
}

/// Every kind of guidance, a picture, and sound.
#[test]
fn at_random_with_sound() {
    let film = ["--image", "picture.png", "--steps", "20", "--size", "64x64", "--frames", "17", "--set", "image_crf=0"];
    at_random("ltx23", &film);
}

#[test]
fn at_random_in_two_stages() {
    let film =
        ["--preset", "distilled", "--image", "picture.png", "--steps", "8", "--size", "128x128", "--frames", "17"];
    at_random("ltx2", &film);
}

#[test]
fn in_the_middle_of_the_steps() {
    for (model, sampler) in [("wan21-t2v", "unipc"), ("wan21-t2v", "dpm++"), ("wan22-a14b", "euler")] {
        let case = Case::new(model, &["--steps", "60", "--sampler", sampler]);
        // The second expert is at work by then, and the state is of a later step than the first.
        let moment = case.at(&["denoise", "\"done\":45,"]);
        assert_eq!(case.kill_and_resume(moment), "midway", "{sampler}");
    }
}

#[test]
fn while_decoding_and_while_the_film_gets_its_name() {
    let outputs: &[&str] = if cfg!(feature = "ffmpeg") { &["out/film.mp4", "out/film"] } else { &["out/film"] };
    for output in outputs {
        let case = Case::new("wan21-t2v", &["--steps", "2", "--frames", "33", "-o", output]);
        let decoded = |frames: &str| case.at(&["decode", "advance", &format!("\"done\":{frames},")]);
        case.kill_and_resume(decoded("21"));
        // What is held back goes into the file, the file gets its name, the run's folder goes.
        for more in [0, 3, 6] {
            case.kill_and_resume(Moment { more: Duration::from_millis(more), ..decoded("33") });
        }
    }
}

#[test]
fn what_a_kill_leaves_of_the_film_is_swept() {
    let output = if cfg!(feature = "ffmpeg") { "out/film.mp4" } else { "out/film" };
    let case = Case::new("wan21-t2v", &["--steps", "2", "--frames", "33", "-o", output]);
    let bench = bench("wan21-t2v");
    assert!(case.kill(&bench, case.at(&["decode", "advance", "\"done\":5,"])));
    let left = bench.left();
    assert!(left.len() == 1 && left[0].starts_with(".film") && left[0].contains(".part-"), "{left:?}");
    // Not ours, though they look like it; and a part of another film.
    let foreign = [".film.mp4.part-", ".film.mp4.part-1-2.txt", ".other.mp4.part-1-0"];
    foreign.iter().for_each(|name| std::fs::write(bench.path("out").join(name), "mine").expect("a file"));
    bench.run(&["resume"]).worked(&[]);
    let mut expected: Vec<&str> = foreign.to_vec();
    expected.push(output.strip_prefix("out/").expect("a name"));
    expected.sort_unstable();
    assert_eq!(names(&bench.path("out")), expected);
}
