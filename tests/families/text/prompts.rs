//! Prompts as text embeddings, against diffusers, ftfy and transformers.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, IndexOp, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};
use talkie::error::{Context, Kind};
use talkie::families::text::clean::clean;
use talkie::families::text::tokenize::{MAX_BYTES, Tokenizer, Vocabulary};
use talkie::families::text::umt5::{Config, Umt5};
use talkie::weights::Weights;
use talkie::{Error, Result};

use crate::support::{close, device, fixture, tensors};

const FOLDERS: [&str; 4] = ["wan21-t2v", "wan22-a14b", "wan22-ti2v-5b", "wan22-i2v-a14b"];
const LENGTH: usize = 512;

/// Measured: 6.5e-7, plain 1.0e-6; in bf16 1.9e-2 and in f16 2.1e-3, either way.
const BAR: f64 = 2e-6;
const IN_BF16: f64 = 4e-2;
const IN_F16: f64 = 6.3e-3;

#[derive(Deserialize)]
struct Cleaned {
    cleaned: BTreeMap<String, Vec<(String, String)>>,
}

fn cleaned() -> BTreeMap<String, Vec<(String, String)>> {
    let text = std::fs::read_to_string(fixture("text/cleaned.json")).expect("fixture");
    serde_json::from_str::<Cleaned>(&text).expect("fixture").cleaned
}

#[test]
fn prompts_are_cleaned_as_the_reference_cleans_them() {
    let mut cleaned = cleaned();
    cleaned.retain(|kind, _| kind != "left_alone" && kind != "spared");
    let pairs: Vec<_> = cleaned.iter().flat_map(|(kind, pairs)| pairs.iter().map(move |pair| (kind, pair))).collect();
    assert!(pairs.len() >= 150, "only {} texts", pairs.len());
    let wrong: Vec<String> = pairs
        .iter()
        .filter(|(_, (text, expected))| clean(text) != *expected)
        .map(|(kind, (text, expected))| {
            format!("{kind}: {text:?}\n  expected {expected:?}\n     found {:?}", clean(text))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), pairs.len(), wrong.join("\n"));
}

#[test]
fn what_the_cleaning_leaves_alone_is_left_alone() {
    let (cleaned, straight) = (cleaned(), |text: &str| text.replace(['“', '”'], "\"").replace(['‘', '’', '‚'], "'"));
    for (text, reference) in ["left_alone", "spared"].iter().flat_map(|kind| &cleaned[*kind]) {
        assert_eq!(clean(text), straight(text));
        assert_ne!(*reference, straight(text), "ftfy leaves this one alone, too");
    }
}

#[test]
fn cleaning_takes_time_in_proportion_to_the_text() {
    for text in
        ["&amp;".to_owned() + &"amp;".repeat(20_000), "Ã".repeat(50_000), "\u{1b}[".repeat(50_000), "&".repeat(100_000)]
    {
        let start = std::time::Instant::now();
        clean(&text);
        assert!(start.elapsed().as_secs() < 5, "{} s for {:?}…", start.elapsed().as_secs(), &text[..10]);
    }
}

/// The prompts of a folder by name, as they were typed.
fn prompts(folder: &str) -> HashMap<String, String> {
    #[derive(Deserialize)]
    struct Reference {
        prompts: HashMap<String, String>,
    }
    let text = std::fs::read_to_string(fixture(&format!("{folder}/reference.json"))).expect("fixture");
    serde_json::from_str::<Reference>(&text).expect("fixture").prompts
}

/// Each prompt that a folder has a reference for, and the beginning of the names of its tensors.
fn cases(folder: &str) -> impl Iterator<Item = (String, &'static str)> {
    let prompts = prompts(folder);
    let named = [("positive", "text."), ("negative", "text.negative_"), ("long", "text.long_")];
    named.into_iter().filter_map(move |(name, prefix)| Some((prompts.get(name)?.clone(), prefix)))
}

/// The ids of a prompt in the reference, without its padding.
fn reference_ids(reference: &HashMap<String, Tensor>, prefix: &str) -> Vec<u32> {
    let values = |name: &str| reference[&format!("{prefix}{name}")].to_vec1::<i64>().expect("i64");
    values("ids").into_iter().zip(values("mask")).filter(|&(_, mask)| mask == 1).map(|(id, _)| id as u32).collect()
}

#[test]
fn prompts_become_the_ids_of_the_reference() {
    for folder in FOLDERS {
        let tokenizer = Tokenizer::open(&fixture(folder).join("tokenizer"), Vocabulary::T5).expect("tokenizer");
        let reference = tensors(&format!("{folder}/reference.safetensors"));
        for (prompt, prefix) in cases(folder) {
            let tokens = tokenizer.encode(&clean(&prompt), LENGTH).expect("tokens");
            assert_eq!(tokens.ids, reference_ids(&reference, prefix), "{folder} {prefix}");
            assert_eq!(
                tokens.ids.len() + tokens.cut,
                tokenizer.encode(&clean(&prompt), 10_000).expect("tokens").ids.len()
            );
            assert_eq!(tokens.cut > 0, prefix == "text.long_");
        }
    }
}

#[test]
fn a_cut_prompt_still_ends() {
    let tokenizer = Tokenizer::open(&fixture("wan21-t2v/tokenizer"), Vocabulary::T5).expect("tokenizer");
    let whole = tokenizer.encode("A red fox walks", 512).expect("tokens");
    assert_eq!((whole.cut, whole.ids.last()), (0, Some(&1)));
    for length in 1..=whole.ids.len() {
        let tokens = tokenizer.encode("A red fox walks", length).expect("tokens");
        assert_eq!((tokens.ids.len(), tokens.cut, tokens.ids.last()), (length, whole.ids.len() - length, Some(&1)));
        assert_eq!(tokens.ids[..length - 1], whole.ids[..length - 1]);
    }
    assert_eq!(tokenizer.encode("", 512).expect("tokens").ids, [1]);
    assert_eq!(tokenizer.encode("A red fox walks", 0).expect_err("no room").kind(), Kind::Failed);
}

/// A folder with the tokenizer of the fixtures in it, after `change`.
fn changed_tokenizer(change: impl Fn(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    let text = std::fs::read(fixture("wan21-t2v/tokenizer/tokenizer.json")).expect("fixture");
    let mut json = serde_json::from_slice(&text).expect("json");
    change(&mut json);
    std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).expect("written");
    folder
}

#[test]
fn the_length_and_padding_saved_with_a_tokenizer_do_not_count() {
    let plain = Tokenizer::open(&fixture("wan21-t2v/tokenizer"), Vocabulary::T5).expect("tokenizer");
    let folder = changed_tokenizer(|json| {
        json["truncation"] = json!(
            {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
        json["padding"] = json!(
            {"strategy": {"Fixed": 64}, "direction": "Left", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
             "pad_token": "<pad>"});
    });
    let tokenizer = Tokenizer::open(folder.path(), Vocabulary::T5).expect("tokenizer");
    let text = "A red fox walks through the snow";
    assert_eq!(tokenizer.encode(text, LENGTH).expect("tokens"), plain.encode(text, LENGTH).expect("tokens"));
    let folder = changed_tokenizer(|json| json["post_processor"] = Value::Null);
    let tokenizer = Tokenizer::open(folder.path(), Vocabulary::T5).expect("tokenizer");
    assert_eq!(tokenizer.encode(text, LENGTH).expect("tokens"), plain.encode(text, LENGTH).expect("tokens"));
}

#[test]
fn a_tokenizer_that_is_none_is_an_error() {
    let folder = tempfile::tempdir().expect("folder");
    let report = |path: &Path| Tokenizer::open(path, Vocabulary::T5).err().expect("an error").report();
    assert!(report(folder.path()).contains("there is no `tokenizer.json`"));
    std::fs::write(folder.path().join("spiece.model"), b"\n\x0e").expect("written");
    assert!(report(folder.path()).contains("`spiece.model` alone is not enough"));
    for broken in ["", "{}", "[1, 2", "\0\u{1}", r#"{"version": "9.0", "model": {"type": "Unigram", "vocab": []}}"#] {
        std::fs::write(folder.path().join("tokenizer.json"), broken).expect("written");
        assert!(report(folder.path()).contains("not a tokenizer that talkie can read"), "{broken:?}");
    }
    let other = changed_tokenizer(|json| {
        json["added_tokens"] = json!([]);
        json["post_processor"] = Value::Null;
        json["model"]["vocab"][1][0] = json!("<end>");
    });
    assert!(report(other.path()).contains("has no `</s>`"));
}

/// Puts each of `values` in the place of each part of `json` (of a list only the first three), and shows the result.
pub fn each_change(json: &Value, path: &str, values: &[Value], show: &mut dyn FnMut(&str, Value)) {
    let mut parts: Vec<(String, Value)> = match json {
        Value::Object(map) => map.iter().map(|(key, part)| (key.clone(), part.clone())).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(index, part)| (index.to_string(), part.clone())).collect(),
        _ => Vec::new(),
    };
    parts.truncate(if json.is_array() { 3 } else { usize::MAX });
    for (key, part) in parts {
        let mut with = |value: Value, path: &str| {
            let mut whole = json.clone();
            match &mut whole {
                Value::Array(list) => list[key.parse::<usize>().expect("index")] = value,
                whole => whole[&key] = value,
            }
            show(path, whole);
        };
        let path = format!("{path}/{key}");
        values.iter().for_each(|value| with(value.clone(), &path));
        each_change(&part, &path, values, &mut |path, part| with(part, path));
    }
}

#[test]
fn a_damaged_tokenizer_is_an_error_or_works() {
    let text = std::fs::read_to_string(fixture("wan21-t2v/tokenizer/tokenizer.json")).expect("fixture");
    let mut json: Value = serde_json::from_str(&text).expect("json");
    json["model"]["vocab"].as_array_mut().expect("list").truncate(12);
    json["added_tokens"].as_array_mut().expect("list").truncate(3);
    let values = [
        json!(null),
        json!(0),
        json!(-1),
        json!(1e300),
        json!(1u64 << 40),
        json!(""),
        json!("AAAA"),
        json!([]),
        json!({}),
    ];
    let folder = tempfile::tempdir().expect("folder");
    let (mut works, mut refused) = (0, Vec::new());
    each_change(&json, "", &values, &mut |path, json| {
        std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).expect("written");
        match Tokenizer::open(folder.path(), Vocabulary::T5)
            .and_then(|tokenizer| tokenizer.encode("A red fox, 漢字 é ﬁ", 8))
        {
            Ok(_) => works += 1,
            Err(error) => refused.push(format!("{path}: {}", error.report())),
        }
    });
    assert!(works > 20 && refused.len() > 100, "{works} work, {} are refused", refused.len());
    let panics = refused.iter().filter(|report| report.contains("contradict")).collect::<Vec<_>>();
    assert!(panics.is_empty(), "{panics:#?}");
}

#[test]
fn a_prompt_without_end_is_wrong_usage() {
    let tokenizer = Tokenizer::open(&fixture("wan21-t2v/tokenizer"), Vocabulary::T5).expect("tokenizer");
    assert_eq!(tokenizer.encode(&"x".repeat(MAX_BYTES + 1), LENGTH).expect_err("too long").kind(), Kind::Usage);
    assert!(tokenizer.encode(&"fox ".repeat(MAX_BYTES / 4), LENGTH).is_ok());
}

/// The safetensors files of a folder's text encoder.
fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixture(folder).join("text_encoder")).expect("folder");
    let paths = entries.map(|entry| entry.expect("entry").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors")).collect()
}

fn config(folder: &str) -> Config {
    let text = std::fs::read_to_string(fixture(folder).join("text_encoder/config.json")).expect("config");
    serde_json::from_str(&text).expect("config")
}

fn encoder(folder: &str, dtype: DType, change: impl Fn(&mut Config)) -> Result<Umt5> {
    let mut config = config(folder);
    change(&mut config);
    Umt5::load(&Weights::open(&files(folder), &device(), dtype).expect("weights"), &config)
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of the callback")]
fn silent(_: usize, _: usize) -> Result<()> {
    Ok(())
}

#[test]
fn embeddings_are_those_of_the_reference() {
    for folder in FOLDERS {
        let encoder = encoder(folder, DType::F32, |_| ()).expect("encoder");
        let reference = tensors(&format!("{folder}/reference.safetensors"));
        for (_, prefix) in cases(folder) {
            let ids = reference_ids(&reference, prefix);
            let found = encoder.encode(&ids, LENGTH, &mut silent).expect("embeddings");
            assert_eq!(found.dims(), [1, LENGTH, 32]);
            let expected = &reference[&format!("{prefix}embeds")];
            let rows = expected.dim(1).expect("rows");
            close(&found.narrow(1, 0, rows).expect("rows"), expected, BAR, &format!("{folder} {prefix}embeds"));
            let rest =
                found.i((0, ids.len()..)).and_then(|rest| rest.flatten_all()).and_then(|rest| rest.to_vec1::<f32>());
            assert!(rest.expect("numbers").iter().all(|&x| x == 0.0), "{folder} {prefix}: the padding is not zero");
        }
    }
}

#[test]
fn every_number_of_the_configuration_is_heeded() {
    let changed = |config: &mut Config| {
        config.layer_norm_epsilon = 0.02;
        config.relative_attention_max_distance = 50;
    };
    let encoder = encoder("wan21-t2v", DType::F32, changed).expect("encoder");
    let ids = reference_ids(&tensors("wan21-t2v/reference.safetensors"), "text.long_");
    let found = encoder.encode(&ids[..300], 300, &mut silent).expect("embeddings");
    close(&found, &tensors("text/embeds.safetensors")["embeds"], BAR, "other numbers");
}

#[test]
fn in_bf16_the_embeddings_are_near_and_bf16() {
    let encoder = encoder("wan21-t2v", DType::BF16, |_| ()).expect("encoder");
    let reference = tensors("wan21-t2v/reference.safetensors");
    let ids = reference_ids(&reference, "text.");
    let found = encoder.encode(&ids, ids.len(), &mut silent).expect("embeddings");
    assert_eq!(found.dtype(), DType::BF16);
    close(&found, &reference["text.embeds"].narrow(1, 0, ids.len()).expect("rows"), IN_BF16, "embeds in bf16");
}

#[test]
fn in_f16_what_outgrows_f16_does_not_overflow() {
    let config = config("wan21-t2v");
    let mut grown = HashMap::new();
    for file in files("wan21-t2v") {
        grown.extend(candle_core::safetensors::load(file, &device()).expect("weights"));
    }
    // The trained encoder's sums reach hundreds of thousands; these reach further than f16, in the products and in the sums.
    for (name, tensor) in &mut grown {
        let scale = if name.ends_with("wo.weight") { 2e4 } else { 1.0 };
        let scale = if name.contains("wi_") { 200.0 } else { scale };
        *tensor = (&*tensor * scale).expect("larger");
    }
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("model.safetensors");
    candle_core::safetensors::save(&grown, &file).expect("weights");
    let ids = reference_ids(&tensors("wan21-t2v/reference.safetensors"), "text.");
    let encode = |dtype| {
        let weights = Weights::open(&[&file].map(PathBuf::from), &device(), dtype).expect("weights");
        Umt5::load(&weights, &config)
            .and_then(|encoder| encoder.encode(&ids, ids.len(), &mut silent))
            .expect("embeddings")
    };
    let (half, whole) = (encode(DType::F16), encode(DType::F32));
    assert_eq!(half.dtype(), DType::F16);
    close(&half.to_dtype(DType::F32).expect("wide"), &whole, IN_F16, "embeds in f16");
}

#[test]
fn each_block_is_reported_and_may_be_the_last() {
    let encoder = encoder("wan21-t2v", DType::F32, |_| ()).expect("encoder");
    let mut seen = Vec::new();
    let mut report = |done, total| {
        seen.push((done, total));
        Ok(())
    };
    encoder.encode(&[5, 1], 8, &mut report).expect("embeddings");
    assert_eq!(seen, [(1, 3), (2, 3), (3, 3)]);
    let mut calls = 0;
    let mut stop = |done, _| {
        calls += 1;
        if done == 2 { Err(Error::stopped("stopped")) } else { Ok(()) }
    };
    assert_eq!(encoder.encode(&[5, 1], 8, &mut stop).expect_err("stopped").kind(), Kind::Stopped);
    assert_eq!(calls, 2);
}

#[test]
fn ids_that_do_not_fit_are_an_error() {
    let encoder = encoder("wan21-t2v", DType::F32, |_| ()).expect("encoder");
    let report = |ids: &[u32], length| encoder.encode(ids, length, &mut silent).err().map(|error| error.report());
    assert!(report(&[5, 428, 1], 8).expect("an error").contains("gives the id 428, but the text encoder has only 428"));
    assert!(report(&[5, u32::MAX, 1], 8).is_some());
    assert!(report(&[], 8).is_some());
    assert!(report(&[5, 6, 1], 2).is_some());
    assert!(report(&[1], usize::MAX).is_some());
    assert!(report(&[427, 1], 2).is_none());
}

#[test]
fn a_configuration_of_something_else_is_an_error() {
    let text = std::fs::read_to_string(fixture("wan21-t2v/text_encoder/config.json")).expect("fixture");
    let wrong = [
        ("model_type", json!("t5"), "is a `t5`, not a `umt5`"),
        ("feed_forward_proj", json!("relu"), "`feed_forward_proj` must be \"gated-gelu\", not \"relu\""),
        ("d_model", json!(0), "`d_model` must be 1 to 65536, not 0"),
        ("d_ff", json!(1u64 << 60), "`d_ff` must be"),
        ("num_layers", json!(-3), "invalid value"),
        ("num_heads", json!("many"), "invalid type"),
        ("relative_attention_num_buckets", json!(2), "2 buckets"),
        ("relative_attention_max_distance", json!(8), "up to 8"),
        ("layer_norm_epsilon", json!(0.0), "`layer_norm_epsilon` must be above 0"),
    ];
    for (key, value, message) in wrong {
        let mut json: Value = serde_json::from_str(&text).expect("json");
        json[key] = value;
        let config = serde_json::from_value::<Config>(json).context(|| "a field does not fit");
        let report = config.and_then(|config| config.check()).expect_err(key).report();
        assert!(report.contains(message), "{key}: {report}");
    }
}

#[test]
fn weights_of_another_shape_are_an_error() {
    let report = |change: fn(&mut Config)| encoder("wan21-t2v", DType::F32, change).err().expect("an error").report();
    assert!(report(|config| config.d_ff = 57).contains("shape"));
    assert!(report(|config| config.num_layers = 4).contains("is missing"));
    assert!(report(|config| config.num_layers = 2).contains("do not belong to this network"));
    assert!(report(|config| config.vocab_size = 1000).contains("shape"));
}
