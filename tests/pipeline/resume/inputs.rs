//! Files of a request that change while its run is waiting.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use super::bench;
use crate::support::command::{Bench, copy};
use crate::support::fixture;

const TRANSFORMER: &str = "model/transformer/diffusion_pytorch_model.safetensors";
const VAE: &str = "model/vae/diffusion_pytorch_model.safetensors";
const SAID: &str = "was written again since the run began";

/// Begins a film that stops where it meets a value that is no number, and takes that value away again.
fn stop(bench: &Bench, file: &str, tensor: &str, arguments: &[&str], words: &[&str]) {
    let whole = fs::read(bench.path(file)).expect(file);
    bench.poison(file, tensor, f32::NAN);
    bench.generate(arguments).refused(1, words);
    fs::write(bench.path(file), whole).expect(file);
    assert_eq!(bench.runs().len(), 1);
}

/// As if somebody had written a file again, with the same content.
fn touch(bench: &Bench, file: &str) {
    let file = File::options().append(true).open(bench.path(file)).expect(file);
    file.set_modified(SystemTime::now() + Duration::from_secs(10)).expect("a time");
}

/// Goes on with the run. Whether it said that the file was written again.
#[track_caller]
fn says(bench: &Bench, what: &str, file: &str) -> bool {
    let done = bench.run(&["resume"]);
    done.worked(&[]);
    let said = done.stderr.lines().filter(|line| line.contains(SAID)).collect::<Vec<_>>();
    assert!(said.iter().all(|line| line.contains(what) && line.contains(file)), "{done}");
    assert!(said.len() <= 1, "{done}");
    said.len() == 1
}

/// A run with a LoRA, stopped in its first step.
fn with_lora() -> Bench {
    let bench = Bench::new("layouts/diffusers");
    copy(&fixture("loras"), &bench.path("loras"));
    let arguments = ["--lora", "loras/peft.safetensors", "--flow-shift", "3"];
    stop(&bench, TRANSFORMER, "proj_out.bias", &arguments, &["no longer finite after step 1"]);
    bench
}

#[test]
fn a_lora_that_was_changed_is_mentioned() {
    assert!(!says(&with_lora(), "", ""), "nothing was changed");
    let bench = with_lora();
    touch(&bench, "loras/peft.safetensors");
    assert!(says(&bench, "the LoRA", "peft.safetensors"));
    let bench = with_lora();
    fs::copy(bench.path("loras/kohya.safetensors"), bench.path("loras/peft.safetensors")).expect("a LoRA");
    assert!(says(&bench, "the LoRA", "peft.safetensors"), "another file under its name");
}

#[test]
fn a_lora_that_is_gone_is_an_error() {
    let bench = with_lora();
    let (place, away) = (bench.path("loras/peft.safetensors"), bench.path("loras/away.safetensors"));
    fs::rename(&place, &away).expect("a LoRA");
    bench.run(&["resume"]).refused(1, &["cannot open the LoRA", "peft.safetensors", "put it back"]);
    fs::rename(&away, &place).expect("a LoRA");
    assert!(!says(&bench, "", ""), "it is the same file");
}

#[test]
fn a_picture_counts_until_its_latents_are_kept() {
    let arguments = ["--image", "picture.png", "--size", "64x64"];
    let before = || {
        let bench = bench("wan22-ti2v-5b");
        stop(&bench, VAE, "quant_conv.bias", &arguments, &["image's latents"]);
        bench
    };
    let after = || {
        let bench = bench("wan22-ti2v-5b");
        stop(&bench, TRANSFORMER, "proj_out.bias", &arguments, &["no longer finite after step 1"]);
        bench
    };
    assert!(!says(&before(), "", ""), "nothing was changed");
    let bench = before();
    touch(&bench, "picture.png");
    assert!(says(&bench, "the picture", "picture.png"));
    let bench = after();
    touch(&bench, "picture.png");
    assert!(!says(&bench, "", ""), "it is not read again");
    for bench in [before(), after()] {
        fs::rename(bench.path("picture.png"), bench.path("away.png")).expect("a picture");
        bench.run(&["resume"]).refused(1, &["the picture of the run is gone", "picture.png", "put the file back"]);
        assert_eq!((bench.left().len(), bench.runs().len()), (0, 1));
    }
}

#[test]
fn a_noise_counts_until_the_first_step_is_kept() {
    // A film's latents will do for one.
    let noisy = |model: &str| {
        let bench = bench(model);
        bench.generate(&["--save-latents", "noise.safetensors", "-o", "out/before"]).worked(&[]);
        bench
    };
    let bench = noisy("wan21-t2v");
    let arguments = ["--noise", "noise.safetensors"];
    stop(&bench, TRANSFORMER, "proj_out.bias", &arguments, &["no longer finite after step 1"]);
    touch(&bench, "noise.safetensors");
    assert!(says(&bench, "the noise", "noise.safetensors"));

    let bench = noisy("wan22-a14b");
    let second = "model/transformer_2/diffusion_pytorch_model.safetensors";
    let arguments =
        [&arguments[..], &["--steps", "4", "--sampler", "euler", "--set", "sigmas=1,0.95,0.4,0.2"]].concat();
    stop(&bench, second, "proj_out.bias", &arguments, &["no longer finite after step 3"]);
    touch(&bench, "noise.safetensors");
    assert!(!says(&bench, "", ""), "it is not read again");
}

#[test]
fn once_only_the_decode_is_left_nothing_counts() {
    let bench = bench("wan22-ti2v-5b");
    let arguments = ["--image", "picture.png", "--size", "64x64"];
    stop(&bench, VAE, "decoder.conv_out.bias", &arguments, &["frames that are not numbers"]);
    fs::remove_file(bench.path("picture.png")).expect("a picture");
    assert!(!says(&bench, "", ""));
}
