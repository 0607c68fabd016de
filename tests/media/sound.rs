//! The soundtrack of a film, as FFmpeg's own programs find it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use talkie::audio::Waveform;
use talkie::error::Kind;
use talkie::media::{Film, FilmSpec, check_sound, encoders};

use super::films::{at, boxes, number, run};
use super::support::{landscape, names, noise, spec, write, write_with};

const RATES: [&str; 5] = ["16", "24", "25", "30", "29.97"];

/// A tone of 440 Hz at half of full scale, another in each channel.
fn tone(rate: u32, channels: usize, seconds: f64) -> Waveform {
    let sample = |pitch: usize, at: usize| {
        (at as f64 / f64::from(rate) * 440.0 * pitch as f64 * std::f64::consts::TAU).sin() as f32 * 0.5
    };
    let samples = (seconds * f64::from(rate)).round() as usize;
    let channel = |index| (0..samples).map(|at| sample(index + 1, at)).collect();
    Waveform { rate, channels: (0..channels).map(channel).collect() }
}

/// All streams of a file, its container, its packets in the order of the file, its frames.
fn probe(path: &Path) -> Value {
    let path = path.to_str().expect("a name");
    let show = ["-show_streams", "-show_format", "-show_frames", "-of", "json", path];
    serde_json::from_slice(&run("ffprobe", &show).stdout).expect("json")
}

/// What FFmpeg decodes: each channel, at the rate of its decoder, and the light of each frame of so many pixels.
struct Decoded {
    channels: Vec<Vec<f32>>,
    rate: f64,
    light: Vec<u64>,
}

fn decode(path: &Path, json: &Value, pixels: usize) -> Decoded {
    let folder = tempfile::tempdir().expect("a folder");
    let [sound, pictures] = ["sound", "pictures"].map(|name| folder.path().join(name));
    let [path, sound_name, pictures_name] = [path, &sound, &pictures].map(|path| path.to_str().expect("a name"));
    let heard = ["-i", path, "-map", "0:a", "-f", "f32le", sound_name];
    let seen = ["-map", "0:v", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", pictures_name];
    run("ffmpeg", &[&heard[..], &seen[..]].concat());
    let stream = &json["streams"][1];
    let channels = stream["channels"].as_u64().expect("a number") as usize;
    let samples = fs::read(sound).expect("samples");
    let sample = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let samples: Vec<f32> = samples.chunks_exact(4).map(sample).collect();
    let channel = |index| samples[index..].iter().step_by(channels).copied().collect();
    let light = |frame: &[u8]| frame.iter().map(|&level| u64::from(level)).sum();
    Decoded {
        channels: (0..channels).map(channel).collect(),
        rate: number(&stream["sample_rate"]),
        light: fs::read(pictures).expect("frames").chunks_exact(pixels).map(light).collect(),
    }
}

/// The frames of a stream: when each is shown or heard.
fn times(json: &Value, kind: &str) -> Vec<f64> {
    let frames = json["frames"].as_array().expect("frames").iter();
    frames.filter(|frame| frame["media_type"] == kind).map(|frame| number(&frame["pts_time"])).collect()
}

/// The place of the largest.
fn place<T>(values: &[T], compare: impl Fn(&T, &T) -> std::cmp::Ordering) -> usize {
    values.iter().enumerate().max_by(|a, b| compare(a.1, b.1)).expect("values").0
}

/// One white frame, one click where it begins, a tone in the last hundredth of a second. `name` says the container.
fn flash_and_click(folder: &Path, name: &str, fps: &str, rate: u32, channels: usize) {
    let case = format!("{name} at {fps}, {channels} channels of {rate}");
    let path = folder.join(name);
    let spec = at(fps, spec(32, 32, 37));
    let flash = 21;
    let click = spec.fps.samples(flash, rate);
    let length = spec.fps.samples(spec.frames, rate);
    let end = length - rate as usize / 100;
    let sample = |at: usize| match at {
        _ if at == click => 0.9,
        _ if at >= end => 0.3 * (at as f32 / rate as f32 * 3000.0).sin(),
        _ => 0.0,
    };
    // Longer than the film: the rest must not be in it.
    let channel: Vec<f32> = (0..length + 999).map(sample).collect();
    let sound = Waveform { rate, channels: vec![channel; channels] };
    let picture = |frame| vec![if frame == flash { 255 } else { 16 }; 32 * 32 * 3];
    write_with(&path, &spec, Some(&sound), picture).expect(&case);

    let json = probe(&path);
    let [video, audio] = &json["streams"].as_array().expect("streams")[..] else { panic!("{case}: two streams") };
    let (codec, samples_of_codec) = if name.ends_with("webm") { ("opus", 960) } else { ("aac", 1024) };
    assert_eq!((&audio["codec_name"], &audio["channels"]), (&codec.into(), &channels.into()), "{case}");
    let seconds = spec.fps.seconds(spec.frames);
    for (stream, allowed) in [(video, 1e-6), (audio, 0.5 / f64::from(rate) + 1e-6)] {
        let text = if name.ends_with("webm") { &stream["tags"]["DURATION"] } else { &stream["duration"] };
        let text = text.as_str().expect("a duration").trim_start_matches("00:");
        let duration: f64 = text.parse().expect("a number");
        assert!((duration - seconds).abs() <= allowed, "{case}: {} lasts {duration}", stream["codec_name"]);
    }
    let whole = number(&json["format"]["duration"]);
    assert!((whole - seconds).abs() <= 0.5 / f64::from(rate) + 1e-6, "{case}: {whole} for {seconds}");

    let shown = times(&json, "video");
    assert_eq!((shown.len(), shown[0]), (spec.frames, 0.0), "{case}");
    let Decoded { channels, rate: unit, light } = decode(&path, &json, 32 * 32);
    let samples = &channels[channels.len() - 1];
    assert_eq!((light.len(), place(&light, u64::cmp)), (spec.frames, flash), "{case}");
    let heard = times(&json, "audio");
    assert!(heard[0].abs() < 1e-9, "{case}: the sound begins at {}", heard[0]);
    let clicked = place(samples, |a, b| a.abs().total_cmp(&b.abs())) as f64 / unit;
    assert!((clicked - shown[flash]).abs() < 0.001, "{case}: flash at {}, click at {clicked}", shown[flash]);
    // Every sample is there, of those that fill the last packet of AAC no more than it has; Opus is cut exactly.
    let ratio = unit / f64::from(rate);
    let expected = (length as f64 * ratio) as usize;
    let more = samples.len().checked_sub(expected).unwrap_or_else(|| panic!("{case}: {} samples", samples.len()));
    assert!(more < if codec == "opus" { 4 } else { samples_of_codec }, "{case}: {more} more samples");
    let tail = &samples[(end as f64 * ratio) as usize..expected];
    let energy = tail.iter().map(|sample| sample * sample).sum::<f32>() / tail.len() as f32;
    assert!((0.1..0.3).contains(&energy.sqrt()), "{case}: the end is heard at {}", energy.sqrt());
}

/// Every rate of pictures with every rate of sound, and every one of either with one channel and with two.
fn every_rate(name: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    for (number, fps) in RATES.into_iter().enumerate() {
        for (at, rate) in [16_000, 24_000, 48_000].into_iter().enumerate() {
            flash_and_click(folder.path(), name, fps, rate, 1 + (number + at) % 2);
        }
    }
    assert_eq!(names(folder.path()), [name]);
}

#[test]
fn flash_and_click_meet_in_mp4() {
    every_rate("film.mp4");
}

#[test]
fn flash_and_click_meet_in_mov() {
    every_rate("film.mov");
}

#[test]
fn flash_and_click_meet_in_webm() {
    every_rate("film.webm");
}

#[test]
fn every_length_ends_with_its_last_frame() {
    let folder = tempfile::tempdir().expect("a folder");
    // The last packet of Opus holds between none and all of its samples, before and after the priming.
    for frames in [1, 2, 3, 5, 8, 13, 24] {
        for name in ["film.mp4", "film.webm"] {
            let path = folder.path().join(name);
            let spec = at("24", spec(32, 32, frames));
            write_with(&path, &spec, Some(&tone(48_000, 1, 2.0)), |frame| landscape(32, 32, frame)).expect(name);
            let json = probe(&path);
            let seconds = spec.fps.seconds(frames);
            assert_eq!(times(&json, "video").len(), frames, "{name}");
            assert!((number(&json["format"]["duration"]) - seconds).abs() < 2e-6, "{name}: {}", json["format"]);
            let Decoded { channels, rate, .. } = decode(&path, &json, 32 * 32);
            let more = channels[0].len() as f64 - seconds * rate;
            let packet = if name.ends_with("webm") { 0.5 } else { 1024.0 };
            assert!((-0.5..packet).contains(&more), "{name}, {frames} frames: {more} samples more");
        }
    }
}

#[test]
fn what_is_heard_is_what_was_played() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["film.mp4", "film.mov", "film.webm"] {
        for rate in [24_000, 48_000] {
            let path = folder.path().join(name);
            let sound = tone(rate, 2, 2.0);
            let written = write_with(&path, &spec(32, 32, 32), Some(&sound), |frame| landscape(32, 32, frame));
            let codec = written.expect(name).codec;
            let json = probe(&path);
            let Decoded { channels, rate: unit, .. } = decode(&path, &json, 32 * 32);
            let step = (unit / f64::from(rate)) as usize;
            for (played, heard) in sound.channels.iter().zip(&channels) {
                let pairs = played.iter().zip(heard.iter().step_by(step)).skip(2000).take(rate as usize);
                let (error, power) = pairs.fold((0.0, 0.0), |(error, power), (a, b)| {
                    (error + f64::from(a - b).powi(2), power + f64::from(*a).powi(2))
                });
                println!("{codec} at {rate}: {:.1} dB", 10.0 * (error / power).log10());
                assert!(error / power < 1e-3, "{codec}: {error} of {power}");
            }
        }
    }
}

/// The tracks of a movie, each the content of its box.
fn tracks(moov: &[u8]) -> Vec<&[u8]> {
    boxes(moov).into_iter().filter(|(name, _)| name == "trak").map(|(_, content)| content).collect()
}

fn inside<'a>(data: &'a [u8], path: &[&str]) -> &'a [u8] {
    path.iter().fold(data, |data, wanted| {
        let found = boxes(data).into_iter().find(|(name, _)| name == wanted);
        found.unwrap_or_else(|| panic!("no box {wanted}")).1
    })
}

fn word(data: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(data[at..at + 4].try_into().expect("four bytes"))
}

#[test]
fn the_priming_of_aac_is_in_the_edit_list() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, fps, rate) in [("film.mp4", "29.97", 48_000), ("film.mov", "24", 24_000), ("film.mp4", "30", 44_100)] {
        let path = folder.path().join(name);
        let spec = at(fps, spec(32, 32, 30));
        let written = write_with(&path, &spec, Some(&tone(rate, 2, 2.0)), |frame| landscape(32, 32, frame));
        assert!(written.expect(name).codec.ends_with(", AAC (aac)"));
        let data = fs::read(&path).expect("the film");
        let order: Vec<_> = boxes(&data).into_iter().map(|(name, _)| name).collect();
        let place = |name: &str| order.iter().position(|found| found == name).expect(name);
        assert!(place("moov") < place("mdat"), "{name}: {order:?}");
        let moov = inside(&data, &["moov"]);
        let scale = f64::from(word(inside(moov, &["mvhd"]), 12));
        let [video, audio] = tracks(moov)[..] else { panic!("{name}: two tracks") };
        for (track, priming, unit) in [(video, None, spec.fps.seconds(1)), (audio, Some(1024), 1.0 / f64::from(rate))] {
            let list = inside(track, &["edts", "elst"]);
            // One entry: how long it is, in the movie's units, and where it begins, in the track's.
            assert_eq!(word(list, 4), 1, "{name}");
            let length = f64::from(word(list, 8)) / scale;
            let units = (spec.fps.seconds(30) / unit).round();
            assert!((length - units * unit).abs() < 1e-9, "{name} at {fps}: {length} s, not {units} times {unit}");
            assert!(priming.is_none_or(|priming| word(list, 12) == priming), "{name}: {}", word(list, 12));
        }
        let json = probe(&path);
        assert_eq!(json["streams"][1]["profile"], "LC", "{name}");
    }
}

#[test]
fn the_priming_of_opus_is_where_players_look() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("film.webm");
    for rate in [8_000, 12_000, 16_000, 24_000, 48_000] {
        let written = write_with(&path, &spec(32, 32, 9), Some(&tone(rate, 1, 1.0)), |frame| landscape(32, 32, frame));
        assert!(written.expect("a film").codec.ends_with(", Opus (libopus)"));
        let data = fs::read(&path).expect("the film");
        let after = |mark: &[u8]| {
            let place = data.windows(mark.len()).position(|window| window == mark);
            &data[place.unwrap_or_else(|| panic!("no {mark:x?} at {rate}")) + mark.len()..]
        };
        // Samples at 48 kHz, little-endian (RFC 7845 §5.1), and the same in nanoseconds (RFC 9559 §5.1.4.1.25).
        let head = after(b"OpusHead");
        let skip = u64::from(u16::from_le_bytes([head[2], head[3]]));
        let delay = after(&[0x56, 0xAA]);
        let delay = delay[1..=usize::from(delay[0] & 0x7F)].iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        assert_eq!((skip > 0, delay), (true, skip * 1_000_000_000 / 48_000), "at {rate}");
        assert!(after(&[0x56, 0xBB]).starts_with(&[0x84, 0x04, 0xC4, 0xB4, 0x00]), "80 ms to roll in after a jump");
    }
}

#[test]
fn sound_and_pictures_lie_side_by_side() {
    let folder = tempfile::tempdir().expect("a folder");
    // H.264 decodes two frames before they are shown, so the sound of the last three goes on alone.
    for (name, fps, frames, apart) in [
        ("film.mp4", "16", 160, 0.5),
        ("film.mov", "24", 200, 0.5),
        ("film.webm", "16", 160, 0.5),
        ("film.mp4", "1", 30, 3.1),
        ("film.webm", "1", 30, 1.1),
    ] {
        let path = folder.path().join(name);
        let seconds = frames as f64;
        let picture = |frame| landscape(32, 32, frame);
        write_with(&path, &at(fps, spec(32, 32, frames)), Some(&tone(24_000, 1, seconds)), picture).expect(name);
        let show = ["-show_packets", "-of", "json", path.to_str().expect("a name")];
        let mut json: Value = serde_json::from_slice(&run("ffprobe", &show).stdout).expect("json");
        let mut packets = json["packets"].take().as_array().expect("packets").clone();
        packets.sort_by_key(|packet| number(&packet["pos"]) as u64);
        let mut reached = [0.0, 0.0];
        for packet in &packets {
            let stream = packet["stream_index"].as_u64().expect("a number") as usize;
            reached[stream] = number(&packet["dts_time"]);
            let [video, audio] = reached;
            assert!((video - audio).abs() <= apart, "{name} at {fps}: pictures {video}, sound {audio}");
        }
    }
}

#[test]
fn the_same_sound_makes_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    for ending in ["mp4", "mov", "webm"] {
        let film = |name: &str| {
            let path = folder.path().join(name).with_extension(ending);
            write_with(&path, &spec(32, 32, 9), Some(&tone(24_000, 2, 1.0)), |frame| noise(32, 32, frame)).expect(name);
            fs::read(path).expect("the film")
        };
        let bytes = film("a");
        assert!(bytes == film("b"), "{ending} differs from itself");
        assert!(bytes.windows(4).all(|word| word != b"Lavc"), "{ending} tells FFmpeg's version");
    }
}

#[test]
fn a_gif_is_silent_and_a_film_without_sound_has_one_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let [a, b] = ["a.gif", "b.gif"].map(|name| folder.path().join(name));
    write(&a, &spec(32, 32, 3), |frame| landscape(32, 32, frame)).expect("a gif");
    write_with(&b, &spec(32, 32, 3), Some(&tone(24_000, 2, 1.0)), |frame| landscape(32, 32, frame)).expect("a gif");
    assert!(fs::read(a).expect("a gif") == fs::read(b).expect("a gif"));
    for name in ["film.mp4", "film.mov", "film.webm"] {
        let path = folder.path().join(name);
        write(&path, &spec(32, 32, 3), |frame| landscape(32, 32, frame)).expect(name);
        assert_eq!(probe(&path)["streams"].as_array().map(Vec::len), Some(1), "{name}");
    }
}

#[test]
fn rates_that_a_codec_lacks_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |name: &str, rate: u32, words: [&str; 3]| {
        let path = folder.path().join(name);
        let sound = tone(rate, 2, 0.1);
        let begun = Film::create(&path, &spec(32, 32, 2), Some(&sound)).expect_err(name);
        for error in [begun, check_sound(&path, rate, 2).expect_err(name)] {
            assert_eq!(error.kind(), Kind::Usage, "{name} at {rate}");
            assert!(words.iter().all(|word| error.report().contains(word)), "{}", error.report());
        }
    };
    refused("film.webm", 44_100, ["Opus", "44100", "--no-sound"]);
    refused("film.webm", 96_000, ["Opus", "96000", "48000"]);
    refused("film.mp4", 192_000, ["AAC", "192000", "96000"]);
    refused("film.mov", 23_999, ["AAC", "23999", "24000"]);
    assert_eq!(names(folder.path()), [""; 0]);
    for rate in [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350] {
        let path = folder.path().join("film.mp4");
        check_sound(&path, rate, 1).expect("a rate of AAC");
        write_with(&path, &spec(32, 32, 2), Some(&tone(rate, 2, 0.1)), |frame| noise(32, 32, frame)).expect("a film");
        assert_eq!(probe(&path)["streams"][1]["sample_rate"], rate.to_string());
    }
    let known = encoders();
    assert!(known.iter().any(|encoder| encoder.name == "aac" && encoder.endings == [".mp4", ".mov"]), "{known:?}");
}

/// Runs only below [`a_killed_writer_leaves_nothing_under_the_name`]: writes half of a film, and waits.
#[test]
#[ignore = "a part of another test"]
fn writes_half_and_waits() {
    let path = std::env::var_os("TALKIE_TEST_FILM").expect("the name of the film");
    let spec = FilmSpec { frames: 64, ..spec(192, 192, 1) };
    let mut film = Film::create(Path::new(&path), &spec, Some(&tone(24_000, 2, 4.0))).expect("a film");
    for frame in 0..32 {
        film.push(&noise(192, 192, frame)).expect("a frame");
    }
    println!("half");
    std::thread::sleep(std::time::Duration::from_mins(2));
}

#[cfg(unix)]
#[test]
fn a_killed_writer_leaves_nothing_under_the_name() {
    for name in ["film.mp4", "film.webm", "frames"] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        let mut writer = Command::new(std::env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "media::sound::writes_half_and_waits", "--nocapture"])
            .env("TALKIE_TEST_FILM", &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program");
        let said = BufReader::new(writer.stdout.take().expect("its words"));
        assert!(said.lines().map_while(Result::ok).any(|line| line.contains("half")), "{name} was not begun");
        writer.kill().expect("it runs");
        writer.wait().expect("it ended");
        let left = names(folder.path());
        assert!(left.iter().all(|left| left.starts_with(&format!(".{name}.part-"))), "{left:?}");
        // The sound does not hold the pictures back until the end: they are in the file, but for those that the encoder
        // looks ahead to and FFmpeg's buffer of 256 kB. WebM is written in clusters of some seconds.
        let size = fs::metadata(folder.path().join(&left[0])).expect("a part").len();
        assert!(name != "film.mp4" || size > 250_000, "{name}: {size} bytes");
        write_with(&path, &spec(64, 64, 2), Some(&tone(24_000, 2, 1.0)), |frame| noise(64, 64, frame)).expect(name);
        assert_eq!(names(folder.path()), [name]);
    }
}
