//! Sound beside frames, what a listener would complain of, and what is no sound.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use talkie::Request;
use talkie::audio::{Waveform, check};
use talkie::error::Kind;
use talkie::media::{Film, Format, check_sound};
use talkie::pipeline::output::Output;
use talkie::progress::{Event, Progress};

use super::support::{names, noise, spec, write, write_with};
use crate::support::{choice, session};

fn sound(rate: u32, channels: &[&[f32]]) -> Waveform {
    Waveform { rate, channels: channels.iter().map(|channel| channel.to_vec()).collect() }
}

/// What a WAV file says of itself, and its samples.
fn read(path: &Path) -> (u16, u16, u32, Vec<f32>) {
    let data = fs::read(path).expect("a file");
    let half = |at: usize| u16::from_le_bytes([data[at], data[at + 1]]);
    let word = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().expect("four bytes"));
    assert_eq!((&data[..4], &data[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]));
    assert_eq!(word(4) as usize, data.len() - 8);
    assert_eq!((word(16), half(36), &data[38..42], word(42)), (18, 0, &b"fact"[..], 4));
    let (channels, rate) = (half(22), word(24));
    assert_eq!((word(28), half(32), half(34)), (rate * u32::from(channels) * 4, channels * 4, 32));
    assert_eq!((&data[50..54], word(54) as usize), (&b"data"[..], data.len() - 58));
    assert_eq!(word(46) * u32::from(channels) * 4, word(54));
    let samples = data[58..].chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")));
    (half(20), channels, rate, samples.collect())
}

#[test]
fn beside_frames_lies_every_sample_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("frames");
    // Four frames at 16 in a second are a quarter of a second: 2000 samples.
    let left: Vec<f32> = (0..2500).map(|at| (at as f32 * 0.1).sin() * 1.25).collect();
    let right: Vec<f32> = left.iter().map(|sample| sample * 1e-6).collect();
    let written = write_with(&path, &spec(16, 16, 4), Some(&sound(8_000, &[&left, &right])), |at| noise(16, 16, at));
    assert_eq!(written.expect("frames").codec, "PNG, WAV");
    let (format, channels, rate, samples) = read(&path.join("audio.wav"));
    assert_eq!((format, channels, rate, samples.len()), (3, 2, 8_000, 4000));
    assert!(samples.chunks_exact(2).zip(left.iter().zip(&right)).all(|(a, (l, r))| a == [*l, *r]));
    // A short one goes on in silence; an earlier sound goes with its film.
    write_with(&path, &spec(16, 16, 4), Some(&sound(8_000, &[&left[..10]])), |at| noise(16, 16, at)).expect("frames");
    let (_, channels, _, samples) = read(&path.join("audio.wav"));
    assert_eq!((channels, samples.len(), &samples[..10]), (1, 2000, &left[..10]));
    assert!(samples[10..].iter().all(|sample| *sample == 0.0));
    assert_eq!(names(&path).len(), 6);
    write(&path, &spec(16, 16, 1), |at| noise(16, 16, at)).expect("frames");
    assert_eq!(names(&path), ["frame-00000.png", "recipe.json"]);
}

#[test]
fn samples_of_frames_do_not_drift() {
    for (fps, frames, rate, samples) in [
        ("24", 121, 48_000, 242_000),
        ("24", 1, 16_000, 667),
        ("30000/1001", 30, 48_000, 48_048),
        ("30000/1001", 1, 24_000, 801),
        ("16", 0, 48_000, 0),
        ("1/1", usize::MAX, u32::MAX, usize::MAX),
    ] {
        let fps: talkie::fps::Fps = fps.parse().expect("a rate");
        assert_eq!(fps.samples(frames, rate), samples, "{frames} frames at {fps} of {rate}");
    }
}

#[test]
fn what_is_no_sound_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let table: [(Waveform, &[&str]); 8] = [
        (sound(24_000, &[&[0.0, f32::NAN], &[0.0; 2]]), &["NaN is sample 1 of the left channel", "--dtype f32"]),
        (sound(24_000, &[&[0.0; 2], &[f32::NEG_INFINITY, 0.0]]), &["-inf is sample 0 of the right channel"]),
        (sound(24_000, &[&[1e9]]), &["1000000000 is sample 0 of the only channel"]),
        (sound(0, &[&[0.0]]), &["0 samples a second", "vocoder"]),
        (sound(u32::MAX, &[&[0.0]]), &["4294967295 samples a second"]),
        (sound(24_000, &[]), &["channels of one length", "[]"]),
        (sound(24_000, &[&[0.0], &[0.0; 2]]), &["channels of one length", "[1, 2]"]),
        (sound(24_000, &[&[0.0], &[0.0], &[0.0]]), &["3 channels", "--no-sound"]),
    ];
    for (sound, words) in table {
        let error = Film::create(&folder.path().join("frames"), &spec(16, 16, 2), Some(&sound)).expect_err("no sound");
        assert!(words.iter().all(|word| error.report().contains(word)), "{}", error.report());
        assert_eq!(names(folder.path()), [""; 0]);
    }
    // Nothing is as long as no frame.
    let empty = Waveform { rate: 24_000, channels: vec![Vec::new(); 2] };
    assert!(empty.is_empty() && empty.check().is_ok() && empty.fitted(3).channels == [[0.0; 3]; 2]);
}

#[test]
fn a_plan_can_ask_for_the_place_of_a_sound() {
    for (name, rate, channels, kind) in [
        ("frames", 44_101, 2, None),
        ("film.gif", 44_101, 2, None),
        ("frames", 12, 2, Some(Kind::Failed)),
        ("frames", 48_000, 6, Some(Kind::Usage)),
        ("frames", 48_000, 0, Some(Kind::Failed)),
        ("film.avi", 48_000, 2, Some(Kind::Usage)),
    ] {
        let answer = check_sound(Path::new(name), rate, channels);
        assert_eq!(answer.err().map(|error| error.kind()), kind, "{name}, {channels} channels of {rate}");
    }
    assert!(Format::Frames.has_sound() && !Format::Gif.has_sound());
}

#[test]
fn what_a_listener_would_complain_of_is_said() {
    let wave: Vec<f32> = (0..8000).map(|at| (at as f32 * 0.3).sin() * 0.5).collect();
    let with = |change: &dyn Fn(usize, f32) -> f32| {
        let other: Vec<f32> = wave.iter().enumerate().map(|(at, sample)| change(at, *sample)).collect();
        check::notes(&sound(24_000, &[&wave, &other]))
    };
    assert_eq!(with(&|_, sample| sample), [""; 0]);
    // Two samples at full scale are a peak, three are cut off.
    assert_eq!(with(&|at, sample| if at == 7 || at == 8 { 1.0 } else { sample }), [""; 0]);
    let notes = with(&|at, sample| if (7..10).contains(&at) { -1.0 } else { sample });
    assert_eq!(notes, ["the sound clips: 3 samples (0.02 %) are at full scale or beyond"]);
    let notes = with(&|at, sample| if at == 7 { -2.0 } else { sample });
    assert_eq!(notes, ["the sound clips: 1 sample (0.01 %) is at full scale or beyond, the loudest +6.0 dB above it"]);
    assert_eq!(with(&|_, sample| sample + 0.009), [""; 0]);
    assert_eq!(
        with(&|_, sample| sample - 0.25),
        ["the sound is off its centre (DC offset): -0.25 in the right channel"]
    );

    let quiet = |value: f32| check::notes(&sound(24_000, &[&[0.0, value, 0.0, -value]]));
    assert_eq!(quiet(0.0), ["the sound is silent: it never moves"]);
    assert_eq!(quiet(0.0001), ["the sound is silent: its peak is -80 dB of full scale"]);
    assert_eq!(quiet(0.002), [""; 0]);
    assert_eq!(check::notes(&Waveform { rate: 24_000, channels: vec![Vec::new()] }).len(), 1);
    // A constant is as silent as nothing.
    let constant = check::notes(&sound(24_000, &[&[0.5; 100]]));
    assert_eq!((constant.len(), constant[0].contains("silent"), constant[1].contains("DC")), (2, true, true));
}

/// The notes of a film of two seconds that is begun at `output`, and the film in memory where there is none.
fn notes(output: Option<&str>, sound: Waveform) -> (Vec<String>, Option<Waveform>) {
    let folder = tempfile::tempdir().expect("a folder");
    let request = Request {
        prompt: "a red fox walks".into(),
        size: Some("48x32".parse().expect("a size")),
        frames: Some(33),
        steps: Some(1),
        output: output.map(|name| folder.path().join(name)),
        ..Request::default()
    };
    let mut notes = Vec::new();
    let mut on_event = |event: &Event| {
        if let Event::Note { message } = event {
            notes.push(message.clone());
        }
        ControlFlow::Continue(())
    };
    let plan = session(&choice("wan21-t2v"), folder.path()).plan(&request).expect("a plan");
    let mut progress = Progress::new(&mut on_event);
    let begun = Output::create(&plan, "{}", Some(sound), &mut progress).expect("a film");
    let film = if output.is_none() { begun.finish(&mut progress).expect("a film").waveform } else { None };
    (notes, film)
}

#[test]
fn the_film_says_what_becomes_of_its_sound() {
    let clipped = sound(24_000, &[&vec![1.0; 49_500]]);
    let (said, kept) = notes(None, clipped.clone());
    assert!(said.iter().any(|note| note.contains("clips")), "{said:?}");
    assert_eq!(kept, Some(clipped.clone()));
    assert!(notes(Some("frames"), clipped.clone()).0.iter().any(|note| note.contains("clips")));
    let wave: Vec<f32> = (0..24_000).map(|at| (at as f32 * 0.3).sin() * 0.5).collect();
    let (said, _) = notes(Some("frames"), sound(24_000, &[&wave]));
    assert_eq!(said, ["the sound ends after 1.00 of 2.06 seconds: the rest is silent"]);
    if cfg!(feature = "ffmpeg") {
        assert_eq!(notes(Some("film.gif"), clipped).0, ["a GIF has no sound: the soundtrack is left out"]);
    }
}
