//! Folders that are no model, or not a whole one, and configurations that no network has.

use std::fs;

use serde_json::{Value, json};

use super::{nothing_left, refused};
use crate::support::command::Bench;

const INDEX: &str = "model/model_index.json";
const TRANSFORMER: &str = "model/transformer/config.json";
const TEXT: &str = "model/text_encoder/config.json";
const VAE: &str = "model/vae/config.json";
const SCHEDULER: &str = "model/scheduler/scheduler_config.json";
const TOKENIZER: &str = "model/tokenizer/tokenizer.json";

#[test]
fn a_model_that_is_not_there_is_named() {
    let bench = Bench::new("wan21-t2v");
    fs::create_dir(bench.path("empty")).expect("a folder");
    let table: &[(&str, i32, &[&str])] = &[
        ("./nowhere", 2, &["no model folder", "nowhere", "talkie models"]),
        ("no-such-model", 2, &["no-such-model", "talkie models"]),
        ("wan2.1-t2v-1.3", 2, &["did you mean", "wan2.1-t2v-1.3b"]),
        ("org/name", 1, &["org/name", "HF_HUB_OFFLINE"]),
        ("wan2.1-t2v-1.3b", 1, &["HF_HUB_OFFLINE"]),
        ("empty", 1, &["model_index.json", "empty", "-Diffusers"]),
        ("model/model_index.json", 2, &["no model folder"]),
        ("", 2, &["no model"]),
    ];
    for (model, code, words) in table {
        nothing_left(&bench, bench.generate(&["-m", model]).refused(*code, words));
    }
}

#[test]
fn a_model_with_a_part_missing_is_refused() {
    let remove = |name: &'static str| {
        move |bench: &Bench| {
            let path = bench.path(name);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect(name);
        }
    };
    let forget = |part: &'static str| {
        move |bench: &Bench| bench.json(INDEX, |index| drop(index.as_object_mut().expect("an object").remove(part)))
    };
    for part in ["transformer", "text_encoder", "vae", "scheduler", "tokenizer"] {
        let folder = format!("model/{part}").leak();
        refused(
            "wan21-t2v",
            &[],
            &[
                ("no folder", &remove(folder), &[part, "is missing"]),
                ("not in the index", &forget(part), &[&format!("no `{part}`")]),
            ],
        );
    }
    refused(
        "wan21-t2v",
        &[],
        &[
            ("no configuration", &remove(TRANSFORMER), &["transformer", "config.json"]),
            ("no weights", &remove("model/vae/diffusion_pytorch_model.safetensors"), &["vae", "no weights"]),
            ("no scheduler", &remove(SCHEDULER), &["scheduler"]),
            ("no tokenizer.json", &remove(TOKENIZER), &["tokenizer.json", "spiece.model"]),
        ],
    );
    let shard = "model/transformer/diffusion_pytorch_model-00002-of-00003.safetensors";
    refused(
        "wan22-a14b",
        &[],
        &[
            ("a shard", &remove(shard), &["00002-of-00003.safetensors", "missing"]),
            ("the second expert", &forget("transformer_2"), &["transformer_2", "boundary_ratio"]),
            ("the boundary", &forget("boundary_ratio"), &["transformer_2", "boundary_ratio"]),
            ("the second expert's folder", &remove("model/transformer_2"), &["transformer_2", "is missing"]),
        ],
    );
}

/// Puts a value into a JSON file, at a pointer.
fn put(file: &'static str, key: &'static str, value: Value) -> impl Fn(&Bench) {
    move |bench| bench.json(file, |json| json[key] = value.clone())
}

#[test]
fn a_family_or_class_that_talkie_does_not_run_is_refused() {
    let class = |part, class: &str| put(INDEX, part, json!(["diffusers", class]));
    refused(
        "wan21-t2v",
        &[],
        &[
            (
                "family",
                &put(INDEX, "_class_name", json!("StableDiffusionPipeline")),
                &["StableDiffusionPipeline", "family"],
            ),
            ("no family", &put(INDEX, "_class_name", json!(7)), &["family"]),
            (
                "transformer",
                &class("transformer", "WanVACETransformer3DModel"),
                &["WanVACETransformer3DModel", "variant"],
            ),
            ("autoencoder", &class("vae", "AutoencoderKL"), &["AutoencoderKL", "AutoencoderKLWan"]),
            ("text encoder", &class("text_encoder", "T5EncoderModel"), &["T5EncoderModel", "UMT5EncoderModel"]),
            ("text encoder's type", &put(TEXT, "model_type", json!("t5")), &["`t5`", "umt5"]),
            (
                "CLIP",
                &put(TRANSFORMER, "image_dim", json!(1280)),
                &["Wan 2.1 image-to-video", "CLIP", "wan2.2-i2v-a14b"],
            ),
            (
                "a part outside",
                &put(INDEX, "../elsewhere", json!(["diffusers", "AutoencoderKLWan"])),
                &["../elsewhere"],
            ),
        ],
    );
}

#[test]
fn numbers_that_no_network_has_are_refused() {
    let huge = json!(1_000_000_000_000_000_000_u64);
    let table: &[(&str, &str, Value)] = &[
        (TRANSFORMER, "num_layers", json!(1e9 as u64)),
        (TRANSFORMER, "num_layers", json!(-1)),
        (TRANSFORMER, "num_attention_heads", json!(0)),
        (TRANSFORMER, "num_attention_heads", huge.clone()),
        (TRANSFORMER, "attention_head_dim", json!("128")),
        (TRANSFORMER, "attention_head_dim", json!(15)),
        (TRANSFORMER, "patch_size", json!([0, 0, 0])),
        (TRANSFORMER, "patch_size", json!([1, 2])),
        (TRANSFORMER, "patch_size", json!([1, 2, u64::MAX])),
        (TRANSFORMER, "ffn_dim", huge.clone()),
        (TRANSFORMER, "freq_dim", json!(0)),
        (TRANSFORMER, "eps", json!(-1.0)),
        (TRANSFORMER, "qk_norm", json!("layer_norm")),
        (TRANSFORMER, "text_dim", json!(33)),
        (TRANSFORMER, "in_channels", json!([16])),
        (TEXT, "num_layers", json!(1e9 as u64)),
        (TEXT, "num_heads", huge.clone()),
        (TEXT, "d_model", json!(0)),
        (TEXT, "d_ff", json!("56")),
        (TEXT, "relative_attention_num_buckets", json!(0)),
        (TEXT, "relative_attention_max_distance", json!(1)),
        (TEXT, "layer_norm_epsilon", json!(0)),
        (TEXT, "feed_forward_proj", json!("relu")),
        (TEXT, "vocab_size", huge.clone()),
        (VAE, "base_dim", json!(0)),
        (VAE, "base_dim", huge.clone()),
        (VAE, "z_dim", json!(0)),
        (VAE, "dim_mult", json!([])),
        (VAE, "dim_mult", json!([1, 2, 4, 0])),
        (VAE, "dim_mult", json!([1, 2, 4, u64::MAX])),
        (VAE, "dim_mult", json!(vec![1; 70])),
        (VAE, "num_res_blocks", json!(-3)),
        (VAE, "latents_std", json!([0.0])),
        (VAE, "latents_mean", json!("0")),
        (VAE, "temperal_downsample", json!(vec![true; 9])),
        (VAE, "patch_size", json!(0)),
        (VAE, "attn_scales", json!([1.0])),
        (SCHEDULER, "_class_name", json!("EulerDiscreteScheduler")),
        (SCHEDULER, "prediction_type", json!("epsilon")),
        (SCHEDULER, "use_karras_sigmas", json!(true)),
        (SCHEDULER, "solver_order", json!(9)),
        (SCHEDULER, "solver_order", json!(-1)),
        (SCHEDULER, "num_train_timesteps", json!(4000)),
        (INDEX, "scheduler", json!(["diffusers", 7])),
    ];
    for (file, key, value) in table {
        let bench = Bench::new("wan21-t2v");
        bench.json(file, |json| json[*key] = value.clone());
        println!("{file}: {key} = {value}");
        nothing_left(&bench, bench.generate(&[]).refused(1, &[]));
        assert_eq!(bench.runs(), [""; 0], "a run began with {key} = {value}");
    }
    // A shift from the folder is refused as one from the user.
    let bench = Bench::new("wan21-t2v");
    bench.json(SCHEDULER, |json| json["flow_shift"] = json!(-3.0));
    bench.generate(&[]).refused(2, &["flow shift", "-3"]);
}

#[test]
fn files_that_are_no_json_are_refused() {
    let write =
        |file: &'static str, text: Vec<u8>| move |bench: &Bench| fs::write(bench.path(file), &text).expect(file);
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(20_000_000)).into_bytes();
    let deep = "[".repeat(200_000).into_bytes();
    let latin1 = b"{\"_class_name\": \"W\xe4n\"}".to_vec();
    let python = b"{\"eps\": NaN}".to_vec();
    for file in [INDEX, TRANSFORMER, TEXT, VAE, SCHEDULER] {
        let name = file.rsplit('/').next().expect("a name");
        refused(
            "wan21-t2v",
            &[],
            &[
                ("empty", &write(file, Vec::new()), &[name, "not valid JSON"]),
                ("text", &write(file, b"hello".to_vec()), &[name, "not valid JSON"]),
                ("a list", &write(file, b"[1, 2]".to_vec()), &[]),
                ("20 MB", &write(file, large.clone()), &[name, "too many"]),
                ("deep", &write(file, deep.clone()), &[name, "recursion"]),
                ("Latin 1", &write(file, latin1.clone()), &[name, "UTF-8"]),
                ("NaN", &write(file, python.clone()), &[name, "not valid JSON"]),
            ],
        );
    }
}

#[test]
fn an_index_of_shards_is_not_trusted() {
    const SHARDS: &str = "model/transformer/diffusion_pytorch_model.safetensors.index.json";
    let names = |name: &'static str| {
        move |bench: &Bench| {
            bench.json(SHARDS, |json| json["weight_map"]["proj_out.bias"] = json!(name));
        }
    };
    let large = |bench: &Bench| fs::write(bench.path(SHARDS), vec![b' '; 20_000_000]).expect("a file");
    refused(
        "wan22-a14b",
        &[],
        &[
            (
                "above",
                &names("../transformer_2/diffusion_pytorch_model.safetensors"),
                &["../transformer_2", "plain file name"],
            ),
            ("absolute", &names("/etc/passwd"), &["/etc/passwd", "plain file name"]),
            ("a folder", &names(".."), &["plain file name"]),
            ("nothing", &names(""), &["plain file name"]),
            ("not there", &names("other.safetensors"), &["other.safetensors", "missing"]),
            ("no map", &|bench| bench.json(SHARDS, |json| *json = json!({})), &["weight_map"]),
            ("an empty map", &|bench| bench.json(SHARDS, |json| json["weight_map"] = json!({})), &["no weights"]),
            ("20 MB", &large, &["too many"]),
        ],
    );
}

#[test]
fn a_tokenizer_that_is_damaged_is_refused() {
    let bytes = fs::read(crate::support::fixture("wan21-t2v/tokenizer/tokenizer.json")).expect("a tokenizer");
    let cut = |bench: &Bench| fs::write(bench.path(TOKENIZER), &bytes[..bytes.len() / 2]).expect("a file");
    let put = |key: &'static str, value: Value| put(TOKENIZER, key, value);
    let ids = |bench: &Bench| {
        // Every token twice: more than the text encoder has embeddings.
        bench.json(TOKENIZER, |json| {
            let vocabulary = json["model"]["vocab"].as_array_mut().expect("a vocabulary");
            let more = (0..1000).map(|n| json!([format!("▁{n}"), -1.0])).collect::<Vec<_>>();
            vocabulary.splice(3..3, more);
        });
    };
    refused(
        "wan21-t2v",
        &[],
        &[
            ("cut", &cut, &["tokenizer.json", "that talkie can read"]),
            ("empty", &|bench| fs::write(bench.path(TOKENIZER), "").expect("a file"), &["tokenizer.json"]),
            ("a list", &|bench| fs::write(bench.path(TOKENIZER), "[]").expect("a file"), &["tokenizer.json"]),
            ("no model", &put("model", json!(null)), &["tokenizer.json"]),
            ("ids past the end", &ids, &["embeddings", "tokenizer"]),
        ],
    );
}
