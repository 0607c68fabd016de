//! Films that have no place: unknown endings, folders that are closed, disks that are full, encoders that are missing.

use std::fs;

use super::nothing_left;
use crate::support::command::Bench;

#[test]
fn a_place_that_cannot_be_is_refused_before_anything_is_computed() {
    let bench = Bench::new("wan21-t2v");
    fs::write(bench.path("file"), "mine").expect("a file");
    fs::create_dir(bench.path("mine")).expect("a folder");
    fs::write(bench.path("mine/notes.txt"), "mine").expect("a file");
    let mut table: Vec<(&str, i32, &[&str])> = vec![
        ("film.avi", 2, &[".avi", ".mp4"]),
        ("out/film.png", 2, &[".png", ".mp4"]),
        ("", 2, &["output"]),
        ("nowhere/film", 2, &["nowhere", "mkdir -p"]),
        ("file/film", 2, &["file", "mkdir -p"]),
        ("file", 2, &["a file is there", "file"]),
        ("mine", 2, &["notes.txt", "not a frame"]),
    ];
    if cfg!(target_os = "linux") {
        // Not even the superuser creates a file there.
        table.push(("/proc/film", 1, &["cannot write", "/proc"]));
    }
    if cfg!(feature = "ffmpeg") {
        table.push(("nowhere/film.mp4", 2, &["nowhere", "mkdir -p"]));
        table.push(("file/film.webm", 2, &["file", "mkdir -p"]));
    }
    for (name, code, words) in table {
        nothing_left(&bench, bench.generate(&["-o", name]).refused(code, words));
    }
    for (name, code) in [("nowhere/a.safetensors", 2), ("mine", 2), ("file/a.safetensors", 2), ("/", 2)] {
        let done = bench.generate(&["--save-latents", name]);
        nothing_left(&bench, done.refused(code, &[name.trim_start_matches('/')]));
    }
    bench.generate(&["--preview", "preview.jpg"]).refused(2, &["preview.jpg", "PNG"]);
    assert_eq!(bench.runs(), [""; 0]);
    assert_eq!(fs::read(bench.path("file")).expect("the file"), b"mine");
    // A preview is no reason to lose a film.
    bench.generate(&["--preview", "nowhere/preview.png"]).worked(&["no preview"]);
}

#[test]
fn a_film_that_is_there_stays_until_the_new_one_is_whole() {
    let bench = Bench::new("wan21-t2v");
    bench.generate(&[]).worked(&[]);
    let film = |bench: &Bench| fs::read(bench.path("out/film/frame-00004.png")).expect("a frame");
    let before = film(&bench);
    bench.poison("model/vae/diffusion_pytorch_model.safetensors", "decoder.conv_out.bias", f32::NAN);
    bench.generate(&["--seed", "2"]).refused(1, &["not numbers"]);
    assert_eq!(film(&bench), before);
    assert_eq!(bench.left(), ["film"]);
    assert_eq!(crate::support::command::names(&bench.path("out/film")).len(), 6);
}

/// The kernel refuses to let a file grow past the limit, as a full disk would.
#[cfg(unix)]
#[test]
fn a_full_disk_is_named_and_the_run_goes_on_when_there_is_room() {
    use crate::support::command::{film, names};

    let bench = Bench::new("wan21-t2v");
    // 512 bytes a block: room for no embedding of a prompt.
    let done = bench.limited("-f 64", &film(&[]));
    nothing_left(&bench, done.refused(1, &["cannot write", "conditioning.safetensors", "disk is not full"]));
    let runs = bench.runs();
    let [run] = &runs[..] else { panic!("{done}") };
    let left = names(&bench.path("home/runs").join(run));
    assert!(left.iter().all(|name| !name.contains(".part-")), "{left:?}");
    // Nor for a plan.
    let done = bench.limited("-f 1", &film(&[]));
    nothing_left(&bench, done.refused(1, &["cannot write", "plan.json", "disk is not full"]));
    assert_eq!(bench.runs(), [run.as_str()], "a run without a plan is none");
    let home = Bench::new("wan21-t2v");
    fs::write(home.path("home"), "a file").expect("a file");
    nothing_left(&home, home.generate(&[]).refused(1, &["folder of the run", "TALKIE_HOME"]));

    // Room for everything but the film: its frames are noise, which no encoder packs well.
    let table = [("film.gif", "160x128", "17"), ("film.mp4", "160x128", "17"), ("frames", "320x320", "1")];
    for (name, size, frames) in table.into_iter().filter(|(name, ..)| cfg!(feature = "ffmpeg") || *name == "frames") {
        let bench = Bench::new("wan21-t2v");
        let output = format!("out/{name}");
        let more =
            ["-o", &output, "--size", size, "--frames", frames, "--sampler", "euler", "--save-latents", "latents"];
        let done = bench.limited("-f 290", &film(&more));
        nothing_left(&bench, done.refused(1, &["cannot write", "File too large"]));
        assert_eq!(bench.runs().len(), 1, "{done}");
        let decode = ["decode", "latents", "-m", "model", "-o", &output];
        nothing_left(&bench, bench.limited("-f 290", &decode).refused(1, &["cannot write", "File too large"]));
        bench.run(&["resume"]).worked(&[]);
        assert_eq!((bench.left(), bench.runs().len()), (vec![name.to_owned()], 0));
    }
}

/// An FFmpeg without encoders: a library in front of it says that there are none.
#[cfg(all(target_os = "linux", feature = "ffmpeg"))]
#[test]
fn an_ffmpeg_without_encoders_is_named() {
    use std::process::Command;

    let mut bench = Bench::new("wan21-t2v");
    let source = "const void *avcodec_find_encoder_by_name(const char *name) { return (void *)0; }\n";
    fs::write(bench.path("none.c"), source).expect("a file");
    let library = bench.path("none.so");
    let (from, to) = (bench.path("none.c"), library.to_str().expect("a name").to_owned());
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o", &to]).arg(from).status();
    let linked = Command::new("ldd").arg(env!("CARGO_BIN_EXE_talkie")).output();
    let linked = linked.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("libavcodec"));
    if !linked || !compiled.is_ok_and(|status| status.success()) {
        println!("SKIPPED: needs `cc`, and a talkie that is linked to FFmpeg's shared libraries");
        return;
    }
    bench.set("LD_PRELOAD", &to);
    for name in ["out/film.mp4", "out/film.mov", "out/film.webm", "out/film.gif"] {
        nothing_left(
            &bench,
            bench.generate(&["-o", name]).refused(1, &["no encoder", "install an FFmpeg with", "-o frames/"]),
        );
    }
    assert_eq!(bench.runs(), [""; 0]);
    bench.generate(&["-o", "out/frames/"]).worked(&[]);
}
