//! The tokenizer in a GGUF file of a text encoder: the ids of the `tokenizer.json` of the same SentencePiece model.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;
use talkie::families::text::tokenize::{Tokenizer, Vocabulary};
use talkie::model::Model;

use crate::support::command::{Bench, copy};
use crate::support::{cases, fixture, reference};

const ENCODER: &str = "layouts/packed/umt5-Q8_0.gguf";

fn open(path: &Path) -> Tokenizer {
    Tokenizer::open(path, Vocabulary::T5).expect("a tokenizer")
}

/// The tokenizer of the fixture's folder, and that of its GGUF file.
fn both() -> (Tokenizer, Tokenizer) {
    (open(&fixture("layouts/diffusers/tokenizer")), open(&fixture(ENCODER)))
}

#[track_caller]
fn same((json, gguf): &(Tokenizer, Tokenizer), text: &str) {
    let ids = |tokenizer: &Tokenizer| tokenizer.encode(text, 20_000).expect("tokens").ids;
    assert_eq!(ids(gguf), ids(json), "{text:?}");
}

/// Every text in a JSON document.
fn texts(json: &Value) -> Vec<String> {
    match json {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn texts_become_the_ids_of_the_tokenizer_file() {
    let both = both();
    let cleaned = fs::read(fixture("text/cleaned.json")).unwrap();
    let mut all = texts(&serde_json::from_slice(&cleaned).unwrap());
    all.extend(texts(&reference("wan21-t2v")["prompts"]));
    assert!(all.len() > 300, "{}", all.len());
    all.iter().for_each(|text| same(&both, text));
}

#[test]
fn spaces_marks_and_what_is_in_no_piece_become_the_same_ids() {
    let both = both();
    let spaces = [
        "",
        " ",
        "   ",
        "a  red   fox ",
        " a\u{a0}fox\t\tand\r\n\na hare",
        "▁a▁▁fox",
        "a\u{3000}\u{200b}fox",
        "\u{85}a",
    ];
    let marks = [
        "</s>",
        "a</s>fox",
        "<pad><pad> a",
        "a <unk> fox",
        "<s>",
        "</ s>",
        "<0x41>",
        "<0x0A>fox",
        "[PAD420]",
        "[PAD427]a",
    ];
    let unknown = ["ξ", "a ξψω fox", "ξ ψ", "😀😀 fox", "猫雪", "\u{10ffff}\u{0}", "e\u{301}", "ﬁne ½ ™ Ｆｕｌｌ"];
    [&spaces[..], &marks, &unknown].concat().into_iter().for_each(|text| same(&both, text));
    // What fills the list up is no piece, and one more unknown character is no reason for another way to cut a text.
    let ids = |text| both.1.encode(text, 100).unwrap().ids;
    assert!(ids("[PAD421]").iter().all(|&id| id < 420));
    assert_eq!((ids("</s>"), ids("<pad>"), ids("<unk>")), (vec![1, 1], vec![0, 1], vec![2, 1]));
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn any_text_becomes_the_same_ids(words in prop::collection::vec(r"[a-zA-Z,.'’é猫 ]{0,12}|\PC{0,6}|\s{0,4}", 0..20)) {
        thread_local!(static BOTH: (Tokenizer, Tokenizer) = both());
        let text = words.concat();
        prop_assume!(!text.contains("<extra_id"));
        BOTH.with(|both| same(both, &text));
    }
}

/// A folder of pieces whose text encoder is the GGUF file, without a tokenizer of its own.
fn bare() -> Bench {
    let bench = Bench::new("layouts/original");
    fs::remove_file(bench.path("model/models_t5_umt5-xxl-enc-bf16.pth")).unwrap();
    fs::copy(fixture(ENCODER), bench.path("model/umt5.gguf")).unwrap();
    fs::remove_dir_all(bench.path("model/google")).unwrap();
    bench
}

/// The pixels of a film.
fn film(bench: &Bench, arguments: &[&str]) -> Vec<Vec<u8>> {
    let _ = fs::remove_dir_all(bench.path("out/film"));
    bench.generate(&[&["--flow-shift", "3"], arguments].concat()).worked(&[]);
    let frame = |n| talkie::media::read_image(&bench.path(&format!("out/film/frame-0000{n}.png"))).unwrap().data;
    (0..5).map(frame).collect()
}

#[test]
fn a_folder_without_a_tokenizer_takes_that_of_its_text_encoder() {
    let bench = bare();
    let found = film(&bench, &[]);
    copy(&fixture("layouts/diffusers/tokenizer"), &bench.path("model/tokenizer"));
    assert!(film(&bench, &[]) == found, "another film");
}

#[test]
fn a_text_encoder_over_a_model_without_a_tokenizer_brings_its_own() {
    let bench = Bench::new("layouts/diffusers");
    fs::copy(fixture(ENCODER), bench.path("umt5.gguf")).unwrap();
    let wanted = film(&bench, &["--text-encoder", "umt5.gguf"]);
    fs::remove_file(bench.path("model/tokenizer/tokenizer.json")).unwrap();
    assert!(film(&bench, &["--text-encoder", "umt5.gguf"]) == wanted, "another film");
    bench.generate(&[]).refused(1, &["no `tokenizer.json`", "spiece.model"]);
    // The same over a folder of pieces.
    let bench = Bench::new("layouts/original");
    fs::copy(fixture(ENCODER), bench.path("umt5.gguf")).unwrap();
    fs::remove_dir_all(bench.path("model/google")).unwrap();
    film(&bench, &["--text-encoder", "umt5.gguf"]);
    let pth = "models_t5_umt5-xxl-enc-bf16.pth";
    bench.generate(&[]).refused(1, &["no `tokenizer.json`", "none is in", pth, "google/umt5-xxl", "GGUF"]);
}

#[test]
fn the_models_own_tokenizer_comes_first() {
    let mut model = Model::open(&fixture("layouts/diffusers")).unwrap();
    model.replace("text_encoder", &fixture(ENCODER)).unwrap();
    assert_eq!(model.component("tokenizer").unwrap().folder, fixture("layouts/diffusers/tokenizer"));
    let bench = bare();
    let place =
        |bench: &Bench| Model::open(&bench.path("model")).unwrap().component("tokenizer").unwrap().folder.clone();
    assert_eq!(place(&bench), bench.path("model/umt5.gguf"));
    copy(&fixture("layouts/diffusers/tokenizer"), &bench.path("model/tokenizer"));
    assert_eq!(place(&bench), bench.path("model/tokenizer"));
}

/// Changes bytes of the GGUF file, `skip` bytes after a word in it.
fn changed(bench: &Bench, word: &str, skip: usize, bytes: &[u8]) {
    let mut file = fs::read(fixture(ENCODER)).unwrap();
    let at = file.windows(word.len()).position(|part| part == word.as_bytes()).expect(word) + word.len() + skip;
    file[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(bench.path("model/umt5.gguf"), file).unwrap();
}

#[test]
fn a_tokenizer_that_is_not_one_is_refused_with_a_reason() {
    let bench = bare();
    // After a key: the type of the value; of a list also that of its values, and their number in eight bytes.
    let (single, list) = (4, 16);
    let table: &[(&str, usize, &[u8], &str)] = &[
        ("tokenizer.ggml.model", single + 8, b"xx", "kind `xx`"),
        ("tokenizer.ggml.scores", list, &f32::NAN.to_le_bytes(), "scores is NaN"),
        ("tokenizer.ggml.token_type", list, &77_i32.to_le_bytes(), "type 77"),
        ("tokenizer.ggml.eos_token_id", single, &400_u32.to_le_bytes(), "must be `</s>`, not `"),
        ("tokenizer.ggml.eos_token_id", single, &428_u32.to_le_bytes(), "`eos_token_id` is 428"),
        ("tokenizer.ggml.unknown_token_id", single, &u32::MAX.to_le_bytes(), "`unknown_token_id` is 4294967295"),
        ("tokenizer.ggml.precompiled_charsmap", list, &u32::MAX.to_le_bytes(), "character map is cut short"),
        ("tokenizer.ggml.precompiled_charsmap", list, &[0; 4], "character map is cut short"),
        ("tokenizer.ggml.token", 0, b"z", "no `tokenizer.ggml.tokens`"),
        ("tokenizer.ggml.score", 0, b"z", "no `tokenizer.ggml.scores`"),
        ("tokenizer.ggml.tokens", 8, &u64::MAX.to_le_bytes(), "ends before its header"),
        ("tokenizer.ggml.scores", 4, &[5], "what does not belong there"),
    ];
    for (word, skip, bytes, reason) in table {
        changed(&bench, word, *skip, bytes);
        bench.generate(&[]).refused(1, &["umt5.gguf", reason]);
    }
    // Under another key there is none.
    changed(&bench, "tokenizer.ggml.mode", 0, b"z");
    bench.generate(&[]).refused(1, &["no `tokenizer.json`", "none is in", "umt5.gguf"]);
}
