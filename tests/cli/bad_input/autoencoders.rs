//! Autoencoders of another release than the model, told by the means and deviations of their latents.

use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::nothing_left;
use super::sound::film;
use crate::support::command::{Bench, copy};

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// A bench with a second autoencoder, which is the model's own as yet.
fn bench(model: &str) -> Bench {
    let bench = Bench::new(model);
    copy(&bench.path("model/vae"), &bench.path("other"));
    bench
}

#[test]
fn wans_are_compared_by_their_configurations() {
    let arguments = ["--vae", "other"];
    for model in ["wan21-t2v", "wan22-ti2v-5b"] {
        let bench = bench(model);
        bench.generate(&arguments).worked(&[]);
        // In bf16 a number is not quite what it was.
        let near = |value: &mut Value| *value = json!(value.as_f64().expect("a number") * 1.003);
        bench.json("other/config.json", |config| near(&mut config["latents_std"][2]));
        bench.generate(&arguments).worked(&[]);
        for (key, words) in [("latents_mean", "a mean of 7.5"), ("latents_std", "a deviation of 7.5")] {
            let bench = self::bench(model);
            bench.json("other/config.json", |config| config[key][3] = json!(7.5));
            let done = bench.generate(&arguments);
            nothing_left(
                &bench,
                done.refused(1, &["another release", "channel 3", words, "/other", "model/vae", "--vae"]),
            );
            assert_eq!(bench.runs(), [""; 0], "a run began");
        }
    }
}

#[test]
fn those_of_ltx_2_are_compared_by_what_lies_beside_their_weights() {
    let bench = bench("ltx2");
    let (folder, file) = ("other", "other/diffusion_pytorch_model.safetensors");
    let places = [folder, file];
    for place in places {
        bench.generate(&film(&["--vae", place])).worked(&[]);
    }
    bench.poison(file, "latents_std", 9.0);
    for place in places {
        let done = bench.generate(&film(&["--vae", place, "-o", "out/second"]));
        done.refused(1, &["another release", "channel 0", "a deviation of 9", place, "model/vae"]);
    }
    assert_eq!((bench.left(), bench.runs().len()), (vec!["film".to_owned()], 0));
}

#[test]
fn statistics_that_are_none_are_refused_before_anything_is_computed() {
    let file = format!("model/vae/{WEIGHTS}");
    for (tensor, value) in
        [("latents_std", 0.0), ("latents_std", -1.0), ("latents_std", f32::NAN), ("latents_mean", f32::INFINITY)]
    {
        let bench = Bench::new("ltx2");
        bench.generate(&film(&["--save-latents", "latents.safetensors", "-o", "out/whole"])).worked(&[]);
        bench.poison(&file, tensor, value);
        bench.generate(&film(&[])).refused(1, &["latents_mean", "latents_std", "must be 8 finite numbers", "vae"]);
        let decode = ["decode", "latents.safetensors", "-m", "model", "-o", "out/film"];
        bench.run(&decode).refused(1, &["latents_mean", "latents_std", "vae"]);
        assert_eq!((bench.left(), bench.runs().len()), (vec!["whole".to_owned()], 0));
    }
    let bench = Bench::new("ltx2");
    bench.tensors(&file, |tensors| {
        tensors.insert("latents_std".into(), (Dtype::F32, vec![7], vec![0x3f; 28]));
    });
    nothing_left(&bench, bench.generate(&film(&[])).refused(1, &["must be 8 finite numbers"]));
    assert_eq!(bench.runs(), [""; 0], "a run began");
}
