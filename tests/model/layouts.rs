//! The same small Wan in every layout: as folders of pieces, as single files over another folder, and in fewer bits.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use talkie::families::text::umt5::{self, Umt5};
use talkie::families::wan::config::Config;
use talkie::families::wan::transformer::Transformer;
use talkie::media::read_image;
use talkie::model::Model;
use talkie::weights::Weights;

use crate::support::command::{Bench, copy, files};
use crate::support::{close, device, fixture, tensors};

/// A bench with a copy of every layout.
fn bench() -> Bench {
    let bench = Bench::new("layouts/diffusers");
    for layout in ["original", "comfy", "packed"] {
        copy(&fixture("layouts").join(layout), &bench.path(layout));
    }
    bench
}

/// The bits of the latents of a film, and the pixels of its frames.
fn film(bench: &Bench, name: &str, arguments: &[&str]) -> (Vec<u32>, Vec<Vec<u8>>) {
    let (latents, out) = (format!("{name}.safetensors"), format!("out/{name}/"));
    let shared = ["--flow-shift", "3", "--guidance", "4", "--save-latents", &latents, "-o", &out];
    bench.generate(&[&shared[..], arguments].concat()).worked(&[]);
    let latents = candle_core::safetensors::load(bench.path(&latents), &Device::Cpu).unwrap();
    let latents: Vec<f32> = latents["video"].flatten_all().unwrap().to_vec1().unwrap();
    let pictures = files(&bench.path(&out)).into_keys().filter(|name| name.starts_with("frame-"));
    let pixels = pictures.map(|picture| read_image(&bench.path(&out).join(picture)).unwrap().data);
    (latents.into_iter().map(f32::to_bits).collect(), pixels.collect())
}

const COMFY: [&str; 6] = [
    "--transformer",
    "comfy/diffusion_models/wan.safetensors",
    "--text-encoder",
    "comfy/text_encoders/umt5.safetensors",
    "--vae",
    "comfy/vae/wan_2.1_vae.safetensors",
];

#[test]
fn a_film_is_the_same_bit_for_bit_from_every_dense_layout() {
    let bench = bench();
    let wanted = film(&bench, "diffusers", &[]);
    assert_eq!(wanted.1.len(), 5);
    assert!(film(&bench, "original", &["-m", "original"]) == wanted, "the folder of Wan's authors");
    assert!(film(&bench, "single", &COMFY) == wanted, "ComfyUI's files over a folder");
    // Nothing in ComfyUI's files says how many heads there are; all that were released have 128 channels each.
    copy(&bench.path("model/tokenizer"), &bench.path("comfy/tokenizer"));
    bench.generate(&["-m", "comfy"]).refused(1, &["0 heads cannot share 32 channels", "config.json"]);
    copied(&bench.path("original/config.json"), bench.path("comfy/config.json"));
    assert!(film(&bench, "comfy", &["-m", "comfy"]) == wanted, "a folder of ComfyUI's files");
}

#[test]
fn what_the_original_folder_says_is_its_configuration() {
    let [found, wanted] =
        ["original", "diffusers"].map(|layout| Model::open(&fixture("layouts").join(layout)).unwrap());
    assert_eq!(found.pipeline, wanted.pipeline);
    let config = |model: &Model| model.component("transformer").unwrap().config::<Config>().unwrap();
    assert_eq!(config(&found), config(&wanted));
    let text = |model: &Model| model.component("text_encoder").unwrap().config::<umt5::Config>().unwrap();
    assert_eq!(text(&found), text(&wanted));
    let vae = |model: &Model| model.component("vae").unwrap().config::<talkie::families::wan::vae::Config>().unwrap();
    let (found, wanted) = (vae(&found), vae(&wanted));
    assert_eq!(found.dim_mult, wanted.dim_mult);
    assert_eq!(
        (found.base_dim, found.z_dim, found.num_res_blocks),
        (wanted.base_dim, wanted.z_dim, wanted.num_res_blocks)
    );
    assert_eq!((found.latents_mean, found.latents_std), (wanted.latents_mean, wanted.latents_std));
}

/// Measured: 4.2e-7, plain 4.1e-7.
const PACKED: f64 = 1.3e-6;

/// The weights of a part from another file.
fn weights(part: &str, file: &str) -> (Weights, Model) {
    let mut model = Model::open(&fixture("layouts/diffusers")).unwrap();
    model.replace(part, &fixture("layouts/packed").join(file)).expect(file);
    let weights = model.component(part).unwrap().weights(&device(), DType::F32).expect(file);
    (weights, model)
}

fn reference() -> HashMap<String, Tensor> {
    tensors("layouts/packed/reference.safetensors")
}

#[test]
fn a_transformer_in_fewer_bits_is_the_one_of_the_numbers_that_they_stand_for() {
    let reference = reference();
    let mut seen = 0;
    for (file, wanted) in reference.iter().filter(|(name, _)| name.starts_with("transformer-")) {
        let (weights, model) = weights("transformer", file);
        let config = model.component("transformer").unwrap().config::<Config>().unwrap();
        let network = Transformer::load(&weights, &config).expect(file);
        let made = network.forward(&reference["latents"], &[500.0], &reference["text"]).expect(file);
        close(&made, wanted, PACKED, file);
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[test]
fn a_text_encoder_of_llama_cpp_is_the_one_of_the_numbers_that_it_stands_for() {
    let reference = reference();
    let (weights, model) = weights("text_encoder", "umt5-Q8_0.gguf");
    let config = model.component("text_encoder").unwrap().config::<umt5::Config>().unwrap();
    let encoder = Umt5::load(&weights, &config).expect("an encoder");
    let ids: Vec<u32> = reference["ids"].flatten_all().unwrap().to_dtype(DType::U32).unwrap().to_vec1().unwrap();
    let made = encoder.encode(&ids, ids.len(), &mut |_, _| Ok(())).expect("rows");
    close(&made, &reference["umt5-Q8_0.gguf"], PACKED, "umt5-Q8_0.gguf");
}

#[test]
fn a_film_is_made_from_what_is_packed() {
    let bench = bench();
    let packed = ["--transformer", "packed/transformer-Q8_0.gguf", "--text-encoder", "packed/umt5-Q8_0.gguf"];
    let (_, frames) = film(&bench, "packed", &packed);
    assert_eq!(frames.len(), 5);
}

/// A file under another name, which its content does not follow.
fn copied(from: &Path, to: PathBuf) -> String {
    fs::copy(from, &to).unwrap();
    to.to_string_lossy().into_owned()
}

#[test]
fn files_in_the_wrong_place_are_refused_with_a_reason() {
    let bench = bench();
    let text = "comfy/text_encoders/umt5.safetensors";
    bench.generate(&["--transformer", text]).refused(1, &["UMT5", "not its `transformer`"]);
    bench.generate(&["--vae", "original/diffusion_pytorch_model.safetensors"]).refused(1, &["Wan", "not its `vae`"]);
    let second =
        copied(&bench.path("original/diffusion_pytorch_model.safetensors"), bench.path("original/other.safetensors"));
    bench.generate(&["-m", "original"]).refused(2, &["both transformers", "other.safetensors", "--transformer"]);
    fs::remove_file(second).unwrap();
    fs::remove_file(bench.path("original/Wan2.1_VAE.pth")).unwrap();
    bench.generate(&["-m", "original"]).refused(1, &["is a vae of Wan", "--vae"]);
    fs::remove_file(bench.path("original/google/umt5-xxl/tokenizer.json")).unwrap();
    copy(&bench.path("comfy/vae"), &bench.path("original/vae"));
    bench.generate(&["-m", "original"]).refused(1, &["no `tokenizer.json`", "google/umt5-xxl"]);
}

#[test]
fn norms_of_llama_cpp_have_their_one_taken_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gemma.safetensors");
    let names = ["blk.0.attn_q_norm", "blk.0.post_ffw_norm", "blk.0.attn_norm", "output_norm", "blk.0.attn_q"];
    let row = |name: &str| (format!("{name}.weight"), Tensor::new(&[1.5f32, 0.25], &Device::Cpu).unwrap());
    candle_core::safetensors::save(&names.iter().map(|name| row(name)).collect::<HashMap<_, _>>(), &path).unwrap();
    let layout =
        talkie::weights::keys::recognise(&|name| names.iter().any(|known| name == format!("{known}.weight"))).unwrap();
    let names = talkie::weights::keys::Names { layout, part: "text_encoder" };
    let weights = Weights::open_as(&[path], Some(names), &device(), DType::F32).unwrap();
    let read = |name: &str| weights.f32(name, 2).expect(name).to_vec1::<f32>().unwrap();
    assert_eq!(read("layers.0.self_attn.q_norm.weight"), [0.5, -0.75]);
    assert_eq!(read("layers.0.input_layernorm.weight"), [0.5, -0.75]);
    assert_eq!(read("norm.weight"), [0.5, -0.75]);
    assert_eq!(read("layers.0.self_attn.q_proj.weight"), [1.5, 0.25], "no norm");
}

/// The two experts of Wan 2.2 from a folder in which their names say which is which.
#[test]
fn two_experts_are_told_apart_by_high_and_low() {
    let bench = bench();
    fs::create_dir(bench.path("original/high_noise_model")).unwrap();
    fs::create_dir(bench.path("original/low_noise_model")).unwrap();
    let one = bench.path("original/diffusion_pytorch_model.safetensors");
    copied(&one, bench.path("original/low_noise_model/diffusion_pytorch_model.safetensors"));
    fs::rename(&one, bench.path("original/high_noise_model/diffusion_pytorch_model.safetensors")).unwrap();
    let model = Model::open(&bench.path("original")).unwrap();
    let file = |part: &str| model.component(part).unwrap().files[0].path.to_string_lossy().into_owned();
    assert!(file("transformer").contains("high_noise_model") && file("transformer_2").contains("low_noise_model"));
    assert_eq!(model.index["boundary_ratio"], 0.875);
    bench.generate(&["-m", "original", "-o", "out/pair/"]).worked(&[]);
}

/// Two transformers are a pair where the words `high` and `low` are in the names of their files or folders. Letters inside a
/// word, and other folders on the way, do not count.
#[test]
fn experts_are_named_by_words_of_their_own() {
    let bench = Bench::new("layouts/diffusers");
    let network = fixture("layouts/comfy/diffusion_models/wan.safetensors");
    let pair = |names: [&str; 2]| {
        let folder = bench.path("highres-workflow");
        let _ = fs::remove_dir_all(&folder);
        copy(&fixture("layouts/comfy"), &folder);
        fs::remove_dir_all(folder.join("diffusion_models")).expect("removed");
        fs::copy(fixture("layouts/original/config.json"), folder.join("config.json")).expect("its authors' own");
        for name in names {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::copy(&network, path).expect("a network");
        }
        Model::open(&folder).map(|model| model.find("transformer_2").map(|low| low.files[0].path.clone()))
    };
    let low = pair(["wan_high_noise.safetensors", "wan_low_noise.safetensors"]).expect("a pair");
    assert!(low.expect("two").ends_with("wan_low_noise.safetensors"));
    assert!(
        pair(["low_noise/wan.safetensors", "high_noise/wan.safetensors"])
            .expect("a pair")
            .expect("two")
            .ends_with("low_noise/wan.safetensors")
    );
    let error = pair(["slow.safetensors", "highlander.safetensors"]).map(drop).expect_err("words inside words");
    assert!(error.to_string().contains("are both transformers"), "{error}");
}
