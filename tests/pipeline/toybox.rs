//! The model in the box: found where nothing is named, known by its content, honest about its words, and shown on a sheet.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::SafeTensors;
use serde_json::{Value, json};
use talkie::media::{Rgb, Sheet, read_image};
use talkie::model::catalogue::{self, Entry, IN_THE_BOX};
use talkie::progress::quiet;
use talkie::{ModelChoice, Request};

use crate::support::command::{Bench, Done, copy, files, names};
use crate::support::{session, steps};

/// A prompt of the model's own world, and one of the large one.
const OWN: &str = "A small red ball bounces on a wooden floor.";
const OTHER: &str = "The old fox's ball sings opera, quietly";

/// The folder that comes with talkie.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(IN_THE_BOX)
}

fn entry() -> Entry {
    catalogue::find(IN_THE_BOX).expect("an entry")
}

/// A bench with a folder `model` that has the toybox's shape and its mark, but no words and no training.
fn bench() -> Bench {
    Bench::new("ltx2-toybox")
}

/// `talkie generate` of a short film, with as few steps as show anything.
fn film(bench: &Bench, prompt: &str, arguments: &[&str]) -> Done {
    let short = ["generate", prompt, "--seed", "7", "--frames", "5", "--steps", "2"];
    bench.run(&[&short[..], arguments].concat())
}

/// A plan as JSON, without what may differ between two of the same film.
fn plan(bench: &Bench, arguments: &[&str]) -> Value {
    let done = bench.run(&[&["generate", OWN, "--plan", "--json", "--seed", "7"], arguments].concat());
    let mut plan: Value = serde_json::from_str(&done.worked(&[]).stdout).expect("JSON");
    plan["choice"]["model"].take();
    plan["memory"].take();
    plan
}

fn notes(done: &Done) -> Vec<&str> {
    done.stderr.lines().filter(|line| line.starts_with("note: ") && line.contains("box")).collect()
}

/// Bytes of all files in a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { size(&path) } else { path.metadata().expect("a file").len() }).sum()
}

fn frames(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = files(folder);
    files.remove("recipe.json").expect("a recipe");
    files
}

#[test]
fn the_folder_is_what_the_catalogue_says() {
    let entry = entry();
    let count = |part: &str| -> u64 {
        let file = |name: &str| fs::read(folder().join(part).join(name));
        let bytes = file("diffusion_pytorch_model.safetensors").or_else(|_| file("model.safetensors")).expect(part);
        let file = SafeTensors::deserialize(&bytes).expect(part);
        file.tensors().iter().map(|(_, view)| view.shape().iter().product::<usize>() as u64).sum()
    };
    let parts = ["transformer", "text_encoder", "connectors", "vae", "audio_vae", "vocoder"];
    let [said, counted] = [parts.map(|part| entry.parameters.of(part)), parts.map(count)];
    assert_eq!(said, counted, "`parameters` in models/{IN_THE_BOX}.toml: {parts:?}");
    let plan = plan(&bench(), &[]);
    let geometry = &entry.geometry;
    assert_eq!(plan["notes"], json!([]), "its own size, frames and words need no note");
    assert_eq!(
        (&plan["shape"]["width"], &plan["shape"]["height"]),
        (&json!(geometry.sizes[0].0), &json!(geometry.sizes[0].1))
    );
    assert_eq!(plan["sound"]["heard"], json!({"rate": 16_000, "channels": 2}));
    assert!(names(&folder()).iter().any(|name| name == "README.md"), "a model card");
    assert!(size(&folder()) <= 24_000_000, "cloning stays cheap");
}

#[test]
fn it_knows_the_words_of_its_world() {
    let text = fs::read_to_string(folder().join("vocabulary.txt")).expect("its words");
    let words: Vec<&str> = text.lines().collect();
    for word in ["red", "ball", "block", "bounces", "wooden", "floor", "metal", "water", "rubber"] {
        assert!(words.contains(&word), "{word}");
    }
    for word in &words {
        assert!(!word.is_empty() && word.trim() == *word && word.to_lowercase() == *word, "{word:?}");
    }
    assert!(!words.contains(&"fox"));
}

#[test]
fn it_runs_where_nothing_is_named_and_by_name_and_from_any_folder() {
    let bench = bench();
    let elsewhere = folder();
    copy(&elsewhere, &bench.path("another name"));
    let ways: [(&[&str], &str); 4] = [
        (&[], "toybox"),
        (&["-m", "ToyBox"], "ToyBox"),
        (&["-m", elsewhere.to_str().expect("UTF-8")], "toybox"),
        (&["-m", "another name"], "another name"),
    ];
    let mut first = None;
    for (index, (model, source)) in ways.into_iter().enumerate() {
        let out = format!("out/{index}/");
        film(&bench, OWN, &[model, &["-o", &out]].concat()).worked(&[]);
        let frames = frames(&bench.path(&out));
        assert!(*first.get_or_insert_with(|| frames.clone()) == frames, "{model:?}: another film");
        let text = fs::read_to_string(bench.path(&out).join("recipe.json")).expect("a recipe");
        let recipe: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&recipe["source"], &recipe["model"]), (&json!(source), &json!(entry().title)), "{model:?}");
        for private in [env!("CARGO_MANIFEST_DIR"), bench.path("").to_str().expect("UTF-8")] {
            assert!(!text.contains(private.trim_end_matches('/')), "{model:?}: {text}");
        }
    }
    assert_eq!(first.expect("frames").len(), 5 + 1, "with sound");
}

#[test]
fn its_own_defaults_hold_however_it_is_named() {
    let bench = bench();
    let (own, sampling) = (plan(&bench, &[]), entry().sampling);
    assert_eq!(own["model"], json!(entry().title));
    assert_eq!((&own["shape"]["frames"], &own["fps"]), (&json!(33), &json!(16)));
    assert_eq!(own["phases"][0]["steps"].as_array().map(Vec::len), Some(sampling.steps as usize));
    assert_eq!(own["phases"][0]["steps"][0]["guidance"]["text"], json!(sampling.guidance));
    assert_eq!(
        (&own["negative"], own["phases"].as_array().map(Vec::len)),
        (&json!(""), Some(1)),
        "no words against, one stage"
    );
    let path = folder();
    for model in ["toybox", path.to_str().expect("UTF-8")] {
        assert_eq!(plan(&bench, &["-m", model]), own, "{model}");
    }
    // Weights and a scheduler of others, but the same mark: its defaults.
    let marked = plan(&bench, &["-m", "model"]);
    for field in ["model", "fps", "negative"] {
        assert_eq!(marked[field], own[field], "{field}");
    }
    let guidance = |plan: &Value| -> Vec<Value> { steps(plan).iter().map(|step| step["guidance"].clone()).collect() };
    assert_eq!(guidance(&marked), guidance(&own));
    // Without the mark it is any LTX-2.
    bench.json("model/model_index.json", |index| drop(index.as_object_mut().expect("an object").remove("_talkie")));
    let small = ["-m", "model", "--size", "64x64", "--frames", "5"];
    let plain = plan(&bench, &small);
    assert_eq!((&plain["model"], steps(&plain).len()), (&json!("model"), 40));
    // A mark of something that is not in the box means nothing.
    bench.json("model/model_index.json", |index| index["_talkie"] = json!("ltx-2-distilled"));
    assert_eq!(plan(&bench, &small), plain);
    // Where no model is named, a folder of that name is not meant.
    fs::create_dir(bench.path("toybox")).expect("a folder");
    assert_eq!(plan(&bench, &[]), own);
}

#[test]
fn what_it_was_not_trained_for_is_refused() {
    let bench = bench();
    fs::write(bench.path("first.png"), "a picture").expect("a file");
    film(&bench, OWN, &["--image", "first.png"]).refused(2, &["text-to-video", "--image"]);
    film(&bench, OWN, &["--preset", "distilled"]).refused(2, &["has no preset `distilled`"]);
    film(&bench, OWN, &["--set", "stages=2"]).refused(2, &["latent upsampler"]);
}

#[test]
fn words_of_another_world_get_a_note_and_a_film() {
    let bench = bench();
    assert_eq!(notes(film(&bench, OWN, &["-o", "out/own/"]).worked(&[])), [""; 0]);
    let done = film(&bench, OTHER, &["-o", "out/other/"]);
    let said = notes(done.worked(&[]));
    assert_eq!(said.len(), 1, "{done}");
    for word in ["`fox`", "`opera`", "balls and blocks", "`talkie models`"] {
        assert!(said[0].contains(word), "{word}: {done}");
    }
    for word in ["`ball`", "`the`", "`s`"] {
        assert!(!said[0].contains(word), "{word}: {done}");
    }
    // Programs read it as an event, and whoever plans sees it before.
    let event = film(&bench, OTHER, &["-o", "out/event/", "--json"]);
    let said = event.stdout.lines().filter(|line| line.contains("\"note\"") && line.contains("`fox`"));
    assert_eq!(said.count(), 1, "{event}");
    let planned = film(&bench, OTHER, &["--plan"]);
    assert!(planned.worked(&[]).stdout.contains("note      the model in the box was not taught"), "{planned}");
    // Latents are decoded without a word on what they came from.
    film(&bench, OTHER, &["-o", "out/kept/", "--save-latents", "latents"]).worked(&[]);
    let decoded = bench.run(&["decode", "latents", "-o", "out/decoded/"]);
    assert_eq!(notes(decoded.worked(&[])), [""; 0]);
    assert!(frames(&bench.path("out/decoded")) == frames(&bench.path("out/other")), "another film");
}

#[test]
fn the_note_names_a_few_words_once() {
    let bench = bench();
    let note = |prompt: &str| {
        let done = film(&bench, prompt, &["-m", "model", "--plan"]);
        let line = done.worked(&[]).stdout.lines().find(|line| line.contains("was not taught")).map(str::to_owned);
        line.map(|line| line.split_once("taught ").expect("words").1.split(':').next().expect("words").to_owned())
    };
    assert_eq!(note("a fox"), None, "no list of words, no note");
    let words = bench.path("model/vocabulary.txt");
    fs::write(&words, "").expect("a file");
    assert_eq!(note("a fox"), None, "an empty list is none");
    fs::write(&words, "red\nball\nsand-coloured\r\nbounces\n").expect("a file");
    for known in ["A RED ball bounces.", "the sand-coloured ball", "red, red; (ball)!", "it is on me", "…"] {
        assert_eq!(note(known), None, "{known}");
    }
    assert_eq!(note("the fox").as_deref(), Some("`fox`"));
    assert_eq!(note("Foxes and snow, FOXES").as_deref(), Some("`foxes` and `snow`"));
    assert_eq!(note("3 balls, einen Ball").as_deref(), Some("`3`, `balls` and `einen`"));
    assert_eq!(note("one two three four five six").as_deref(), Some("`one`, `two`, `three`, `four` and 2 more"));
    assert_eq!(note("红球").as_deref(), Some("`红球`"));
    fs::write(&words, [0xFF, 0xFE]).expect("a file");
    film(&bench, OWN, &["-m", "model"]).refused(1, &["vocabulary.txt"]);
    fs::write(&words, "red\n".repeat(1 << 19)).expect("a file");
    film(&bench, OWN, &["-m", "model"]).refused(1, &["vocabulary.txt", "megabyte"]);
}

/// The picture at a place of a sheet of 64x64 frames, shrunk again by taking every second pixel.
fn shown(sheet: &Rgb, place: usize, row_height: usize) -> Vec<u8> {
    let (left, top) = (4 + place % 8 * 132, 4 + place / 8 * row_height);
    let pixel = |x: usize, y: usize| {
        let at = 3 * ((top + 2 * y) * sheet.width as usize + left + 2 * x);
        sheet.data[at..at + 3].to_vec()
    };
    (0..64 * 64).flat_map(|at| pixel(at % 64, at / 64)).collect()
}

#[test]
fn a_contact_sheet_shows_the_film_and_its_sound() {
    let bench = bench();
    let arguments =
        ["-o", "out/film/", "--frames", "33", "--contact-sheet", "out/sheet.png", "--save-latents", "latents"];
    let whole = ["generate", OWN, "--seed", "7", "--steps", "2", "--keep"];
    let done = bench.run(&[&whole[..], &arguments].concat());
    done.worked(&["contact sheet: ", "/out/sheet.png"]);
    assert!(done.stdout.trim_end().ends_with("/out/film/") && done.stdout.lines().count() == 1, "{done}");
    assert_eq!(bench.left(), ["film", "sheet.png"]);
    let path = bench.path("out/sheet.png");
    let sheet = read_image(&path).expect("a picture");
    let row = 128 + 4 + 2 * 40 + 4;
    assert_eq!((sheet.width, sheet.height), (4 + 8 * 132, 4 + 2 * row));
    for place in 0..16 {
        let frame = read_image(&bench.path(&format!("out/film/frame-{:05}.png", place * 33 / 16))).expect("a frame");
        assert!(shown(&sheet, place, row as usize) == frame.data, "picture {place}");
    }

    // The run and its latents make the same sheet again.
    let bytes = fs::read(&path).expect("a file");
    fs::remove_file(&path).expect("a file");
    bench.run(&["resume", &bench.runs()[0]]).worked(&["contact sheet: "]);
    assert!(fs::read(&path).expect("a file") == bytes, "resumed: another sheet");
    let decode = ["decode", "latents", "-o", "out/decoded/", "--contact-sheet", "out/sheet.png", "--json"];
    let decoded = bench.run(&decode);
    assert!(decoded.worked(&[]).stdout.contains("\"contact_sheet\":\"out/sheet.png\""), "{decoded}");
    assert!(fs::read(&path).expect("a file") == bytes, "decoded: another sheet");

    let again = film(&bench, OWN, &["--plan", "--contact-sheet", "out/sheet.png"]);
    let said = again.worked(&[]).stdout.contains("sheet.png is there already, and is replaced");
    assert!(said && again.stdout.contains("\nsheet     /"), "{again}");

    film(&bench, OWN, &["-o", "out/silent/", "--contact-sheet", "silent.png", "--no-sound"]).worked(&[]);
    let size = |name: &str| read_image(&bench.path(name)).map(|sheet| (sheet.width, sheet.height)).expect("a picture");
    assert_eq!(size("silent.png"), (4 + 5 * 132, 4 + 132));
    if cfg!(feature = "ffmpeg") {
        film(&bench, OWN, &["-o", "out/film.gif", "--contact-sheet", "gif.png"]).worked(&["a GIF has no sound"]);
        assert_eq!(size("gif.png"), (4 + 5 * 132, 4 + 132), "what is not heard is not seen");
    }
}

#[test]
fn a_contact_sheet_that_cannot_be_is_refused_before_anything_is_computed() {
    let bench = bench();
    fs::create_dir(bench.path("folder.png")).expect("a folder");
    let table: [(&str, &[&str]); 4] = [
        ("sheet.jpg", &["sheet.jpg", "PNG", "--contact-sheet"]),
        ("sheet", &["PNG"]),
        ("nowhere/sheet.png", &["nowhere", "mkdir -p"]),
        ("folder.png", &["folder.png"]),
    ];
    for (name, words) in table {
        film(&bench, OWN, &["-o", "out/film/", "--contact-sheet", name]).refused(2, words);
        assert_eq!((bench.left(), bench.runs()), (Vec::new(), Vec::new()), "{name}");
    }
}

/// A disk without room for the sheet: no film is announced, and the run goes on when there is room.
#[cfg(unix)]
#[test]
fn a_sheet_without_room_leaves_the_run() {
    let bench = Bench::new("wan21-t2v");
    // Random weights make noise, which PNG does not pack: each frame has room, and five beside each other have not.
    let size = ["-m", "model", "--size", "160x128", "--frames", "5", "--steps", "1", "--sampler", "euler"];
    let film = [&["generate", OWN][..], &size, &["-o", "out/film", "--contact-sheet", "out/sheet.png"]].concat();
    let done = bench.limited("-f 290", &film);
    done.refused(1, &["cannot write the image", "sheet.png"]);
    assert_eq!((bench.left(), bench.runs().len()), (Vec::new(), 1));
    bench.run(&["resume"]).worked(&["contact sheet"]);
    assert_eq!((bench.left(), bench.runs().len()), (vec!["film".to_owned(), "sheet.png".to_owned()], 0));
}

#[test]
fn the_library_has_it_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let sheet = folder.path().join("sheet.png");
    let request = Request {
        prompt: OWN.into(),
        frames: Some(5),
        steps: Some(1),
        seed: Some(7),
        contact_sheet: Some(sheet.clone()),
        ..Request::default()
    };
    let home = tempfile::tempdir().expect("a folder");
    let session = session(&ModelChoice::default(), home.path());
    let plan = session.plan(&request).expect("a plan");
    assert_eq!(plan.model, entry().title);
    {
        let film = session.generate(&request, &mut quiet).expect("a film");
        assert_eq!((film.frames.len(), film.contact_sheet.as_ref()), (5, Some(&sheet)));
        // Its sound is that of a file: as long as the film.
        let sound = film.waveform.expect("a sound");
        let samples = film.fps.samples(film.count, sound.rate);
        assert_ne!(samples, sound.len());
        let mut expected = Sheet::new((64, 64), film.count, Some(&sound.fitted(samples))).expect("a sheet");
        film.frames.iter().for_each(|frame| expected.push(frame));
        let other = folder.path().join("expected.png");
        expected.write(&other).expect("a picture");
        assert!(fs::read(&sheet).expect("a file") == fs::read(&other).expect("a file"), "another sheet");
    }
}

#[test]
fn where_it_is_not_is_said() {
    let mut bench = bench();
    let nowhere = bench.path("nowhere");
    bench.set("TALKIE_TOYBOX", nowhere.to_str().expect("UTF-8"));
    for model in [&[][..], &["-m", "toybox"]] {
        let done = film(&bench, OWN, model);
        done.refused(
            1,
            &["model in the box", nowhere.to_str().expect("UTF-8"), "TALKIE_TOYBOX=FOLDER", "talkie models"],
        );
    }
    // It is missed where it is needed, and nowhere else.
    film(&bench, OWN, &["-m", "model", "-o", "out/film/"]).worked(&[]);
    for command in [&["models"][..], &["models", "show", "toybox"], &["doctor"]] {
        bench.run(command).worked(&[]);
    }
    assert!(bench.run(&["doctor"]).stdout.contains("in the box   the model in the box is not in its place"));
    let model = bench.path("model");
    bench.set("TALKIE_TOYBOX", model.to_str().expect("UTF-8"));
    let report: Value = serde_json::from_str(&bench.run(&["doctor", "--json"]).worked(&[]).stdout).expect("JSON");
    assert_eq!(report["in the box"], json!(model));
    let pull = bench.run(&["models", "pull", "toybox"]);
    assert!(pull.worked(&["nothing is to be fetched"]).stdout.trim() == model.to_str().expect("UTF-8"), "{pull}");
}

/// Packages put it beside the program, or where such things are shared.
#[test]
fn it_is_found_beside_the_program_first() {
    let bench = bench();
    let program = bench.path("bin/talkie");
    fs::create_dir(bench.path("bin")).expect("a folder");
    let built = env!("CARGO_BIN_EXE_talkie");
    fs::hard_link(built, &program).or_else(|_| fs::copy(built, &program).map(drop)).expect("the program");
    let found = || {
        let output = Command::new(&program).args(["doctor", "--json"]).env_remove("TALKIE_TOYBOX").output();
        let report: Value = serde_json::from_slice(&output.expect("the program").stdout).expect("JSON");
        PathBuf::from(report["in the box"].as_str().expect("a place"))
    };
    assert_eq!(found(), folder(), "the source tree");
    let real = |name: &str| bench.path(name).canonicalize().expect("a folder");
    for name in ["share/talkie/toybox", "bin/toybox"] {
        fs::create_dir_all(bench.path(name).parent().expect("a folder")).expect("a folder");
        copy(&bench.path("model"), &bench.path(name));
        assert_eq!(found(), real(name));
    }
    // A folder that holds no model is none.
    fs::remove_file(bench.path("bin/toybox/model_index.json")).expect("a file");
    assert_eq!(found(), real("share/talkie/toybox"));
}
