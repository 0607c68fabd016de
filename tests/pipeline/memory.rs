//! The memory of a decode does not grow with the length of the film.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use candle_core::{DType, Device};
use talkie::families::ltx::vae::{Config, Decoder};
use talkie::plan::BASE;
use talkie::sampling::noise;
use talkie::weights::Weights;
use talkie::weights::bundle;

use crate::support::command::Bench;
use crate::support::fixture;

/// Bytes that a process had in memory at its peak: the kernel's own count, read until the process ends.
fn peak(child: &mut Child) -> u64 {
    let path = format!("/proc/{}/status", child.id());
    let read = || {
        let status = std::fs::read_to_string(&path).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?.to_owned();
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let mut most = 0;
    while child.try_wait().expect("a process").is_none() {
        most = most.max(read().unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    most * 1024
}

/// The peak of `talkie decode` of latents of `frames` frames, in bytes.
fn decode(bench: &Bench, latents: &Path, arguments: &[&str]) -> u64 {
    let latents = latents.to_string_lossy();
    let mut child = bench.command(&[&["decode", &latents, "-m", "model"], arguments].concat()).spawn().expect("talkie");
    let peak = peak(&mut child);
    assert!(child.wait().expect("an end").success());
    peak
}

/// Random latents of `frames` frames in a file.
fn random(bench: &Bench, latent: [usize; 3], frames: usize) -> PathBuf {
    let [channels, height, width] = latent;
    let path = bench.path(&format!("{frames}.safetensors"));
    let shape = vec![1, channels, (frames - 1) / 4 + 1, height, width];
    let video = noise::randn(shape, 7).and_then(|noise| noise.to_dtype(DType::F32)).expect("noise");
    let video = video.to_device(&Device::Cpu).expect("noise");
    bundle::save(&path, &[("video".to_owned(), video)], [].into()).expect("latents");
    path
}

/// 33 frames take no more than a tenth more than 17, of the same size.
fn does_not_grow(model: &str, latent: [usize; 3], outputs: &[&[&str]]) {
    let bench = Bench::new(model);
    let (short, long) = (random(&bench, latent, 17), random(&bench, latent, 33));
    for output in outputs {
        let (short, long) = (decode(&bench, &short, output), decode(&bench, &long, output));
        let grown = long as f64 / short as f64;
        println!("{model} {output:?}: {} and {} MB, {grown:.3}", short / 1_000_000, long / 1_000_000);
        assert!(grown < 1.1, "{model} {output:?}: {short} and {long} bytes");
    }
}

const WHOLE: &[&str] = &["-o", "out/film"];
const TILES: &[&str] = &["-o", "out/film", "--set", "tile=128"];
/// What an encoder holds back counts, too.
const FILM: &[&str] = &["-o", if cfg!(feature = "ffmpeg") { "out/film.mp4" } else { "out/film" }];
const WEB: &[&str] = &["-o", if cfg!(feature = "ffmpeg") { "out/film.webm" } else { "out/film" }];

#[test]
#[cfg(target_os = "linux")]
fn of_the_autoencoder_of_wan_2_1_does_not_grow() {
    does_not_grow("wan21-t2v", [16, 32, 32], &[FILM, TILES]);
}

#[test]
#[cfg(target_os = "linux")]
fn of_the_autoencoder_of_wan_2_2_does_not_grow() {
    does_not_grow("wan22-ti2v-5b", [48, 20, 20], &[FILM, TILES, WEB]);
}

/// With its sound: the decoder looks ahead and so does H.264's encoder, so that a film of less than 65 frames takes less.
#[cfg(target_os = "linux")]
fn with_sound(model: &str) {
    let bench = Bench::new(model);
    let film = |frames: usize| {
        let draw = |shape: &[usize]| noise::randn(shape.to_vec(), 7).expect("noise");
        let video = draw(&[1, 8, (frames - 1) / 8 + 1, 8, 8]);
        let audio = draw(&[1, (frames as f64 / 24.0 * 25.0).round() as usize, 4]);
        let path = bench.path(&format!("{frames}.safetensors"));
        bundle::save(&path, &[("video".to_owned(), video), ("audio".to_owned(), audio)], [].into()).expect("latents");
        path
    };
    let (short, long) = (decode(&bench, &film(65), FILM), decode(&bench, &film(113), FILM));
    println!("{model}: {} and {} MB", short / 1_000_000, long / 1_000_000);
    assert!(long as f64 / (short as f64) < 1.1, "{model}: {short} and {long} bytes");
}

#[test]
#[cfg(target_os = "linux")]
fn of_a_film_of_ltx_2_with_sound_does_not_grow() {
    with_sound("ltx2");
}

#[test]
#[cfg(target_os = "linux")]
fn of_a_film_of_ltx_2_3_with_sound_does_not_grow() {
    with_sound("ltx23");
}

/// The variable that tells the test binary to decode, as a process of its own, and how many latent frames.
const LATENT_FRAMES: &str = "TALKIE_TEST_LATENT_FRAMES";

/// Not a test of its own: what [`of_the_stream_of_ltx_does_not_grow`] weighs.
#[test]
#[ignore = "no test of its own: the process that another one weighs"]
fn a_stream_of_ltx_decodes() {
    let Some(count) = std::env::var(LATENT_FRAMES).ok().and_then(|count| count.parse::<usize>().ok()) else {
        return println!("skipped: it needs {LATENT_FRAMES}, which the other test sets");
    };
    let folder = fixture("ltx2/vae");
    let file = folder.join("diffusion_pytorch_model.safetensors");
    let weights = Weights::open(&[file], &Device::Cpu, DType::F32).expect("weights");
    let text = std::fs::read_to_string(folder.join("config.json")).expect("a configuration");
    let config = Config::parse(&text).expect("a configuration");
    let decoder = Decoder::load(&config, &weights).expect("a decoder");
    let latent = noise::randn(vec![1, config.latent_channels, 1, 12, 12], 7).expect("noise");
    let latent = latent.to_dtype(DType::F32).and_then(|latent| latent.to_device(&Device::Cpu)).expect("noise");
    let mut stream = decoder.stream(None);
    let mut frames = 0;
    for _ in 0..count {
        frames += stream.push(&latent).expect("frames").map_or(0, |frames| frames.dim(2).expect("time"));
    }
    while let Some(rest) = stream.finish().expect("the rest") {
        frames += rest.dim(2).expect("time");
    }
    assert_eq!(frames, 8 * (count - 1) + 1);
}

/// The decoder looks ahead: what it holds back for that is as much at the end of a long film as of a short one.
#[test]
#[cfg(target_os = "linux")]
fn of_the_stream_of_ltx_does_not_grow() {
    let decode = |count: usize| {
        let mut command = std::process::Command::new(std::env::current_exe().expect("this test"));
        command
            .args(["--exact", "pipeline::memory::a_stream_of_ltx_decodes", "--ignored", "--quiet"])
            .env(LATENT_FRAMES, count.to_string());
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("a process");
        let peak = peak(&mut child);
        let done = child.wait_with_output().expect("an end");
        // A name that is no test's is no failure.
        assert!(done.status.success() && String::from_utf8_lossy(&done.stdout).contains("1 passed"), "{done:?}");
        peak
    };
    let (short, long) = (decode(9), decode(33));
    println!("{} and {} MB", short / 1_000_000, long / 1_000_000);
    assert!(long as f64 / (short as f64) < 1.1, "{short} and {long} bytes");
}

#[test]
#[cfg(target_os = "linux")]
fn is_less_in_tiles_than_in_whole_frames() {
    let bench = Bench::new("wan21-t2v");
    let latents = random(&bench, [16, 64, 64], 5);
    let (whole, tiles) = (decode(&bench, &latents, WHOLE), decode(&bench, &latents, TILES));
    println!("whole frames: {} MB, tiles: {} MB", whole / 1_000_000, tiles / 1_000_000);
    let beyond = |peak: u64| peak.saturating_sub(BASE as u64);
    assert!(beyond(tiles) < beyond(whole) / 3 * 2, "{whole} bytes in whole frames, {tiles} in tiles");
}
