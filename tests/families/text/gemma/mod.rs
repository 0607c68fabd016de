//! Gemma 3 and the connectors of LTX-2 against transformers and diffusers, for 2.0 and 2.3.

mod refused;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, IndexOp, Tensor};
use serde_json::{Value, json};
use talkie::error::Kind;
use talkie::families::ltx::connectors::{self, Connectors, Embeddings, Packer};
use talkie::families::text::clean::strip;
use talkie::families::text::gemma3::{Config, Gemma3};
use talkie::families::text::tokenize::{Tokenizer, Vocabulary};
use talkie::model::{Component, Model};
use talkie::weights::Weights;
use talkie::{Error, Result};

use crate::support::{close, device, fixture, reference, relative_l2, tensors};

const FOLDERS: [&str; 2] = ["ltx2", "ltx23"];
const PROMPTS: [&str; 2] = ["positive", "negative"];
const LENGTH: usize = 1024;

/// Where the text model lies in the released files.
const RELEASED: &str = "language_model.model.";

/// Measured: 1.2e-6, plain 1.2e-6; in bf16 1.5e-2 of states and 4.7e-2 of embeddings, either way.
const BAR: f64 = 3.6e-6;
const STATES_IN_BF16: f64 = 4e-2;
const EMBEDDINGS_IN_BF16: f64 = 1e-1;

fn part(folder: &str, name: &str) -> Component {
    Model::open(&fixture(folder)).expect(folder).component(name).expect(name).clone()
}

fn weights(part: &Component, dtype: DType) -> Weights {
    Weights::open(&part.paths(), &device(), dtype).expect("weights")
}

fn gemma_config(folder: &str) -> Config {
    Config::from_json(&part(folder, "text_encoder").config).expect("config")
}

fn gemma(folder: &str, dtype: DType) -> Gemma3 {
    let part = part(folder, "text_encoder");
    Gemma3::load(&weights(&part, dtype), &gemma_config(folder)).expect("model")
}

fn connectors_config(folder: &str) -> connectors::Config {
    part(folder, "connectors").config().expect("config")
}

fn load_connectors(folder: &str, dtype: DType) -> Connectors {
    Connectors::load(&weights(&part(folder, "connectors"), dtype), &connectors_config(folder)).expect("connectors")
}

/// The tokens of a prompt, without those of the padding.
fn reference_ids(reference: &HashMap<String, Tensor>, prompt: &str) -> Vec<u32> {
    let list = |kind: &str| {
        reference[&format!("text.{prompt}.{kind}")].to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap()
    };
    list("ids").into_iter().zip(list("mask")).filter(|&(_, mask)| mask == 1).map(|(id, _)| id).collect()
}

/// All hidden states, (states, tokens, channels).
fn states(gemma: &Gemma3, ids: &[u32], length: usize) -> Result<Tensor> {
    let mut states = Vec::new();
    gemma.encode(ids, length, &mut |number, state| {
        assert_eq!(number, states.len());
        states.push(state);
        Ok(())
    })?;
    Ok(Tensor::cat(&states, 0)?)
}

/// What the connectors make of hidden states (states, tokens, channels).
fn embed(folder: &str, dtype: DType, states: &Tensor, length: usize) -> Result<Embeddings> {
    let mut packer = Packer::new(&connectors_config(folder), states.dim(1)?, &device(), dtype)?;
    for state in states.chunk(states.dim(0)?, 0)? {
        packer.push(&state)?;
    }
    load_connectors(folder, dtype).embed(&packer.finish()?, length)
}

#[test]
fn prompts_are_tokenized_as_the_reference_does() {
    for folder in FOLDERS {
        let tokenizer = Tokenizer::open(&fixture(folder).join("tokenizer"), Vocabulary::Gemma).expect("tokenizer");
        let (expected, json) = (tensors(&format!("{folder}/reference.safetensors")), reference(folder));
        for prompt in PROMPTS {
            let text = json["prompts"][prompt].as_str().expect("prompt");
            let tokens = tokenizer.encode(strip(text), LENGTH).expect("tokens");
            assert_eq!((tokens.ids, tokens.cut), (reference_ids(&expected, prompt), 0), "{folder}: {text}");
        }
    }
}

#[test]
fn a_long_prompt_is_cut_at_its_end_and_keeps_its_beginning() {
    let tokenizer = Tokenizer::open(&fixture("ltx2/tokenizer"), Vocabulary::Gemma).expect("tokenizer");
    let whole = tokenizer.encode("a red fox walks through the snow", LENGTH).expect("tokens");
    let cut = tokenizer.encode("a red fox walks through the snow", 4).expect("tokens");
    assert_eq!(whole.ids[0], 2, "`<bos>` comes first");
    assert_eq!((&cut.ids[..], cut.cut), (&whole.ids[..4], whole.ids.len() - 4));
    let none = tokenizer.encode("", LENGTH).expect("tokens");
    assert_eq!((none.ids, none.cut), (vec![2], 0));
}

/// As that of the model in the box: the end of a prompt is a token of its own, and stays when the prompt is cut.
#[test]
fn a_template_may_end_a_prompt() {
    let text = fs::read_to_string(fixture("ltx2/tokenizer/tokenizer.json")).expect("a tokenizer");
    let mut json: Value = serde_json::from_str(&text).expect("JSON");
    let template = &mut json["post_processor"];
    template["single"].as_array_mut().expect("a template").push(json!({"SpecialToken": {"id": "<eos>", "type_id": 0}}));
    template["special_tokens"]["<eos>"] = json!({"id": "<eos>", "ids": [1], "tokens": ["<eos>"]});
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("tokenizer.json"), json.to_string()).expect("a file");
    let open = |folder: &Path| Tokenizer::open(folder, Vocabulary::Gemma).expect("tokenizer");
    let (plain, ended) = (open(&fixture("ltx2/tokenizer")), open(folder.path()));
    let words = "a red fox walks";
    let whole = plain.encode(words, LENGTH).expect("tokens").ids;
    let found = ended.encode(words, LENGTH).expect("tokens");
    assert_eq!((&found.ids[..], found.cut), (&[&whole[..], &[1]].concat()[..], 0));
    let cut = ended.encode(words, 4).expect("tokens");
    assert_eq!((&cut.ids[..], cut.cut), (&[&whole[..3], &[1]].concat()[..], whole.len() - 3));
    assert_eq!(ended.encode("", 2).expect("tokens").ids, [2, 1]);
    assert!(ended.encode("", 1).unwrap_err().report().contains("no room for 2 special tokens"));
}

#[test]
fn only_white_space_around_a_prompt_is_stripped() {
    assert_eq!(strip("\u{1c} \t\n\u{3000} a  “fox”\u{a0}&amp; \u{1f}\u{85}"), "a  “fox”\u{a0}&amp;");
    assert_eq!(strip(" \u{200b} "), "\u{200b}", "Python does not count the zero-width space");
}

#[test]
fn hidden_states_are_those_of_the_reference() {
    for folder in FOLDERS {
        let (gemma, expected) = (gemma(folder, DType::F32), tensors(&format!("{folder}/reference.safetensors")));
        for prompt in PROMPTS {
            let found = states(&gemma, &reference_ids(&expected, prompt), LENGTH).expect("states");
            let expected = &expected[&format!("gemma.{prompt}.hidden_states")];
            assert_eq!(found.dims(), expected.dims(), "{folder} {prompt}");
            for number in 0..found.dim(0).unwrap() {
                let what = format!("{folder} {prompt} state {number}");
                close(&found.i(number).unwrap(), &expected.i(number).unwrap(), BAR, &what);
            }
        }
    }
}

#[test]
fn connectors_give_the_reference_embeddings() {
    for folder in FOLDERS {
        let (expected, json) = (tensors(&format!("{folder}/reference.safetensors")), reference(folder));
        for prompt in PROMPTS {
            let found = embed(folder, DType::F32, &expected[&format!("gemma.{prompt}.hidden_states")], LENGTH)
                .expect("embeddings");
            let rows = json["text"][prompt]["connectors_rows"].as_array().expect("rows");
            let rows = rows.iter().map(|row| row.as_u64().expect("row") as u32).collect::<Vec<_>>();
            let rows = Tensor::new(rows, &device()).unwrap();
            for (kind, found) in [("video", found.video), ("audio", found.audio)] {
                assert_eq!(found.dim(1).unwrap(), LENGTH);
                let what = format!("connectors.{prompt}.{kind}");
                close(&found.index_select(&rows, 1).unwrap(), &expected[&what], BAR, &format!("{folder} {what}"));
            }
        }
    }
}

#[test]
fn connectors_count_registers_from_the_first_place() {
    for folder in FOLDERS {
        let expected = tensors(&format!("{folder}/reference.safetensors"));
        let get = |name: &str| &expected[&format!("connectors.short.{name}")];
        let mask = get("mask").to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap();
        let tokens = mask.iter().filter(|&&mask| mask == 1).count();
        let states = get("hidden_states").narrow(1, mask.len() - tokens, tokens).unwrap();
        let found = embed(folder, DType::F32, &states, mask.len()).expect("embeddings");
        close(&found.video, get("video"), BAR, &format!("{folder} short video"));
        close(&found.audio, get("audio"), BAR, &format!("{folder} short audio"));
    }
}

#[test]
fn from_tokens_to_embeddings_the_error_stays_small() {
    for folder in FOLDERS {
        let expected = tensors(&format!("{folder}/reference.safetensors"));
        let ids = reference_ids(&expected, "positive");
        let whole =
            embed(folder, DType::F32, &states(&gemma(folder, DType::F32), &ids, LENGTH).unwrap(), LENGTH).unwrap();
        let rows = ids.len() + 2;
        for (kind, found) in [("video", whole.video), ("audio", whole.audio)] {
            let expected = expected[&format!("connectors.positive.{kind}")].narrow(1, 0, rows).unwrap();
            close(&found.narrow(1, 0, rows).unwrap(), &expected, BAR, &format!("{folder} whole {kind}"));
        }
    }
}

#[test]
fn in_bf16_states_and_embeddings_are_near_and_bf16() {
    for folder in FOLDERS {
        let expected = tensors(&format!("{folder}/reference.safetensors"));
        let ids = reference_ids(&expected, "positive");
        let found = states(&gemma(folder, DType::BF16), &ids, LENGTH).expect("states");
        assert_eq!(found.dtype(), DType::BF16);
        close(&found, &expected["gemma.positive.hidden_states"], STATES_IN_BF16, &format!("{folder} bf16 states"));
        let found = embed(folder, DType::BF16, &found, LENGTH).expect("embeddings").video;
        assert_eq!(found.dtype(), DType::BF16);
        let rows = ids.len() + 2;
        let expected = expected["connectors.positive.video"].narrow(1, 0, rows).unwrap();
        close(&found.narrow(1, 0, rows).unwrap(), &expected, EMBEDDINGS_IN_BF16, &format!("{folder} bf16 embeddings"));
    }
}

#[test]
fn each_state_is_handed_on_when_it_is_made_and_may_be_the_last() {
    let gemma = gemma("ltx2", DType::F32);
    let mut calls = Vec::new();
    let mut stop = |number, state: Tensor| {
        calls.push((number, state.dims().to_vec()));
        if number == 2 { Err(Error::stopped("stopped")) } else { Ok(()) }
    };
    assert_eq!(gemma.encode(&[2, 300], 8, &mut stop).expect_err("stopped").kind(), Kind::Stopped);
    assert_eq!(calls, [0, 1, 2].map(|number| (number, vec![1, 2, 16])));
}

/// The tensors of a text encoder under other names, as a file.
fn renamed(folder: &str, name: impl Fn(&str) -> Option<String>) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("file");
    let mut all = HashMap::new();
    for path in part(folder, "text_encoder").paths() {
        let tensors = candle_core::safetensors::load(path, &device()).expect("tensors");
        all.extend(tensors.into_iter().filter_map(|(old, tensor)| Some((name(&old)?, tensor))));
    }
    candle_core::safetensors::save(&all, file.path()).expect("written");
    file
}

fn load_file(file: &tempfile::NamedTempFile, config: &Config) -> Result<Gemma3> {
    Gemma3::load(&Weights::open(&[file.path().to_owned()], &device(), DType::F32)?, config)
}

#[test]
fn every_way_of_naming_the_text_model_is_read() {
    let (config, ids) = (gemma_config("ltx23"), [2, 300, 301]);
    let expected = states(&gemma("ltx23", DType::F32), &ids, 16).expect("states");
    for prefix in ["language_model.model.", "model.language_model.", "model.", ""] {
        let file = renamed("ltx23", |name| match name.strip_prefix(RELEASED) {
            Some(name) => Some(format!("{prefix}{name}")),
            None if prefix.contains("language_model") => Some(format!("model.{name}")),
            None => None,
        });
        let found = states(&load_file(&file, &config).expect(prefix), &ids, 16).expect("states");
        assert!(relative_l2(&found, &expected) < 1e-12, "{prefix}");
    }
}

#[test]
fn every_number_of_the_configuration_is_heeded() {
    let config = gemma_config("ltx23");
    let ids = reference_ids(&tensors("ltx23/reference.safetensors"), "positive");
    let weights = || weights(&part("ltx23", "text_encoder"), DType::F32);
    let plain = states(&gemma("ltx23", DType::F32), &ids, LENGTH).expect("states");
    let changes: [fn(&mut Config); 7] = [
        |config| config.rms_norm_eps = 0.1,
        |config| config.query_pre_attn_scalar = 8.0,
        |config| config.sliding_window += 1,
        |config| config.local.theta = 1e5,
        |config| config.global.theta = 1e5,
        |config| config.global.factor = 4.0,
        |config| config.layer_types.rotate_left(1),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut config = config.clone();
        change(&mut config);
        let found = states(&Gemma3::load(&weights(), &config).expect("model"), &ids, LENGTH).expect("states");
        assert!(relative_l2(&found, &plain) > 1e-3, "change {number} makes no difference");
    }
}

#[test]
fn both_manners_of_writing_a_configuration_are_read() {
    let [old, new] = FOLDERS.map(gemma_config);
    assert_eq!(Config { query_pre_attn_scalar: 12.0, ..old }, new, "of transformers 4 and 5");
    let mut both = part("ltx2", "text_encoder").config;
    both["text_config"]["rope_scaling"] = json!({"factor": 8.0, "rope_type": "linear", "type": "linear"});
    both["text_config"]["sliding_window_pattern"] = json!(6);
    assert_eq!(Config::from_json(&both).expect("config"), gemma_config("ltx2"), "names old and new beside each other");
    // The text part as Google released Gemma 3 12B: what is left out is what transformers assumes.
    let released =
        Config::from_json(&json!({"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "text_config": {"hidden_size": 3840, "intermediate_size": 15360, "model_type": "gemma3_text",
            "num_attention_heads": 16, "num_hidden_layers": 48, "num_key_value_heads": 8,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}}))
        .expect("config");
    assert_eq!((released.vocab_size, released.head_dim, released.query_pre_attn_scalar), (262_208, 256, 256.0));
    assert_eq!((released.local.theta, released.local.factor), (1e4, 1.0));
    assert_eq!((released.global.theta, released.global.factor), (1e6, 8.0));
    let global = |index: &usize| released.layer_types[*index] == talkie::families::text::gemma3::LayerType::Global;
    assert_eq!((0..48).filter(global).collect::<Vec<_>>(), [5, 11, 17, 23, 29, 35, 41, 47]);
}
