//! The command as a person and as a program see it: words, results, exit codes.

use std::fs;

use serde_json::Value;
use talkie::media::read_image;

use crate::support::command::{Bench, Done, files};
use crate::support::steps;

fn lines(done: &Done) -> Vec<&str> {
    done.worked(&[]);
    done.stdout.lines().collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|cause| panic!("{cause}: {text}"))
}

/// The line that begins with a word.
#[track_caller]
fn line<'a>(lines: &[&'a str], first: &str) -> &'a str {
    let found = lines.iter().find(|line| line.split_whitespace().next() == Some(first));
    found.unwrap_or_else(|| panic!("no line `{first}` in {lines:#?}"))
}

#[test]
fn every_command_says_what_it_takes() {
    let bench = Bench::new("wan21-t2v");
    let commands: [(&[&str], &[&str]); 11] = [
        (&[], &["generate", "decode", "resume", "models", "quantize", "inspect", "bench", "doctor"]),
        (
            &["generate"],
            &[
                "[PROMPT]",
                "--model",
                "default: toybox",
                "--contact-sheet",
                "--seed",
                "--steps",
                "--set",
                "--plan",
                "--json",
                "--preview",
                "832x480",
            ],
        ),
        (&["decode"], &["<LATENTS>", "--model", "--output", "tile=256"]),
        (&["resume"], &["[RUN]", "latest"]),
        (&["models"], &["list", "show", "pull"]),
        (&["models", "show"], &["<NAME>"]),
        (&["models", "pull"], &["<NAME>"]),
        (&["quantize"], &["<MODEL>", "--to", "q4_k", "--output"]),
        (&["inspect"], &["<FILM>", "--json"]),
        (&["bench"], &["[PROMPT]", "--model", "--repeat", "--json"]),
        (&["doctor"], &["--json"]),
    ];
    for (command, words) in commands {
        let done = bench.run(&[command, &["--help"]].concat());
        let lines = lines(&done);
        assert!(words.iter().all(|word| done.stdout.contains(word)), "{words:?}: {done}");
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "a line is too long: {done}");
    }
    assert_eq!(lines(&bench.run(&["--version"])), [concat!("talkie ", env!("CARGO_PKG_VERSION"))]);
    let nothing = bench.run(&[]);
    assert!(nothing.code == Some(2) && nothing.stderr.contains("Usage: talkie <COMMAND>"), "{nothing}");
}

#[test]
fn a_plan_is_a_page() {
    let bench = Bench::new("wan22-a14b");
    let prompt = "a red\n fox  walks";
    let arguments = [prompt, "--plan", "--steps", "10", "--set", "guidance_2=2.5", "--size", "50x32", "--frames", "9"];
    let done = bench.generate(&arguments);
    let lines = lines(&done);
    assert_eq!(line(&lines, "prompt"), "prompt    a red fox walks");
    assert_eq!(line(&lines, "film"), "film      48x32, 9 frames at 16 fps: 0.56 s");
    assert_eq!(line(&lines, "latents"), "latents   16 channels, 3x4x6: 18 tokens");
    assert_eq!(line(&lines, "seed"), "seed      1");
    assert!(line(&lines, "sampler").starts_with("sampler   unipc, 10 steps, on "), "{done}");
    assert_eq!(line(&lines, "experts"), "experts   the first for 4 steps, the second for 6");
    assert_eq!(line(&lines, "sigmas").split_whitespace().count(), 1 + 11);
    assert_eq!(line(&lines, "timesteps").split_whitespace().count(), 1 + 10);
    assert_eq!(line(&lines, "guidance_2"), "  guidance_2 = 2.5");
    assert!(line(&lines, "files").ends_with(" here, 0 B to fetch"), "{done}");
    assert!(line(&lines, "memory").starts_with("memory    about "), "{done}");
    for stage in ["text", "denoise", "decode"] {
        assert!(lines.iter().any(|line| line.contains(&format!("  {stage:<8}  "))), "{stage}: {done}");
    }
    assert!(line(&lines, "note").contains("width 50 → 48"), "{done}");
    assert!(bench.runs().is_empty() && bench.left().is_empty(), "a plan writes nothing");
}

#[test]
fn a_plan_is_json() {
    let bench = Bench::new("wan21-t2v");
    let done = bench.generate(&["--plan", "--json", "--steps", "3", "--negative", "blurred"]);
    done.worked(&[]);
    let plan = json(&done.stdout);
    assert_eq!(plan["prompt"], "a red fox walks");
    assert_eq!(plan["negative"], "blurred");
    assert_eq!(plan["seed"], 1);
    assert_eq!(plan["shape"]["latents"], json("[1, 16, 2, 4, 4]"));
    assert_eq!(steps(&plan).len(), 3);
    assert_eq!(steps(&plan)[0]["timestep"], 999.0);
    assert_eq!(plan["parameters"]["flow_shift"], 3.0);
    assert_eq!(plan["replaces"], false);
    assert!(plan["request"]["output"].as_str().is_some_and(|output| output.ends_with("/out/film")));
    for file in plan["files"].as_array().expect("files") {
        assert!(file["bytes"].as_u64() > Some(0) && file["present"] == true, "{file}");
    }
    let stages = plan["stages"].as_array().expect("stages");
    assert!(stages.len() == 3 && stages.iter().all(|stage| stage["weights"].as_u64() > Some(0)), "{stages:?}");
}

#[test]
fn events_are_json_lines_that_end_with_the_film() {
    let bench = Bench::new("wan22-ti2v-5b");
    let done = bench.generate(&["--json", "--steps", "3"]);
    let events: Vec<Value> = lines(&done).into_iter().map(json).collect();
    assert!(done.stderr.is_empty(), "words: {done}");
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().expect("a name")).collect();
    assert_eq!(names[0], "run");
    let done = events.last().expect("events");
    assert_eq!((names[names.len() - 1], &done["frames"]), ("done", &json("5")));
    assert!(done["path"].as_str().is_some_and(|path| path.ends_with("/out/film")), "{done}");
    assert_eq!(names.iter().filter(|name| **name == "begin").count(), 3);
    assert_eq!(names.iter().filter(|name| **name == "end").count(), 3);

    let failed = bench.run(&["generate", "a fox", "-m", "model", "--size", "0x0", "--json"]);
    assert_eq!(failed.code, Some(2), "{failed}");
    let failed = bench.run(&["generate", "", "-m", "model", "--json"]);
    let event = json(&failed.stdout);
    assert_eq!(
        (failed.code, &event["event"], &event["message"]),
        (Some(2), &json("\"error\""), &json("\"the prompt is empty\""))
    );
}

#[test]
fn stdout_has_only_the_film_and_its_name_is_a_free_one() {
    let bench = Bench::new("wan21-t2v");
    let film = ["generate", "a fox", "-m", "model", "--size", "32x32", "--frames", "5", "--steps", "1"];
    let [first, second] = if cfg!(feature = "ffmpeg") { ["film.mp4", "film-2.mp4"] } else { ["film", "film-2"] };
    for name in [first, second] {
        let done = bench.run(&film);
        let path = fs::canonicalize(bench.path(name)).expect(name);
        let said: Vec<_> = lines(&done).into_iter().map(|line| fs::canonicalize(line).expect("a path")).collect();
        assert_eq!(said, [path], "{done}");
        for words in ["reading the prompt ", "denoising ", "decoding ", "5 frames, 0.31 s, "] {
            assert!(done.stderr.contains(words), "{words}: {done}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_film_to_the_byte() {
    let bench = Bench::new("wan21-t2v");
    let endings: &[&str] = if cfg!(feature = "ffmpeg") { &["", ".mp4", ".webm", ".gif"] } else { &[""] };
    let film = |name: &str, seed: &str| {
        bench.generate(&["-o", name, "--seed", seed, "--size", "64x48"]).worked(&[]);
        let path = bench.path(name);
        if path.is_dir() { files(&path) } else { [(String::new(), fs::read(path).expect("a film"))].into() }
    };
    for ending in endings {
        let [a, b, c] =
            [("a", "7"), ("b", "7"), ("c", "8")].map(|(name, seed)| film(&format!("out/{name}{ending}"), seed));
        assert!(a == b, "`{ending}`: another film of the same seed");
        assert!(a != c, "`{ending}`: the same film of another seed");
        if ending.is_empty() {
            assert!(a["frame-00000.png"] != c["frame-00000.png"], "the same frames of another seed");
        }
    }
    // Without a seed every film is another one.
    let seeds = [(); 2].map(|()| {
        let done = bench.run(&["generate", "a fox", "-m", "model", "--plan", "--json"]);
        json(&done.stdout)["seed"].as_u64().expect("a seed")
    });
    assert!(seeds[0] != seeds[1], "{seeds:?}");
}

#[test]
#[cfg(feature = "ffmpeg")]
fn the_ending_chooses_what_is_written() {
    let bench = Bench::new("wan21-t2v");
    let kinds: [(&str, usize, &[u8]); 4] =
        [(".mp4", 4, b"ftypisom"), (".mov", 4, b"ftypqt  "), (".webm", 0, b"\x1a\x45\xdf\xa3"), (".gif", 0, b"GIF89a")];
    for (ending, at, magic) in kinds {
        let name = format!("out/film{ending}");
        bench.generate(&["-o", &name]).worked(&[]);
        let bytes = fs::read(bench.path(&name)).expect("a film");
        assert!(bytes[at..].starts_with(magic), "{ending}: {:?}", &bytes[..16]);
    }
    bench.generate(&["-o", "out/frames/"]).worked(&[]);
    let names: Vec<String> = files(&bench.path("out/frames")).into_keys().collect();
    let frames: Vec<String> = (0..5).map(|n| format!("frame-{n:05}.png")).chain(["recipe.json".into()]).collect();
    assert_eq!(names, frames);
}

#[test]
fn the_recipe_comes_back_from_every_film() {
    let bench = Bench::new("wan22-a14b");
    let endings: &[&str] = if cfg!(feature = "ffmpeg") { &["", ".mp4", ".mov", ".webm", ".gif"] } else { &[""] };
    let mut first = None;
    for ending in endings {
        let name = format!("out/film{ending}");
        bench.generate(&["a “red” fox ✓", "-o", &name, "--negative", "grau"]).worked(&[]);
        let done = bench.run(&["inspect", &name, "--json"]);
        let recipe = json(&done.worked(&[]).stdout);
        assert_eq!(recipe["prompt"], "a “red” fox ✓");
        assert_eq!((&recipe["talkie"], &recipe["source"]), (&env!("CARGO_PKG_VERSION").into(), &"model".into()));
        assert_eq!((&recipe["seed"], &recipe["frames"], &recipe["steps"]), (&json("1"), &json("5"), &json("2")));
        assert_eq!(recipe["parameters"]["boundary_ratio"], 0.875);
        let files = recipe["files"].as_array().expect("files");
        assert_eq!(files.len(), 7, "{files:?}");
        assert!(files.iter().all(|file| file["sha256"].as_str().is_some_and(|hash| hash.len() == 64)), "{files:?}");
        assert_eq!(*first.get_or_insert_with(|| recipe.clone()), recipe, "{ending}");
        let words = bench.run(&["inspect", &name]);
        let lines = lines(&words);
        assert_eq!(line(&lines, "prompt"), "prompt      a “red” fox ✓");
        assert_eq!(line(&lines, "negative"), "negative    grau");
        assert!(line(&lines, "files").contains("sha256:"), "{words}");
    }
    bench.run(&["inspect", "model/model_index.json"]).refused(1, &["model_index.json"]);
}

#[test]
#[cfg(feature = "ffmpeg")]
fn the_recipe_survives_a_copy_by_ffmpeg() {
    let bench = Bench::new("wan21-t2v");
    for ending in ["mp4", "mov", "webm"] {
        let (film, copy) = (format!("out/film.{ending}"), format!("out/copy.{ending}"));
        bench.generate(&["-o", &film]).worked(&[]);
        let mut ffmpeg = std::process::Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-i"]).arg(bench.path(&film)).args(["-c", "copy"]).arg(bench.path(&copy));
        assert!(ffmpeg.status().expect("ffmpeg").success(), "{ending}");
        let recipe = |name: &str| json(&bench.run(&["inspect", name, "--json"]).worked(&[]).stdout);
        assert_eq!(recipe(&copy), recipe(&film), "{ending}");
    }
}

#[test]
fn a_preview_is_a_small_picture() {
    let bench = Bench::new("wan22-ti2v-5b");
    bench.generate(&["--preview", "preview.png", "--size", "96x64"]).worked(&[]);
    let picture = read_image(&bench.path("preview.png")).expect("a picture");
    // A latent pixel is a square of eight; here it stands for sixteen.
    assert_eq!((picture.width, picture.height), (48, 32));
    assert!(picture.data.iter().any(|&byte| byte != picture.data[0]), "one colour");
    bench.generate(&["--preview", "preview.jpg"]).refused(2, &["preview.jpg", "PNG"]);
}

#[test]
fn a_plan_with_sound_says_both_stages_and_what_is_spoken() {
    let bench = Bench::new("ltx23");
    let scene = "prompt = 'A pier at dawn'\nsounds = ['waves', 'a gull']\nmusic = 'a cello.'\n\
                 [[dialogue]]\nspeaker = 'an old man'\ntext = 'She \"came\" back.'\nvoice = 'softly'\n";
    std::fs::write(bench.path("scene.toml"), scene).expect("a prompt file");
    let arguments = ["--plan", "--preset", "distilled", "--size", "130x128", "--frames", "17", "-m", "model"];
    let done = bench.run(&[&["generate", "--prompt-file", "scene.toml"], &arguments[..]].concat());
    done.worked(&[]);
    let lines: Vec<&str> = done.stdout.lines().collect();
    let spoken = "A pier at dawn. An old man says softly: \"She 'came' back.\" The sounds heard are waves and a gull. \
                  The music is a cello.";
    assert!(line(&lines, "prompt").ends_with(spoken), "{done}");
    assert_eq!(line(&lines, "sound"), "sound     18 latents of 4 values: 48000 Hz, stereo");
    assert_eq!(line(&lines, "stages"), "stages    8 steps at 64x64, then 3 at the whole size");
    assert_eq!(line(&lines, "negative"), "negative  not used: no guidance");
    bench.run(&["generate", "--prompt-file", "scene.toml", "a fox", "-m", "model"]).refused(2, &["--prompt-file"]);
    std::fs::write(bench.path("scene.toml"), "promt = 'A pier'").expect("a prompt file");
    bench.run(&["generate", "--prompt-file", "scene.toml", "-m", "model"]).refused(2, &["scene.toml", "promt"]);
    // A plain prompt stays a plain prompt; a silent model says what it leaves out.
    let bench = Bench::new("wan21-t2v");
    std::fs::write(bench.path("scene.toml"), scene).expect("a prompt file");
    let silent = bench.run(&["generate", "--prompt-file", "scene.toml", "-m", "model", "--plan"]);
    silent.worked(&[]);
    assert!(silent.stdout.contains("prompt    A pier at dawn\n") && silent.stdout.contains("silent films"), "{silent}");
}

#[test]
fn models_are_listed_shown_and_fetched() {
    let bench = Bench::new("wan21-t2v");
    let list = bench.run(&["models"]);
    let names: Vec<&str> = lines(&list).iter().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    let wan = ["wan2.1-t2v-1.3b", "wan2.1-t2v-14b", "wan2.2-ti2v-5b", "fastwan2.2-ti2v-5b"];
    let pairs = ["wan2.2-t2v-a14b", "wan2.2-i2v-a14b"];
    let ltx = ["ltx-2", "ltx-2-distilled", "ltx-2.3", "ltx-2.3-distilled"];
    assert_eq!(names, [&["toybox"][..], &wan[..], &pairs[..], &ltx[..]].concat());
    assert!(lines(&list)[1].contains("the model in the box"), "{list}");
    let licensed = |line: &&&str| line.split_whitespace().any(|word| word == "LicenseRef-LTX-2-Community");
    assert_eq!(lines(&list).iter().filter(licensed).count(), ltx.len());
    assert_eq!(lines(&bench.run(&["models", "list"])), lines(&list));
    let shown = bench.run(&["models", "show", "wan2.2-t2v-a14b"]);
    let shown = lines(&shown);
    assert_eq!(line(&shown, "repository"), "repository    Wan-AI/Wan2.2-T2V-A14B-Diffusers (main)");
    assert!(line(&shown, "licence").contains("Apache-2.0"));
    assert!(line(&shown, "sampling").contains("40 steps, guidance 4 and 3, flow shift 12"));
    let shown = bench.run(&["models", "show", "ltx-2.3"]);
    let shown = lines(&shown);
    assert!(line(&shown, "licence").contains("https://") && line(&shown, "terms").contains("10 million"));
    assert_eq!(line(&shown, "connectors"), "connectors    3.17B parameters");
    assert!(line(&shown, "upsampler").contains(", from rootonchair/"), "{shown:?}");
    assert!(line(&shown, "sound").contains("guidance 7") && line(&shown, "sound").contains("block 28"), "{shown:?}");
    bench.run(&["models", "show", "wan2.2-t2v-a14"]).refused(2, &["wan2.2-t2v-a14b"]);
    bench.run(&["models", "pull", "wan2.2"]).refused(2, &["wan2.2"]);
    // Fetching needs the hub, and the bench is offline.
    let pull = bench.run(&["models", "pull", "wan2.1-t2v-1.3b"]);
    pull.refused(1, &["HF_HUB_OFFLINE forbids the network", "model_index.json"]);
}

#[test]
fn the_doctor_tells_what_works() {
    let bench = Bench::new("wan21-t2v");
    let words = bench.run(&["doctor"]);
    let lines = lines(&words);
    assert_eq!(line(&lines, "devices"), "devices      cpu: works");
    assert_eq!(line(&lines, "unfinished"), "unfinished   none");
    assert!(line(&lines, "runs").ends_with("/home/runs"), "{words}");
    let report = json(&bench.run(&["doctor", "--json"]).worked(&[]).stdout);
    let fields = [
        "talkie",
        "in the box",
        "built with",
        "without",
        "devices",
        "threads",
        "memory",
        "ffmpeg",
        "encoders",
        "weights",
        "runs",
    ];
    assert!(fields.iter().all(|field| !report[*field].is_null()), "{report}");
    if cfg!(feature = "ffmpeg") {
        assert!(words.stdout.contains(" for .mp4 .mov\n") && !words.stdout.contains(".."), "{words}");
    }
}
