//! LTX-2 folders whose parts do not belong together, and films without sound.

use std::fs;

use crate::support::command::Bench;
use crate::support::fixture;

const FILM: [&str; 8] = ["--size", "64x64", "--frames", "9", "--guidance", "1", "--set", "audio_guidance=1"];

/// A small film of an LTX-2 folder.
pub(super) fn film<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let plain = ["--set", "stg_scale=0", "--set", "audio_stg_scale=0", "--set", "modality_scale=1"];
    [&FILM[..], &plain, &["--set", "audio_modality_scale=1"], more].concat()
}

fn part_of(bench: &Bench, release: &str, part: &str) {
    for entry in fs::read_dir(fixture(release).join(part)).expect(part).flatten() {
        fs::copy(entry.path(), bench.path("model").join(part).join(entry.file_name())).expect(part);
    }
}

#[test]
fn a_vocoder_of_another_release_is_refused() {
    for (own, other) in [("ltx2", "ltx23"), ("ltx23", "ltx2")] {
        let bench = Bench::new(own);
        part_of(&bench, other, "vocoder");
        bench.generate(&film(&[])).refused(1, &["vocoder", "audio autoencoder", "LTX-2.0", "LTX-2.3"]);
        assert!(bench.left().is_empty() && bench.runs().is_empty());
    }
}

#[test]
fn a_vocoder_of_other_rows_is_refused() {
    let bench = Bench::new("ltx23");
    bench.json("model/audio_vae/config.json", |config| config["mel_hop_length"] = 80.into());
    bench.generate(&film(&[])).refused(1, &["vocoder", "audio autoencoder", "80 samples apart"]);
}

#[test]
fn a_text_encoder_of_another_size_is_named_with_both_sizes() {
    let bench = Bench::new("ltx23");
    bench.json("model/connectors/config.json", |config| {
        config["caption_channels"] = 3840.into();
        config["text_proj_in_factor"] = 49.into();
    });
    bench.json("model/text_encoder/config.json", |config| {
        let text = config.get_mut("text_config").expect("a text model");
        text["hidden_size"] = 2560.into();
        text["num_hidden_layers"] = 34.into();
        text["layer_types"] = vec!["full_attention"; 34].into();
    });
    bench.generate(&film(&[])).refused(1, &["Gemma 3 4B", "Gemma 3 12B"]);
}

#[test]
fn without_parts_for_sound_the_film_is_silent_and_says_so() {
    for parts in [&["vocoder"][..], &["audio_vae", "vocoder"]] {
        let bench = Bench::new("ltx2");
        for part in parts {
            fs::remove_dir_all(bench.path("model").join(part)).expect(part);
        }
        let done = bench.generate(&film(&[]));
        done.worked(&["will be silent", parts[0]]);
        assert!(!bench.path("out/film/audio.wav").exists());
    }
}

#[test]
#[cfg(feature = "ffmpeg")]
fn a_rate_that_the_film_cannot_have_is_refused_before_anything_is_computed() {
    let bench = Bench::new("ltx2");
    bench.json("model/audio_vae/config.json", |config| config["sample_rate"] = 20_000.into());
    bench.json("model/vocoder/config.json", |config| config["output_sampling_rate"] = 30_000.into());
    for (output, codec) in [("out/film.mp4", "AAC"), ("out/film.mov", "AAC"), ("out/film.webm", "Opus")] {
        bench.generate(&film(&["-o", output])).refused(2, &[codec, "30000 samples", "--no-sound"]);
        assert!(bench.left().is_empty() && bench.runs().is_empty());
    }
    bench.generate(&film(&["-o", "out/film.mp4", "--no-sound"])).worked(&[]);
    bench.generate(&film(&["-o", "out/frames"])).worked(&[]);
}

#[test]
fn sound_can_be_left_out() {
    let bench = Bench::new("ltx2");
    bench.generate(&film(&["--no-sound"])).worked(&[]);
    assert!(!bench.path("out/film/audio.wav").exists() && bench.path("out/film/frame-00008.png").exists());
}

#[test]
fn sound_that_is_no_number_stops_the_run() {
    let bench = Bench::new("ltx2");
    bench.poison("model/transformer/diffusion_pytorch_model.safetensors", "audio_proj_out.bias", f32::NAN);
    bench.generate(&film(&[])).refused(1, &["no longer finite after step 1 of 2"]);
    assert!(bench.left().is_empty());
}

#[test]
fn latents_with_sound_that_is_no_number_are_refused() {
    let bench = Bench::new("ltx2");
    bench.generate(&film(&["--save-latents", "kept.safetensors"])).worked(&[]);
    bench.poison("kept.safetensors", "audio", f32::NAN);
    let arguments = ["decode", "kept.safetensors", "-m", "model", "-o", "out/again/"];
    bench.run(&arguments).refused(1, &["`audio` holds values that are not finite", "kept.safetensors"]);
    // Without sound at all the pictures are made, and the silence is mentioned.
    bench.tensors("kept.safetensors", |tensors| {
        tensors.remove("audio");
    });
    bench.run(&arguments).worked(&["hold no sound"]);
}

#[test]
fn parameters_of_sound_are_refused_where_there_is_none() {
    let bench = Bench::new("wan21-t2v");
    for set in ["stg_scale=1", "audio_guidance=2", "stages=2", "image_crf=0"] {
        bench.generate(&["--set", set]).refused(2, &["makes no sound"]);
    }
    bench.generate(&["--preset", "distilled"]).refused(2, &["no preset `distilled`"]);
}

#[test]
fn presets_stages_and_sigmas_are_checked() {
    let bench = Bench::new("ltx2");
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--preset", "slow"], &["no preset `slow`", "dev and distilled"]),
        (&["--preset", "distilled", "--steps", "5"], &["`--steps 5` and the 8 steps"]),
        (&["--set", "stages=3"], &["1 or 2"]),
        (&["--set", "stages=1", "--set", "refine_sigmas=0.5"], &["no use with one stage"]),
        (&["--set", "rescale=2"], &["`rescale` must be a number from 0 to 1, not 2"]),
        (&["--set", "image_crf=60"], &["`image_crf` must be a number from 0 to 51, not 60"]),
    ];
    for (arguments, words) in cases {
        bench.generate(&[&["--size", "64x64"], arguments].concat()).refused(2, words);
    }
    fs::remove_dir_all(bench.path("model/latent_upsampler")).expect("an upsampler");
    bench.generate(&film(&["--set", "stages=2"])).refused(2, &["no latent upsampler"]);
}
