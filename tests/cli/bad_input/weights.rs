//! Weights that are cut short, foreign, of another shape or type, or not numbers.

use std::fs;

use safetensors::tensor::Dtype;

use super::{nothing_left, refused};
use crate::support::command::Bench;

const TRANSFORMER: &str = "model/transformer/diffusion_pytorch_model.safetensors";
const TEXT: &str = "model/text_encoder/model.safetensors";
const VAE: &str = "model/vae/diffusion_pytorch_model.safetensors";

#[test]
fn a_file_that_is_not_whole_is_refused() {
    let keep = |file: &'static str, share: f64| {
        move |bench: &Bench| {
            let bytes = fs::read(bench.path(file)).expect(file);
            fs::write(bench.path(file), &bytes[..(bytes.len() as f64 * share) as usize]).expect(file);
        }
    };
    let longer = |bench: &Bench| {
        let bytes = fs::read(bench.path(VAE)).expect(VAE);
        fs::write(bench.path(VAE), [bytes, vec![0; 8]].concat()).expect(VAE);
    };
    let write = |bytes: Vec<u8>| move |bench: &Bench| fs::write(bench.path(VAE), &bytes).expect(VAE);
    let header = |json: &str| [&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat();
    for file in [TRANSFORMER, TEXT, VAE] {
        refused(
            "wan21-t2v",
            &[],
            &[
                (
                    "the end is missing",
                    &keep(file, 0.99),
                    &[file, "not a whole safetensors file", "fetch the file again"],
                ),
                ("the header is cut", &keep(file, 0.001), &[file, "ends before its header"]),
                ("empty", &keep(file, 0.0), &[file, "ends before its header"]),
            ],
        );
    }
    let tensor = |shape: &str, end: u64| {
        header(&format!(r#"{{"a":{{"dtype":"U8","shape":{shape},"data_offsets":[0,{end}]}}}}"#))
    };
    refused(
        "wan21-t2v",
        &[],
        &[
            ("something behind it", &longer, &[VAE, "by its header"]),
            ("text", &write(b"version https://git-lfs.github.com/spec/v1\n".to_vec()), &[VAE, "header"]),
            ("the longest header", &write([0xff; 64].to_vec()), &[VAE, "header"]),
            ("no JSON", &write(header("{")), &[VAE, "damaged"]),
            ("deep JSON", &write(header(&"[".repeat(100_000))), &[VAE, "damaged"]),
            ("a shape past counting", &write(tensor("[18446744073709551615,2]", 8)), &[VAE, "damaged"]),
            (
                "nothing, past counting",
                &write(tensor("[0,4294967296,4294967296]", 0)),
                &[VAE, "has an impossible shape"],
            ),
            ("more than there is", &write(tensor("[2305843009213693951]", (1 << 61) - 1)), &[VAE, "by its header"]),
        ],
    );
}

#[test]
fn a_tensor_that_does_not_belong_is_refused() {
    let edit = |file: &'static str, tensor: &'static str, shape: &'static [usize], dtype: Dtype| {
        move |bench: &Bench| {
            bench.tensors(file, |tensors| {
                let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
                tensors.insert(tensor.to_owned(), (dtype, shape.to_vec(), vec![0; bytes]));
            });
        }
    };
    let remove = |file: &'static str, tensor: &'static str| {
        move |bench: &Bench| bench.tensors(file, |tensors| drop(tensors.remove(tensor).expect(tensor)))
    };
    for (file, tensor, shape) in [
        (TRANSFORMER, "proj_out.bias", [64].as_slice()),
        (TEXT, "encoder.final_layer_norm.weight", &[32]),
        (VAE, "decoder.conv_out.bias", &[3]),
    ] {
        refused(
            "wan21-t2v",
            &[],
            &[
                ("shape", &edit(file, tensor, &[7], Dtype::F32), &[tensor, "not [7]", file]),
                ("no shape", &edit(file, tensor, &[], Dtype::F32), &[tensor, "not []", file]),
                ("rank", &edit(file, tensor, &[1, 1, 7], Dtype::F32), &[tensor, "not [1, 1, 7]", file]),
                ("missing", &remove(file, tensor), &[tensor, "missing", file]),
                (
                    "foreign",
                    &edit(file, "lora.up.weight", &[4, 4], Dtype::F32),
                    &["lora.up.weight", "does not belong", file],
                ),
            ],
        );
        for dtype in [Dtype::I64, Dtype::U8, Dtype::BOOL, Dtype::C64, Dtype::F8_E8M0] {
            let name = format!("{dtype:?}");
            refused("wan21-t2v", &[], &[("type", &edit(file, tensor, shape, dtype), &[tensor, &name, file])]);
        }
    }
    let halves = edit(TRANSFORMER, "proj_out.bias", &[64], Dtype::F4);
    refused("wan21-t2v", &[], &[("half a byte", &halves, &["proj_out.bias", "F4"])]);
}

#[test]
fn two_files_with_the_same_tensor_are_refused() {
    const SECOND: &str = "model/transformer/diffusion_pytorch_model-00002-of-00003.safetensors";
    const THIRD: &str = "model/transformer/diffusion_pytorch_model-00003-of-00003.safetensors";
    let twice = |bench: &Bench| {
        let mut taken = None;
        bench.tensors(SECOND, |tensors| taken = tensors.first_key_value().map(|(name, it)| (name.clone(), it.clone())));
        bench.tensors(THIRD, |tensors| tensors.extend(taken));
    };
    refused("wan22-a14b", &[], &[("twice", &twice, &["two files hold the tensor", "00003-of-00003"])]);
}

#[test]
fn other_weights_are_checked_like_the_models_own() {
    let bench = Bench::new("wan21-t2v");
    fs::create_dir(bench.path("empty")).expect("a folder");
    fs::write(bench.path("text.safetensors"), "no weights").expect("a file");
    let table: &[(&str, &str, i32, &[&str])] = &[
        ("--transformer", "nowhere.safetensors", 1, &["nowhere.safetensors", "missing"]),
        ("--transformer", "empty", 1, &["transformer", "no weights"]),
        ("--transformer", "text.safetensors", 1, &["text.safetensors"]),
        ("--transformer", VAE, 1, &["vae"]),
        ("--text-encoder", TRANSFORMER, 1, &["transformer"]),
        ("--vae", "/dev/null", 1, &["/dev/null"]),
        ("--vae", TEXT, 1, &["text_encoder"]),
    ];
    for (flag, value, code, words) in table {
        nothing_left(&bench, bench.generate(&[flag, value]).refused(*code, words));
    }
}

#[test]
fn values_that_are_no_numbers_stop_the_run_where_they_come_up() {
    let poison = |file, tensor, value| move |bench: &Bench| bench.poison(file, tensor, value);
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        refused(
            "wan21-t2v",
            &[],
            &[
                (
                    "transformer",
                    &poison(TRANSFORMER, "proj_out.bias", value),
                    &["latents are no longer finite after step 1 of 2"],
                ),
                (
                    "text",
                    &poison(TEXT, "encoder.final_layer_norm.weight", value),
                    &["embedding", "not finite", "text_encoder"],
                ),
            ],
        );
    }
    let vae = poison(VAE, "decoder.conv_out.bias", f32::NAN);
    refused(
        "wan21-t2v",
        &[],
        &[
            ("decoder", &vae, &["frames that are not numbers", "autoencoder"]),
            (
                "inside",
                &poison(VAE, "decoder.mid_block.resnets.0.conv1.bias", f32::NAN),
                &["frames that are not numbers"],
            ),
        ],
    );
    // Half-way: the second expert's steps.
    let second = "model/transformer_2/diffusion_pytorch_model.safetensors";
    let steps = ["--steps", "4", "--sampler", "euler", "--set", "sigmas=1,0.95,0.4,0.2"];
    refused(
        "wan22-a14b",
        &steps,
        &[("the second expert", &poison(second, "proj_out.bias", f32::NAN), &["no longer finite after step 3 of 4"])],
    );
    let picture = ["--image", "model/first.png", "--size", "64x64"];
    refused(
        "wan22-ti2v-5b",
        &picture,
        &[("encoder", &poison(VAE, "quant_conv.bias", f32::NAN), &["image's latents", "not finite", "vae"])],
    );
}

#[test]
fn a_run_that_met_no_numbers_goes_on_once_they_are_gone() {
    let bench = Bench::new("wan21-t2v");
    let whole = fs::read(bench.path(VAE)).expect(VAE);
    bench.poison(VAE, "decoder.conv_out.bias", f32::NAN);
    nothing_left(&bench, bench.generate(&[]).refused(1, &["not numbers"]));
    assert_eq!(bench.runs().len(), 1);
    fs::write(bench.path(VAE), whole).expect(VAE);
    bench.run(&["resume"]).worked(&["going on"]);
    assert_eq!((bench.left().len(), bench.runs().len()), (1, 0));
}
