//! What Gemma 3, its tokenizer and the connectors refuse, and the words they find for it.

use candle_core::{DType, Tensor};
use serde_json::{Value, json};
use talkie::families::ltx::connectors::{self, Connectors, Packer};
use talkie::families::text::gemma3::Config;
use talkie::families::text::tokenize::{Tokenizer, Vocabulary};

use super::{
    FOLDERS, connectors_config, gemma, gemma_config, load_connectors, load_file, part, renamed, states, weights,
};
use crate::support::{device, fixture};

#[test]
fn a_tokenizer_of_another_vocabulary_is_an_error() {
    let report =
        |folder: &str, vocabulary| Tokenizer::open(&fixture(folder), vocabulary).err().expect("error").report();
    assert!(report("wan21-t2v/tokenizer", Vocabulary::Gemma).contains("not a Gemma tokenizer: it has no `<bos>`"));
    assert!(report("ltx2/tokenizer", Vocabulary::T5).contains("not a T5 tokenizer: it has no `</s>`"));
}

#[test]
fn ids_that_do_not_fit_are_an_error() {
    let gemma = gemma("ltx2", DType::F32);
    let report = |ids: &[u32], length| states(&gemma, ids, length).err().map(|error| error.report());
    assert!(report(&[2, 488], 8).expect("an error").contains("gives the id 488, but the text encoder has only 488"));
    assert!(report(&[], 8).is_some());
    assert!(report(&[2, 5, 6], 2).is_some());
    assert!(report(&[2], usize::MAX).is_some());
    assert!(report(&[2, 487], 2).is_none());
}

#[test]
fn weights_that_do_not_fit_are_an_error() {
    let config = gemma_config("ltx23");
    let report = |file, config: &Config| load_file(&file, config).err().expect("an error").report();
    let all = |name: &str| Some(name.to_owned());
    let head = |name: &str| Some(name.replace("model.norm", "lm_head.norm"));
    assert!(report(renamed("ltx23", head), &config).contains("`language_model.model.norm.weight` is missing"));
    let extra = |name: &str| Some(name.replace("multi_modal_projector", "audio_projector"));
    assert!(report(renamed("ltx23", extra), &config).contains("do not belong to this network"));
    assert!(report(renamed("ltx23", |_| None), &config).contains("embed_tokens.weight` is missing"));
    let mut other = config.clone();
    other.layer_types.pop();
    assert!(report(renamed("ltx23", all), &other).contains("do not belong to this network"));
    let other = Config { head_dim: 10, ..config };
    assert!(report(renamed("ltx23", all), &other).contains("shape"));
}

#[test]
fn a_configuration_of_something_else_is_an_error() {
    let good = part("ltx23", "text_encoder").config;
    let wrong = [
        ("model_type", json!("gemma4_text"), "is a `gemma4_text`, not a `gemma3_text`"),
        ("hidden_size", json!(0), "`hidden_size` must be 1 to 65536, not 0"),
        ("intermediate_size", json!(1u64 << 60), "`intermediate_size` must be"),
        ("num_hidden_layers", json!(1u64 << 40), "`num_hidden_layers` must be"),
        ("num_hidden_layers", json!(6), "`layer_types' length` must be 6, not 5"),
        ("num_attention_heads", json!(-1), "not that of a Gemma 3"),
        ("num_key_value_heads", json!(3), "`num_key_value_heads` must be a divisor of `num_attention_heads`"),
        ("num_key_value_heads", json!(8), "`num_key_value_heads` must be"),
        ("head_dim", json!(7), "`head_dim` must be even, not 7"),
        ("rms_norm_eps", json!(0), "`rms_norm_eps` must be above 0 and below 1, not 0"),
        ("query_pre_attn_scalar", json!(-8), "`query_pre_attn_scalar` must be"),
        ("sliding_window", json!(null), "`sliding_window` must be"),
        ("layer_types", json!(["full_attention", "chunked_attention"]), "not that of a Gemma 3"),
        ("sliding_window_pattern", json!(0), "`sliding_window_pattern` must be"),
        ("hidden_activation", json!("silu"), "`hidden_activation` must be \"gelu_pytorch_tanh\", not \"silu\""),
        ("attention_bias", json!(true), "`attention_bias` must be false, not true"),
        ("use_bidirectional_attention", json!(true), "`use_bidirectional_attention` must be false, not true"),
        (
            "rope_scaling",
            json!({"type": "yarn", "factor": 8.0}),
            "`rope_type` must be \"default\" or \"linear\", not yarn",
        ),
        (
            "rope_scaling",
            json!({"rope_type": "linear", "factor": 0.0}),
            "`factor` must be above 0 and below 1e6, not 0",
        ),
        (
            "rope_parameters",
            json!({"full_attention": {"rope_type": "linear"}}),
            "`factor` must be above 0 and below 1e6, not 0",
        ),
        ("rope_parameters", json!({"full_attention": {"rope_theta": -1.0}}), "`rope_theta` must be"),
        (
            "rope_parameters",
            json!({"sliding_attention": {"partial_rotary_factor": 0.5}}),
            "`partial_rotary_factor` must be 1.0, not 0.5",
        ),
    ];
    for (key, value, message) in wrong {
        let mut json = good.clone();
        json["text_config"][key] = value;
        let report = Config::from_json(&json).expect_err(key).report();
        assert!(report.contains(message) && report.contains("LTX-2 needs Gemma 3 12B"), "{key}: {report}");
    }
    assert!(Config::from_json(&json!([1])).is_err());
    assert!(Config::from_json(&json!({"model_type": "umt5"})).expect_err("T5").report().contains("is a `umt5`"));
}

#[test]
fn a_gemma_of_another_size_is_named_with_the_one_that_is_needed() {
    let small =
        json!({"hidden_size": 2560, "num_hidden_layers": 34, "num_attention_heads": 8, "num_key_value_heads": 4});
    let small = Config::from_json(&small).expect("config");
    let report = connectors::Config::default().check_encoder(&small).expect_err("4B").report();
    assert!(
        report.contains("34 layers of 2560 channels (Gemma 3 4B)")
            && report.contains("48 layers of 3840 channels (Gemma 3 12B)"),
        "{report}"
    );
    for folder in FOLDERS {
        connectors_config(folder).check_encoder(&gemma_config(folder)).expect("they fit");
        let fewer = connectors::Config { text_proj_in_factor: 5, ..connectors_config(folder) };
        let report = fewer.check_encoder(&gemma_config(folder)).expect_err("fewer layers").report();
        assert!(report.contains("5 layers of 16 channels") && report.contains("4 layers of 16 channels"), "{report}");
    }
}

#[test]
fn states_that_the_connectors_do_not_read_are_an_error() {
    let state = |channels: usize| Tensor::ones((1, 3, channels), DType::F32, &device()).unwrap();
    let packer = || Packer::new(&connectors_config("ltx2"), 3, &device(), DType::F32).expect("packer");
    let report = packer().push(&state(17)).expect_err("too wide").report();
    assert!(report.contains("16 channels") && report.contains("[1, 3, 17]"), "{report}");
    let mut packer = packer();
    for _ in 0..5 {
        packer.push(&state(16)).expect("a state");
    }
    let mut full = Packer::new(&connectors_config("ltx2"), 3, &device(), DType::F32).expect("packer");
    (0..6).for_each(|_| full.push(&state(16)).expect("a state"));
    assert!(full.push(&state(16)).is_err(), "one too many");
    let packed = full.finish().expect("packed").flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(packed.iter().all(|&x| x == 0.0), "a state without differences has none after the norm");
    assert!(packer.finish().expect_err("one too few").report().contains("read 6 states; the text encoder made 5"));
}

#[test]
fn a_length_that_registers_do_not_divide_is_an_error() {
    let packed = Tensor::ones((1, 9, 96), DType::F32, &device()).unwrap();
    let connectors = load_connectors("ltx2", DType::F32);
    assert!(
        connectors.embed(&packed, 20).expect_err("20 by 8").report().contains("9 tokens and 8 registers in 20 places")
    );
    assert!(connectors.embed(&packed, 8).is_err(), "no room");
    assert_eq!(connectors.embed(&packed, 16).expect("embeddings").video.dims(), [1, 16, 16]);
    let full = connectors.embed(&packed.narrow(1, 0, 8).unwrap(), 8).expect("no padding");
    assert_eq!(full.audio.dims(), [1, 8, 16]);
}

#[test]
fn connectors_that_contradict_themselves_are_an_error() {
    let part = part("ltx23", "connectors");
    let wrong = [
        ("caption_channels", json!(0), "`caption_channels` must be 1 to 65536, not 0"),
        ("text_proj_in_factor", json!(1u64 << 40), "`text_proj_in_factor` must be"),
        (
            "video_connector_num_learnable_registers",
            json!(null),
            "`video_connector_num_learnable_registers` must be 1 to 4096, not 0",
        ),
        ("audio_connector_num_layers", json!(1u64 << 40), "`audio_connector_num_layers` must be 0 to 1024"),
        ("audio_connector_attention_head_dim", json!(7), "`audio_connector_attention_head_dim` must be even, not 7"),
        ("video_hidden_dim", json!(24), "the video connector takes 20 channels, and its projection makes 24"),
        ("per_modality_projections", json!(false), "takes 20 channels, and its projection makes 16"),
        ("connector_rope_base_seq_len", json!(0), "`connector_rope_base_seq_len` must be"),
        ("rope_theta", json!(-1.0), "`rope_theta` must be"),
        ("rope_double_precision", json!(false), "`rope_double_precision` must be true, not false"),
    ];
    for (key, value, message) in wrong {
        let mut changed = part.clone();
        changed.config[key] = value;
        let config: connectors::Config = changed.config().expect(key);
        let report = Connectors::load(&weights(&part, DType::F32), &config).err().expect(key).report();
        assert!(report.contains(message), "{key}: {report}");
    }
    for (key, message) in [("rope_type", "does not fit its class"), ("video_gated_attn", "does not fit its class")] {
        let mut changed = part.clone();
        changed.config[key] = json!("askew");
        assert!(changed.config::<connectors::Config>().expect_err(key).report().contains(message), "{key}");
    }
    let report = |change: fn(&mut connectors::Config)| {
        let mut config = connectors_config("ltx23");
        change(&mut config);
        Connectors::load(&weights(&part, DType::F32), &config).err().expect("an error").report()
    };
    assert!(report(|config| config.video_gated_attn = false).contains("do not belong to this network"));
    assert!(report(|config| config.audio_connector_num_layers = 3).contains("is missing"));
    assert!(report(|config| config.text_proj_in_factor = 7).contains("shape"));
    assert!(report(|config| config.proj_bias = false).contains("do not belong to this network"));
}

#[test]
fn a_damaged_tokenizer_is_an_error_or_works() {
    let text = std::fs::read_to_string(fixture("ltx2/tokenizer/tokenizer.json")).expect("fixture");
    let mut json: Value = serde_json::from_str(&text).expect("json");
    let vocabulary = json["model"]["vocab"].as_object().expect("map").clone();
    json["model"]["vocab"] = vocabulary.into_iter().take(12).collect::<serde_json::Map<_, _>>().into();
    json["model"]["merges"] = json!([]);
    json["added_tokens"].as_array_mut().expect("list").truncate(5);
    let values = [json!(null), json!(0), json!(-1), json!(1e300), json!(1u64 << 40), json!(""), json!([]), json!({})];
    let folder = tempfile::tempdir().expect("folder");
    let (mut works, mut refused) = (0, 0);
    crate::families::text::prompts::each_change(&json, "", &values, &mut |_, json| {
        std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).expect("written");
        let tokenizer = Tokenizer::open(folder.path(), Vocabulary::Gemma);
        match tokenizer.and_then(|tokenizer| tokenizer.encode("A red fox, 漢字 é ﬁ", 8)) {
            Ok(_) => works += 1,
            Err(_) => refused += 1,
        }
    });
    assert!(works > 20 && refused > 100, "{works} work, {refused} are refused");
}
