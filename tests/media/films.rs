//! Films, as FFmpeg's own programs find them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use proptest::prelude::*;
use serde_json::Value;
use talkie::error::Kind;
use talkie::media::{self, Film, FilmSpec};

use super::support::{generator, landscape, mean_error, names, noise, spec, write};

/// `spec` at another rate.
pub(super) fn at(fps: &str, spec: FilmSpec) -> FilmSpec {
    FilmSpec { fps: fps.parse().expect("a rate"), ..spec }
}

/// `landscape` with grain: every pixel brighter or darker by up to `amount` levels.
fn grainy(width: u32, height: u32, frame: usize, amount: i32) -> Vec<u8> {
    let mut random = generator(frame);
    let mut pixels = landscape(width, height, frame);
    for pixel in pixels.chunks_exact_mut(3) {
        let grain = (random() % (2 * amount as u32 + 1)) as i32 - amount;
        pixel.iter_mut().for_each(|value| *value = (i32::from(*value) + grain).clamp(0, 255) as u8);
    }
    pixels
}

/// Runs one of FFmpeg's programs. That it is missing is a failure: nothing here could be proved without it.
pub(super) fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(["-v", "error"]).args(arguments).output();
    let output =
        output.unwrap_or_else(|cause| panic!("these tests need `{program}` (Debian: apt install ffmpeg): {cause}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{program} complains: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The only stream of a file, and its container.
fn probe(path: &Path) -> (Value, Value) {
    let path = path.to_str().expect("a name");
    let output = run("ffprobe", &["-count_frames", "-show_streams", "-show_format", "-of", "json", path]);
    let mut json: Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(json["streams"].as_array().map(Vec::len), Some(1), "one stream");
    (json["streams"][0].take(), json["format"].take())
}

pub(super) fn number(value: &Value) -> f64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no number"))
}

/// Every frame as FFmpeg decodes it, RGB.
fn decode(path: &Path) -> Vec<u8> {
    run("ffmpeg", &["-i", path.to_str().expect("a name"), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]).stdout
}

/// Where boxes of ISO 14496-12 §4.2 lie in `data`: name and content.
pub(super) fn boxes(mut data: &[u8]) -> Vec<(String, &[u8])> {
    let mut found = Vec::new();
    while data.len() >= 8 {
        let size = match u32::from_be_bytes(data[..4].try_into().expect("four bytes")) as usize {
            0 => data.len(),
            size => size,
        };
        found.push((String::from_utf8_lossy(&data[4..8]).into_owned(), &data[8..size]));
        data = &data[size..];
    }
    found
}

/// The content of the box at `path` in `data`.
fn find<'a>(data: &'a [u8], path: &[&str]) -> &'a [u8] {
    path.iter().fold(data, |data, name| {
        // A sample description has 8 bytes before its entries, a visual sample entry 78 before its boxes.
        let skip = if name.starts_with("avc1") {
            8
        } else if *name == "colr" {
            78
        } else {
            0
        };
        let found = boxes(&data[skip..]).into_iter().find(|(found, _)| found == name);
        found.unwrap_or_else(|| panic!("no box {name}")).1
    })
}

const ENTRY: [&str; 7] = ["moov", "trak", "mdia", "minf", "stbl", "stsd", "avc1"];

#[test]
fn an_mp4_is_what_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, colour) in [("film.mp4", "nclx"), ("film.mov", "nclc")] {
        let path = folder.path().join(name);
        let written = write(&path, &spec(96, 64, 33), |frame| landscape(96, 64, frame)).expect(name);
        assert_eq!((written.frames, written.seconds, written.path.as_path()), (33, 2.0625, path.as_path()));
        let (stream, format) = probe(&path);
        assert_eq!((&stream["width"], &stream["height"]), (&96.into(), &64.into()));
        assert_eq!(stream["pix_fmt"], "yuv420p");
        assert_eq!((&stream["nb_frames"], &stream["nb_read_frames"]), (&"33".into(), &"33".into()));
        assert_eq!((number(&stream["duration"]), number(&format["duration"])), (2.0625, 2.0625));
        assert_eq!(number(&stream["start_time"]), 0.0);
        assert_eq!(stream["sample_aspect_ratio"], "1:1");
        for (tag, value) in [("range", "tv"), ("space", "bt709"), ("transfer", "bt709"), ("primaries", "bt709")] {
            assert_eq!(stream[format!("color_{tag}")], value, "{name}: color_{tag}");
        }
        let data = fs::read(&path).expect("the film");
        let order: Vec<_> = boxes(&data).into_iter().map(|(name, _)| name).collect();
        let place = |name: &str| order.iter().position(|found| found == name).expect(name);
        assert!(place("moov") < place("mdat"), "{name}: {order:?}");
        if written.codec == "H.264 (libx264)" {
            assert_eq!((&stream["codec_name"], &stream["chroma_location"]), (&"h264".into(), &"left".into()));
            let colr = find(&data, &[&ENTRY[..], &["colr"]].concat());
            // Primaries, transfer and matrix of BT.709, then, in nclx, the bit for full range: not set.
            assert_eq!(&colr[..4], colour.as_bytes());
            assert_eq!(&colr[4..10], [0, 1, 0, 1, 0, 1]);
            assert_eq!(&colr[10..], if colour == "nclx" { &[0][..] } else { &[] });
        }
    }
    assert_eq!(names(folder.path()), ["film.mov", "film.mp4"]);
}

#[test]
fn lengths_and_rates_are_exact() {
    let folder = tempfile::tempdir().expect("a folder");
    let table =
        [("16", "16/1"), ("24", "24/1"), ("25", "25/1"), ("30", "30/1"), ("29.97", "30000/1001"), ("12.5", "25/2")];
    for (number_of_rate, (fps, rate)) in table.into_iter().enumerate() {
        for (number_of_length, frames) in [1, 5, 33].into_iter().enumerate() {
            // One muxer writes both: every rate and every length is in each.
            let name = ["film.mp4", "film.mov"][(number_of_rate + number_of_length) % 2];
            let path = folder.path().join(name);
            let spec = at(fps, spec(32, 32, frames));
            write(&path, &spec, |frame| landscape(32, 32, frame)).expect(name);
            let (stream, format) = probe(&path);
            let case = format!("{name}, {frames} frames at {fps}");
            assert_eq!((&stream["r_frame_rate"], &stream["avg_frame_rate"]), (&rate.into(), &rate.into()), "{case}");
            assert_eq!(stream["nb_read_frames"], frames.to_string(), "{case}");
            let seconds = spec.fps.seconds(frames);
            // Six decimals are what ffprobe prints.
            assert!((number(&stream["duration"]) - seconds).abs() <= 5e-7, "{case}: {}", stream["duration"]);
            assert!((number(&format["duration"]) - seconds).abs() <= 5e-7, "{case}: {}", format["duration"]);
            let unit = stream["time_base"].as_str().and_then(|unit| unit.strip_prefix("1/")).expect("1/n");
            let ticks = stream["duration_ts"].as_f64().expect("ticks") / unit.parse::<f64>().expect("a number");
            assert!((ticks - seconds).abs() < 1e-12, "{case}: {ticks} s");
        }
    }
}

#[test]
fn what_is_seen_is_what_was_drawn() {
    let folder = tempfile::tempdir().expect("a folder");
    let (width, height, frames) = (320, 192, 6);
    let best = ["film.mp4", "film.webm"].into_iter().flat_map(|name| [0, 8, 24].map(|grain| (name, None, grain)));
    let others = [("film.mp4", "mpeg4"), ("film.webm", "libsvtav1"), ("film.webm", "libaom-av1")];
    for (name, encoder, grain) in best.chain(others.map(|(name, encoder)| (name, Some(encoder), 8))) {
        if encoder.is_some_and(|wanted| media::encoders().iter().all(|encoder| encoder.name != wanted)) {
            println!("SKIPPED: this FFmpeg has no {encoder:?}");
            continue;
        }
        let path = folder.path().join(name);
        let picture = |frame| grainy(width, height, frame, grain);
        let spec = FilmSpec { encoder: encoder.map(str::to_owned), ..spec(width, height, frames) };
        let codec = write(&path, &spec, picture).expect(name).codec;
        let error = mean_error(&decode(&path), &(0..frames).flat_map(picture).collect::<Vec<_>>());
        let size = fs::metadata(&path).expect("the film").len();
        println!("{codec}, grain ±{grain}: {error:.2} levels, {size} bytes");
        assert!(error <= 2.5, "{codec}, grain ±{grain}: {error:.2} levels");
    }
}

#[test]
fn the_same_frames_make_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["film.mp4", "film.webm", "film.gif"] {
        let film = |part: &str| {
            let path = folder.path().join(part).with_extension(Path::new(name).extension().expect("an ending"));
            write(&path, &spec(64, 64, 6), |frame| grainy(64, 64, frame, 20)).expect(name);
            fs::read(path).expect("the film")
        };
        assert!(film("a") == film("b"), "{name} differs from itself");
    }
}

#[test]
fn other_containers_are_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, fps, frames, seconds) in [
        ("film.webm", "16", 33, 2.0625),
        ("film.webm", "29.97", 33, 1.1011),
        ("film.gif", "16", 33, 2.06),
        ("film.gif", "24", 25, 1.04),
        ("film.gif", "29.97", 33, 1.10),
        ("film.gif", "50", 1, 0.02),
    ] {
        let path = folder.path().join(name);
        write(&path, &at(fps, spec(64, 48, frames)), |frame| landscape(64, 48, frame)).expect(name);
        let (stream, format) = probe(&path);
        assert_eq!(stream["nb_read_frames"], frames.to_string(), "{name} at {fps}");
        // Matroska counts milliseconds, GIF hundredths.
        assert!((number(&format["duration"]) - seconds).abs() <= 0.00101, "{name} at {fps}: {}", format["duration"]);
        if name.ends_with("webm") {
            assert_eq!(stream["avg_frame_rate"], at(fps, spec(1, 1, 1)).fps.to_string().replace("16", "16/1"));
            for (tag, value) in [("range", "tv"), ("space", "bt709"), ("transfer", "bt709"), ("primaries", "bt709")] {
                assert_eq!(stream[format!("color_{tag}")], value, "{name}: color_{tag}");
            }
        }
    }
}

#[test]
fn a_gif_looks_like_the_film() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("film.gif");
    write(&path, &spec(160, 96, 4), |frame| landscape(160, 96, frame)).expect("a gif");
    let drawn: Vec<u8> = (0..4).flat_map(|frame| landscape(160, 96, frame)).collect();
    let error = mean_error(&decode(&path), &drawn);
    println!("gif: {error:.2} levels");
    assert!(error <= 6.0, "{error:.2} levels");
    let fast = Film::create(&path, &at("60", spec(64, 64, 1)), None).expect_err("too fast");
    assert!(fast.report().contains("60") && fast.report().contains("50"), "{}", fast.report());
}

#[test]
fn the_recipe_survives() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let prompt = "a \"cat\" \\ ünï 猫 🐈\n".repeat(200);
    let recipe = serde_json::json!({ "prompt": prompt, "seed": u64::MAX }).to_string();
    let spec = FilmSpec { recipe, ..spec(32, 32, 2) };
    for name in ["film.mp4", "film.mov", "film.webm", "film.gif"] {
        write(&at(name), &spec, |frame| landscape(32, 32, frame)).expect(name);
        assert_eq!(media::comment(&at(name)).expect(name).as_ref(), Some(&spec.recipe), "{name}");
    }
    for (from, to) in [
        ("film.mp4", "a.mp4"),
        ("film.mp4", "a.mov"),
        ("film.mp4", "a.mkv"),
        ("film.mov", "b.mp4"),
        ("film.webm", "b.webm"),
        ("film.webm", "c.mkv"),
    ] {
        run("ffmpeg", &["-i", at(from).to_str().expect("a name"), "-c", "copy", at(to).to_str().expect("a name")]);
        assert_eq!(media::comment(&at(to)).expect(to).as_ref(), Some(&spec.recipe), "{from} to {to}");
    }
}

#[test]
fn what_is_no_film_has_no_recipe() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    assert!(media::comment(&at("missing.mp4")).expect_err("missing").report().contains("missing.mp4"));
    fs::write(at("text.mp4"), "no film").expect("a file");
    write(&at("film.mp4"), &spec(32, 32, 2), |frame| landscape(32, 32, frame)).expect("a film");
    let whole = fs::read(at("film.mp4")).expect("the film");
    fs::write(at("cut.mp4"), &whole[..60]).expect("a file");
    fs::write(at("empty.mp4"), "").expect("a file");
    // FFmpeg reads this one, but it is no container that a film of talkie's comes in.
    let (from, to) = (at("film.mp4"), at("film.avi"));
    run("ffmpeg", &["-i", from.to_str().expect("a name"), "-c", "copy", to.to_str().expect("a name")]);
    for name in ["text.mp4", "cut.mp4", "empty.mp4", "film.avi"] {
        let error = media::comment(&at(name)).expect_err(name);
        assert!(error.report().contains(name), "{}", error.report());
    }
    run(
        "ffmpeg",
        &[
            "-i",
            at("film.mp4").to_str().expect("a name"),
            "-map_metadata",
            "-1",
            "-c",
            "copy",
            at("bare.mp4").to_str().expect("a name"),
        ],
    );
    assert_eq!(media::comment(&at("bare.mp4")).expect("a film"), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn damaged_films_never_panic(places in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 1..9), gif in any::<bool>()) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(if gif { "film.gif" } else { "film.mp4" });
        write(&path, &spec(32, 32, 1), |frame| landscape(32, 32, frame)).expect("a film");
        let mut bytes = fs::read(&path).expect("the film");
        for (place, byte) in places {
            let place = (place * bytes.len() as f64) as usize;
            bytes[place] = byte;
        }
        fs::write(&path, bytes).expect("a file");
        // Whatever it says: a text, none, or an error.
        let _ = media::comment(&path);
    }
}

/// A film may be written by a thread of its own.
#[test]
fn a_film_can_be_sent_to_another_thread() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("film.mp4");
    let film = Film::create(&path, &spec(32, 32, 1), None).expect("a film");
    let frame = noise(32, 32, 0);
    let written = std::thread::spawn(move || {
        let mut film = film;
        film.push(&frame).and_then(|()| film.finish())
    });
    assert_eq!(written.join().expect("a thread").expect("a film").frames, 1);
}

#[test]
fn an_older_film_is_replaced_only_by_a_whole_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("film.mp4");
    fs::write(&path, "older").expect("a file");
    let mut film = Film::create(&path, &spec(32, 32, 2), None).expect("a film");
    film.push(&noise(32, 32, 0)).expect("a frame");
    assert!(film.finish().is_err());
    assert_eq!(fs::read(&path).expect("the older"), b"older");
    write(&path, &spec(32, 32, 2), |frame| noise(32, 32, frame)).expect("a film");
    assert_eq!(probe(&path).0["nb_read_frames"], "2");
    assert_eq!(names(folder.path()), ["film.mp4"]);
}

#[test]
fn strange_names_are_only_names() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["http:film.mp4", "a %03d ünï 'x' \"y\".mp4", "-film.mp4", "concat:a|b.webm"] {
        let path = folder.path().join(name);
        write(&path, &spec(32, 32, 2), |frame| landscape(32, 32, frame)).expect(name);
        assert_eq!(media::comment(&path).expect(name), Some(spec(32, 32, 2).recipe));
    }
}

#[test]
fn what_a_format_cannot_hold_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |name: &str, spec: &FilmSpec, word: &str| {
        let error = Film::create(&folder.path().join(name), spec, None).expect_err(name);
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.report().contains(word), "{}", error.report());
    };
    for name in ["film.mp4", "film.mov", "film.webm"] {
        refused(name, &spec(33, 32, 1), "even");
        refused(name, &spec(32, 33, 1), "even");
        refused(name, &FilmSpec { recipe: "a\0b".to_owned(), ..spec(32, 32, 1) }, "zero byte");
    }
    refused("film.mov", &FilmSpec { recipe: "x".repeat(70_000), ..spec(32, 32, 1) }, "70000 bytes");
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn encoders_are_passed_over_or_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("film.mp4");
    let with = |name: &str| FilmSpec { encoder: Some(name.to_owned()), ..spec(64, 64, 5) };
    for name in ["no_such_encoder", "libvpx-vp9", "h264_videotoolbox"] {
        let error = Film::create(&path, &with(name), None).expect_err(name);
        assert!(error.report().contains(name) && error.report().contains("try:"), "{}", error.report());
        assert_eq!(names(folder.path()), [""; 0]);
    }
    // The last resort, which every FFmpeg has, makes a film that is as long and as exact.
    let spec = FilmSpec { width: 320, height: 192, ..with("mpeg4") };
    let written = write(&path, &spec, |frame| landscape(320, 192, frame)).expect("a film");
    assert_eq!(written.codec, "MPEG-4 part 2 (mpeg4)");
    let (stream, _) = probe(&path);
    assert_eq!((&stream["codec_name"], &stream["nb_read_frames"]), (&"mpeg4".into(), &"5".into()));
    assert_eq!(number(&stream["duration"]), 0.3125);
    let drawn: Vec<u8> = (0..5).flat_map(|frame| landscape(320, 192, frame)).collect();
    assert!(mean_error(&decode(&path), &drawn) <= 2.5);
}

#[test]
fn the_local_ffmpeg_is_described() {
    let version = media::ffmpeg_version().expect("a version");
    assert!(version.contains(|c: char| c.is_ascii_digit()), "{version}");
    let encoders = media::encoders();
    assert!(encoders.iter().all(|encoder| !encoder.description.is_empty() && !encoder.codec.is_empty()));
    for ending in [".mp4", ".mov", ".gif"] {
        assert!(encoders.iter().any(|encoder| encoder.endings.contains(&ending)), "{ending}: {encoders:?}");
    }
}

/// Runs only below [`a_full_disk_leaves_nothing`], with a limit on the size of files.
#[test]
#[ignore = "a part of another test"]
fn writes_past_the_limit() {
    let path = std::env::var_os("TALKIE_TEST_FILM").expect("the name of the film");
    let error = write(Path::new(&path), &spec(256, 256, 20), |frame| noise(256, 256, frame)).expect_err("no room");
    println!("{}", error.report());
    assert!(error.report().contains("File too large") && error.report().contains("free space"), "{}", error.report());
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing() {
    for name in ["film.mp4", "film.webm", "film.gif", "frames"] {
        let folder = tempfile::tempdir().expect("a folder");
        // The kernel lets no file grow past the limit, as a full disk would; the signal that goes with it is ignored.
        let status = Command::new("sh")
            .args(["-c", r#"trap "" XFSZ; ulimit -f 64; exec "$@""#, "sh"])
            .arg(std::env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "media::films::writes_past_the_limit", "--nocapture"])
            .env("TALKIE_TEST_FILM", folder.path().join(name))
            .output()
            .expect("a shell");
        let report = String::from_utf8_lossy(&status.stdout).into_owned() + &String::from_utf8_lossy(&status.stderr);
        assert!(status.status.success() && report.contains("1 passed"), "{name}: {report}");
        assert_eq!(names(folder.path()), [""; 0], "{name}");
    }
}
