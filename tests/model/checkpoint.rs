//! Models in one file, as their authors publish them, against the diffusers folders of the same weights.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use talkie::families::ltx;
use talkie::model::Model;
use talkie::weights::keys::{LTX, LTX_ALONE, Place};

use crate::support::command::{Bench, Done, Plain};
use crate::support::fixture;

const FOLDERS: [&str; 2] = ["ltx2", "ltx23"];
const UPSAMPLERS: [&str; 2] =
    ["ltx-2-spatial-upscaler-x2-1.0.safetensors", "ltx-2.3-spatial-upscaler-x2-1.1.safetensors"];
const FILM: &[&str] = &["generate", "a dog barks", "--size", "128x128", "--frames", "9", "--seed", "5"];

/// What a file is made of: its words, and its tensors with their types, shapes and bytes.
#[derive(Clone)]
struct Single {
    metadata: HashMap<String, String>,
    tensors: BTreeMap<String, Plain>,
}

impl Single {
    /// The file of a fixture folder.
    fn of(folder: &str) -> Self {
        let layout = layout(folder);
        let read = |part: &str| -> HashMap<String, Plain> {
            let bytes = std::fs::read(fixture(folder).join(part).join("diffusion_pytorch_model.safetensors")).unwrap();
            let all = SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter();
            all.map(|(key, view)| (key, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))).collect()
        };
        let (mut parts, mut tensors) = (HashMap::new(), BTreeMap::new());
        for (name, place) in layout["tensors"].as_object().unwrap() {
            let (part, key) = place.as_str().unwrap().split_once('/').unwrap();
            let part = parts.entry(part).or_insert_with(|| read(part));
            tensors.insert(name.clone(), part[key].clone());
        }
        Self { metadata: words(&layout["metadata"]), tensors }
    }

    /// The file with another `config`.
    fn configured(mut self, change: impl FnOnce(&mut Value)) -> Self {
        let mut config: Value = serde_json::from_str(&self.metadata["config"]).unwrap();
        change(&mut config);
        self.metadata.insert("config".into(), config.to_string());
        self
    }

    fn write(&self, path: &Path) {
        let views = self.tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        safetensors::serialize_to_file(views, Some(self.metadata.clone()), path).unwrap();
    }
}

fn layout(folder: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture(folder).join("single_file.json")).unwrap()).unwrap()
}

fn words(metadata: &Value) -> HashMap<String, String> {
    let words = metadata.as_object().unwrap().iter();
    words.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// A bench with the file of a fixture beside its folder, which stays as `model`.
fn bench(folder: &str, single: &Single) -> Bench {
    let bench = Bench::new(folder);
    single.write(&bench.path("single.safetensors"));
    bench
}

/// Makes the upsampler of a fixture into a file under the name of its release.
fn write_upsampler(folder: &str, path: &Path) {
    let bytes = std::fs::read(fixture(folder).join("latent_upsampler/diffusion_pytorch_model.safetensors")).unwrap();
    let all = SafeTensors::deserialize(&bytes).unwrap();
    safetensors::serialize_to_file(all.tensors(), Some(words(&layout(folder)["upsampler_metadata"])), path).unwrap();
}

fn film(bench: &Bench, model: &[&str], name: &str, more: &[&str]) -> Done {
    let (out, kept) = (format!("out/{name}/"), format!("{name}.latents"));
    bench.run(&[FILM, &["-m"], model, more, &["-o", &out, "--save-latents", &kept]].concat())
}

/// The tensors of a file, as they lie in it.
fn kept(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let all = SafeTensors::deserialize(&bytes).unwrap();
    all.tensors().into_iter().map(|(name, tensor)| (name, tensor.data().to_vec())).collect()
}

#[test]
fn single_names_are_one_to_one_and_complete() {
    for folder in FOLDERS {
        let layout = layout(folder);
        let mut found = BTreeSet::new();
        for (name, place) in layout["tensors"].as_object().unwrap() {
            let Place::Of(part, key) = LTX.place(name) else { panic!("{folder}: `{name}` has no place") };
            if let Some(alone) = name.strip_prefix("model.diffusion_model.") {
                assert_eq!(
                    LTX_ALONE.place(alone),
                    Place::Of(part, key.clone()),
                    "{folder}: `{alone}` in a file of its own"
                );
            }
            assert_eq!(format!("{part}/{key}"), place.as_str().unwrap(), "{folder}: {name}");
            assert!(found.insert((part, key)), "{folder}: `{name}` is not the first with its name");
        }
        for part in LTX.parts {
            let file = fixture(folder).join(part.name).join("diffusion_pytorch_model.safetensors");
            for key in kept(&file).keys() {
                assert!(found.remove(&(part.name, key.clone())), "{folder}: nothing becomes {}/{key}", part.name);
            }
        }
        assert_eq!(found, BTreeSet::new(), "{folder}");
    }
    assert_eq!(LTX.place("vae.per_channel_statistics.mean-of-stds"), Place::Unused);
    assert_eq!(LTX.place("duration_head.weight"), Place::Foreign);
}

#[test]
fn single_configurations_are_those_of_the_folder() {
    for (folder, upsampler) in FOLDERS.into_iter().zip(UPSAMPLERS) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("model.safetensors");
        Single::of(folder).write(&path);
        write_upsampler(folder, &home.path().join(upsampler));
        let (single, whole) = (Model::open(&path).unwrap(), Model::open(&fixture(folder)).unwrap());
        let parts = |name: &str| [&single, &whole].map(|model| model.component(name).unwrap());
        let text = |name: &str| parts(name).map(|part| part.config.to_string());
        let pair = parts("transformer").map(|part| part.config::<ltx::config::Config>().unwrap());
        assert_eq!(pair[0], pair[1], "{folder}");
        let pair = parts("connectors").map(|part| {
            let config: ltx::connectors::Config = part.config().unwrap();
            // Nothing reads them where one projection serves both.
            let (video_hidden_dim, audio_hidden_dim) = if config.per_modality_projections {
                (config.video_hidden_dim, config.audio_hidden_dim)
            } else {
                (0, 0)
            };
            ltx::connectors::Config { video_hidden_dim, audio_hidden_dim, ..config }
        });
        assert_eq!(pair[0], pair[1], "{folder}");
        let pair = text("vae").map(|text| ltx::vae::Config::parse(&text).unwrap()).map(|config| ltx::vae::Config {
            spatial_compression_ratio: None,
            temporal_compression_ratio: None,
            ..config
        });
        assert_eq!(pair[0], pair[1], "{folder}");
        let pair = text("audio_vae").map(|text| ltx::audio_vae::Config::parse(&text).unwrap()).map(|config| {
            // No size has attention: none is named, or an empty list.
            let attn_resolutions = config.attn_resolutions.filter(|sizes| !sizes.is_empty());
            ltx::audio_vae::Config { attn_resolutions, ..config }
        });
        assert_eq!(pair[0], pair[1], "{folder}");
        let pair = text("vocoder").map(|text| ltx::vocoder::Config::parse(&text).unwrap());
        assert_eq!(pair[0], pair[1], "{folder}");
        let pair = parts("latent_upsampler").map(|part| part.config::<ltx::upsampler::Config>().unwrap());
        assert_eq!(pair[0], pair[1], "{folder}");
        for name in ["transformer", "connectors", "vae", "audio_vae", "vocoder", "latent_upsampler"] {
            let [of_file, of_folder] = parts(name);
            assert_eq!(of_file.class, of_folder.class, "{folder}");
            let data = kept(&fixture(folder).join(name).join("diffusion_pytorch_model.safetensors"));
            let expected: usize = data.values().map(Vec::len).sum();
            if of_file.names.is_some() {
                assert_eq!(of_file.bytes(), expected as u64, "{folder}/{name}: bytes");
            }
        }
    }
}

#[test]
fn single_files_make_the_films_of_their_folders() {
    for (folder, upsampler) in FOLDERS.into_iter().zip(UPSAMPLERS) {
        let bench = bench(folder, &Single::of(folder));
        write_upsampler(folder, &bench.path(upsampler));
        let single: &[&str] = &["single.safetensors", "--text-encoder", "model/text_encoder"];
        let cases: [(&str, &[&str]); 2] =
            [("dev", &["--preset", "dev", "--steps", "2"]), ("distilled", &["--preset", "distilled"])];
        for (name, more) in cases {
            let (file, whole) = (format!("{name}-file"), format!("{name}-folder"));
            film(&bench, single, &file, more).worked(&[]);
            film(&bench, &["model"], &whole, more).worked(&[]);
            let [one, other] = [&file, &whole].map(|name| kept(&bench.path(&format!("{name}.latents"))));
            assert_eq!(one.len(), 2, "{folder}: {:?}", one.keys());
            assert!(one == other, "{folder}/{name}: other latents");
            let [one, other] =
                [&file, &whole].map(|name| std::fs::read(bench.path(&format!("out/{name}/audio.wav"))).unwrap());
            assert!(one == other, "{folder}/{name}: another sound");
        }
        // Latents need no text encoder.
        let arguments = ["decode", "dev-file.latents", "-m", "single.safetensors", "-o", "out/again/"];
        bench.run(&arguments).worked(&[]);
        let [one, other] =
            ["again", "dev-folder"].map(|name| std::fs::read(bench.path(&format!("out/{name}/audio.wav"))).unwrap());
        assert!(one == other, "{folder}: another sound of the same latents");
    }
}

#[test]
fn single_files_find_what_lies_beside_them() {
    let bench = Bench::new("ltx23");
    Single::of("ltx23").write(&bench.path("model/single.safetensors"));
    let done = film(&bench, &["model/single.safetensors"], "film", &["--plan"]);
    assert_eq!(done.code, Some(0), "{done}");
    for name in ["text_encoder", "latent_upsampler", "single.safetensors"] {
        assert!(done.stdout.contains(name), "{name}: {done}");
    }
}

#[test]
fn single_files_without_what_they_need_are_refused() {
    let gemma: &[&str] = &["--text-encoder", "model/text_encoder"];
    let whole = Single::of("ltx23");
    let bench = bench("ltx23", &whole);
    let whole = || whole.clone();
    let refused = |name: &str, single: Single, more: &[&str], words: &[&str]| {
        single.write(&bench.path("single.safetensors"));
        println!("{name}");
        film(&bench, &["single.safetensors"], "film", more).refused(1, words);
    };
    let mut silent = whole();
    silent.metadata.remove("config");
    refused("no config", silent, gemma, &["no `config`", "metadata", "single.safetensors"]);
    let mut broken = whole();
    broken.metadata.insert("config".into(), "{\"transformer\"".into());
    refused("no JSON", broken, gemma, &["`config`", "not valid JSON"]);
    let without = whole().configured(|config| drop(config.as_object_mut().unwrap().remove("vae")));
    refused("no vae in the config", without, gemma, &["`config`", "it has no `vae`"]);
    let blocks = whole().configured(|config| config["vae"]["encoder_blocks"][1][0] = json!("attn_res_x"));
    refused("a block of another kind", blocks, gemma, &["attn_res_x"]);
    let blocks =
        whole().configured(|config| config["vae"]["decoder_blocks"] = json!([["res_x", {"num_layers": 1}], 5]));
    refused("no list of blocks", blocks, gemma, &["decoder_blocks"]);
    let layers = whole().configured(|config| config["transformer"]["num_layers"] = json!(1));
    refused("fewer layers than tensors", layers, gemma, &["do not belong", "transformer_blocks.1"]);
    let large = whole().configured(|config| config["transformer"]["num_layers"] = json!(1e15));
    refused("too many layers", large, gemma, &["num_layers"]);
    let mut foreign = whole();
    let tensor = foreign.tensors.values().next().unwrap().clone();
    foreign.tensors.insert("duration_head.weight".into(), tensor.clone());
    refused("a foreign tensor", foreign, gemma, &["duration_head.weight", "belong to no part"]);
    let mut twice = whole();
    let (name, double) = ("model.diffusion_model.proj_in.bias", "model.diffusion_model.patchify_proj.bias");
    twice.tensors.insert(name.into(), twice.tensors[double].clone());
    refused("a tensor under both names", twice, gemma, &["proj_in.bias", "is also there as"]);
    let mut alone = whole();
    alone.tensors.retain(|name, _| name.starts_with("model.diffusion_model.") && !name.contains("_connector."));
    refused("the transformer alone", alone, gemma, &["no connectors and no vae"]);
    let wan = Single {
        metadata: HashMap::new(),
        tensors: BTreeMap::from([("blocks.0.self_attn.q.weight".to_owned(), tensor.clone())]),
    };
    refused("Wan", wan, gemma, &["Wan", "-m wan2.1"]);
    refused("no text encoder", whole(), &[], &["no `text_encoder`", "--text-encoder FOLDER"]);
    let tensors = BTreeMap::from([("double_blocks.0.norm.weight".to_owned(), tensor)]);
    let stranger = Single { metadata: HashMap::new(), tensors };
    refused("a stranger", stranger, gemma, &["no model that talkie knows", "double_blocks.0", "model_index.json"]);
}

#[test]
fn single_files_say_what_a_text_encoder_lacks() {
    let bench = bench("ltx23", &Single::of("ltx23"));
    let run =
        |encoder: &str| film(&bench, &["single.safetensors"], "film", &["--text-encoder", encoder, "--steps", "1"]);
    run("nowhere").refused(2, &["no folder of a text encoder", "nowhere"]);
    std::fs::rename(bench.path("model/tokenizer"), bench.path("tokens")).unwrap();
    run("model/text_encoder").refused(1, &["without its tokenizer", "tokenizer.json"]);
    std::fs::rename(bench.path("tokens"), bench.path("model/text_encoder/tokenizer")).unwrap();
    run("model/text_encoder").worked(&[]);
    std::fs::rename(
        bench.path("model/text_encoder/tokenizer/tokenizer.json"),
        bench.path("model/text_encoder/tokenizer.json"),
    )
    .unwrap();
    run("model").worked(&[]);
    std::fs::remove_file(bench.path("model/text_encoder/config.json")).unwrap();
    run("model/text_encoder").refused(1, &["config.json"]);
}

#[test]
fn single_files_without_sound_make_silent_films() {
    let mut single = Single::of("ltx2");
    single.tensors.retain(|name, _| !name.starts_with("vocoder."));
    let bench = bench("ltx2", &single);
    let done = film(&bench, &["single.safetensors", "--text-encoder", "model/text_encoder"], "film", &["--plan"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(done.stdout.contains("silent"), "{done}");
}

#[test]
fn single_files_that_are_none_are_refused() {
    let bench = Bench::new("ltx2");
    let run = |model: &str| film(&bench, &[model], "film", &[]);
    run("absent.safetensors").refused(2, &["no model file", "absent.safetensors"]);
    run("model/model_index.json").refused(2, &["no model folder", "safetensors"]);
    std::fs::write(bench.path("cut.safetensors"), b"\x10\0\0\0\0\0\0\0{}").unwrap();
    run("cut.safetensors").refused(1, &["not a whole safetensors file"]);
}
