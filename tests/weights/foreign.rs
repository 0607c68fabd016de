//! Bytes, JSON and texts from strangers: whatever is in them, nothing panics, hangs or asks for memory without end.
//!
//! Pictures, films and rates have properties of their own in `media`, the answers of a hub in `hub`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::Device;
use proptest::prelude::*;
use serde_json::{Value, json};
use talkie::compute::device;
use talkie::families::latents;
use talkie::families::text::clean::clean;
use talkie::families::text::tokenize::{Tokenizer, Vocabulary};
use talkie::media::Format;
use talkie::model::catalogue::Entry;
use talkie::pipeline::run::Run;
use talkie::request::{Request, Size};
use talkie::sampling::schedule::{Sampler, Schedule, SchedulerConfig};
use talkie::weights::Header;
use talkie::weights::bundle;
use talkie::{Machine, ModelChoice, Session};
use talkie::{error, request};

use crate::support::command::{Bench, floats, write_tensors};
use crate::support::{cases, fixture};

/// One thing that happens to bytes: where, what, and how much.
type Damage = (f64, u8, u8);

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    prop::collection::vec((0.0..1.0, any::<u8>(), any::<u8>()), 1..6)
}

/// `bytes` with some of them replaced, left out, doubled, or the end cut off.
fn damaged(bytes: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for &(place, kind, value) in damages {
        let at = (place * bytes.len() as f64) as usize;
        let end = (at + usize::from(value % 16)).min(bytes.len());
        match kind % 6 {
            _ if bytes.is_empty() => {}
            0 | 1 => bytes[at] = value,
            2 => drop(bytes.drain(at..end)),
            3 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            4 => bytes[at..end].fill(if value < 128 { 0xff } else { b'9' }),
            _ => bytes.truncate(bytes.len() - (bytes.len() - at) / 8),
        }
    }
    bytes
}

/// Values that people and programs put where others belong.
fn value() -> impl Strategy<Value = Value> {
    let numbers = [0.5, -1.0, 1e-300, 1e308, -0.0, 1e19, 3.0, 1e9].map(|number| json!(number));
    let whole = [0, 1, 2, 3, 7, 16, 1000, 1 << 20, 1 << 31, 1 << 40, 1 << 53, i64::MAX, -1, i64::MIN].map(|n| json!(n));
    let texts = ["", "x", "1", "nan", "ü\u{0}\u{202e}", "WanPipeline", "bh2"].map(|text| json!(text));
    let other =
        [json!(null), json!(true), json!(false), json!(u64::MAX), json!([]), json!({}), json!("x".repeat(5000))];
    let leaf = prop::sample::select([&numbers[..], &whole, &texts, &other].concat());
    leaf.prop_recursive(2, 12, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::btree_map("[a-z_]{1,6}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

/// The place of every value in a JSON document, as JSON pointers.
fn places(json: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match json {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    let below = |(key, value): (String, &Value)| places(value).into_iter().map(move |rest| format!("/{key}{rest}"));
    std::iter::once(String::new()).chain(children.into_iter().flat_map(below)).collect()
}

/// `json` with `new` in one of its places.
fn replaced(json: &Value, place: f64, new: Value) -> Value {
    let places = places(json);
    let pointer = &places[(place * places.len() as f64) as usize];
    let mut json = json.clone();
    if let Some(old) = json.pointer_mut(pointer) {
        *old = new;
    }
    json
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

/// Reads a file in every way in which tensors are read.
fn read_tensors(path: &Path) {
    let _ = bundle::load(path, &Device::Cpu);
    let _ = latents::load_latents(path);
    let _ = bundle::metadata(path);
}

/// A header of up to four tensors with any numbers, and its length before it. Half of them have offsets that fit.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let types = [("F32", 32), ("F64", 64), ("BF16", 16), ("U8", 8), ("I64", 64), ("BOOL", 8), ("C64", 64), ("F4", 4)];
    let odd = [("F6_E2M3", 6), ("F8_E4M3", 8), ("F8_E5M2", 8), ("F8_E8M0", 8), ("F64", 1 << 20), ("X", 0)];
    let side = || prop::sample::select(vec![0_u64, 1, 2, 3, 16, 1 << 20, 1 << 32, 1 << 61, (1 << 61) - 1, u64::MAX]);
    let kind = prop::sample::select([&types[..], &odd].concat());
    let tensor = (kind, prop::collection::vec(side(), 0..5), side(), any::<bool>());
    let tensors = prop::collection::btree_map("video|a|b|", tensor, 0..5);
    (tensors, prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(tensors, data)| {
        let mut end = 0_u64;
        let mut entry = |((dtype, bits), shape, other, fits): ((&str, u64), Vec<u64>, u64, bool)| {
            let begin = end;
            let elements = shape.iter().fold(1_u64, |count, side| count.wrapping_mul(*side));
            end = begin.wrapping_add(if fits { elements.wrapping_mul(bits) / 8 } else { other });
            json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]})
        };
        let map: BTreeMap<String, Value> = tensors.into_iter().map(|(name, tensor)| (name, entry(tensor))).collect();
        let json = json!(map).to_string();
        let data = data.into_iter().cycle().take(if end < 4096 { end as usize } else { 40 });
        [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &data.collect::<Vec<u8>>()].concat()
    })
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn any_bytes_are_a_header_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Header::parse(&bytes);
        // The same with a length that is right.
        let framed = [&(bytes.len() as u64).to_le_bytes()[..], &bytes].concat();
        prop_assert!(Header::parse(&framed).is_err() || !bytes.is_empty());
    }

    #[test]
    fn any_numbers_in_a_header_are_read_or_refused(bytes in header()) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), &bytes).expect("a file");
        if let Ok(header) = Header::parse(&bytes) {
            prop_assert!(header.tensors().all(|(_, stored)| stored.range.0 <= stored.range.1));
        }
        read_tensors(file.path());
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_damaged_file_of_tensors_is_read_or_refused(damages in damage()) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let tensors = [("video", vec![1, 2, 1, 2, 2]), ("other", vec![]), ("none", vec![0, 3])];
        let tensors = tensors.map(|(name, shape)| (name.to_owned(), floats(&shape, |at| at as f32)));
        write_tensors(file.path(), &tensors.into());
        let bytes = fs::read(file.path()).expect("a file");
        fs::write(file.path(), damaged(&bytes, &damages)).expect("a file");
        read_tensors(file.path());
    }

    #[test]
    fn any_value_in_a_catalogue_entry_is_read_or_refused(damages in damage(), which in 0..2_usize) {
        let name = ["wan2.1-t2v-1.3b.toml", "wan2.2-i2v-a14b.toml"][which];
        let text = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name)).expect(name);
        let text = damaged(&text, &damages);
        let _ = toml::from_str::<Entry>(&String::from_utf8_lossy(&text));
    }

    #[test]
    fn any_value_in_a_scheduler_is_used_or_refused(place in 0.0..1.0, new in value(), kind in 0..4_usize) {
        let kind = ["UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler", "DPMSolverMultistepScheduler", "x"][kind];
        let mut json = read(&fixture("wan21-t2v/scheduler/scheduler_config.json"));
        json["_class_name"] = json!(kind);
        if let Ok(config) = serde_json::from_value::<SchedulerConfig>(replaced(&json, place, new)) {
            let _ = config.sampling();
            prop_assert!(config.flow_shift().is_ok_and(|shift| shift > 0.0 && shift <= 100.0) || config.flow_shift().is_err());
        }
    }

    #[test]
    fn any_text_is_a_value_or_not(text in "\\PC{0,40}|[0-9.eE/xX+-]{0,40}|[0-9]{1,20} ?[kKmMgGtT]?i?[bB]?") {
        let _ = (text.parse::<Size>(), text.parse::<Sampler>(), request::bytes(&text), Format::of(Path::new(&text)));
        let _ = device::dtype(&text, &Device::Cpu);
        let _ = error::nearest(&text, &["sigmas", "text_length", "", "ü"]);
        prop_assert!(request::bytes(&text).map_or(true, |bytes| (1..1_000_000_000_000_000_000).contains(&bytes)));
    }

    #[test]
    fn any_sigmas_are_a_schedule_or_not(sigmas in prop::collection::vec(any::<f64>(), 0..20), shift in any::<f64>(), steps in any::<usize>()) {
        for sampler in Sampler::ALL {
            let falls = |schedule: Schedule| schedule.sigmas.windows(2).all(|pair| pair[1] < pair[0]);
            prop_assert!(Schedule::from_sigmas(sampler, &sigmas).map_or(true, falls));
            prop_assert!(Schedule::new(sampler, shift, steps % 1200).map_or(true, falls));
            prop_assert!(Schedule::new(sampler, 3.0, steps).map_or(true, falls));
        }
    }
}

/// What a film of this request would be, and that it is said in short time.
fn look((choice, request): &(ModelChoice, Request)) {
    let begin = Instant::now();
    if let Ok(plan) = Session::look(&Machine::here(), choice, request) {
        assert!(plan.stages.iter().all(|stage| stage.peak() >= stage.weights));
        assert!(!plan.to_string().is_empty() && serde_json::to_string(&plan).is_ok());
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "{request:?}");
}

fn of(bench: &Bench) -> ModelChoice {
    ModelChoice { model: Some(bench.path("model").display().to_string()), ..ModelChoice::default() }
}

fn fox() -> Request {
    Request { prompt: "a fox".into(), ..Request::default() }
}

const CONFIGURATIONS: [&str; 5] = [
    "model/model_index.json",
    "model/transformer/config.json",
    "model/text_encoder/config.json",
    "model/vae/config.json",
    "model/scheduler/scheduler_config.json",
];

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn any_value_in_a_configuration_is_planned_or_refused(which in 0..5_usize, place in 0.0..1.0, new in value(), large in any::<bool>()) {
        thread_local!(static BENCH: Bench = Bench::new("wan22-ti2v-5b"));
        BENCH.with(|bench| {
            let path = bench.path(CONFIGURATIONS[which]);
            let whole = fs::read(&path).expect("a configuration");
            fs::write(&path, replaced(&read(&path), place, new).to_string()).expect("a configuration");
            let size = large.then_some(Size { width: 16384, height: 16384 });
            look(&(of(bench), Request { size, frames: large.then_some(100_000), ..fox() }));
            fs::write(&path, whole).expect("a configuration");
        });
    }

    #[test]
    fn damaged_json_is_planned_or_refused(which in 0..5_usize, damages in damage()) {
        thread_local!(static BENCH: Bench = Bench::new("wan21-t2v"));
        BENCH.with(|bench| {
            let path = bench.path(CONFIGURATIONS[which]);
            let whole = fs::read(&path).expect("a configuration");
            fs::write(&path, damaged(&whole, &damages)).expect("a configuration");
            look(&(of(bench), fox()));
            fs::write(&path, whole).expect("a configuration");
        });
    }

    #[test]
    fn any_request_is_planned_or_refused(fields in prop::collection::vec((0.0..1.0, value()), 0..4)) {
        thread_local!(static BENCH: Bench = Bench::new("wan22-a14b"));
        let whole = json!(Request { set: BTreeMap::from([("tile".into(), "64".into())]), ..Request::default() });
        let request = fields.into_iter().fold(whole, |request, (place, new)| replaced(&request, place, new));
        if let Ok(request) = serde_json::from_value::<Request>(request) {
            BENCH.with(|bench| look(&(of(bench), Request { prompt: "a fox".into(), ..request })));
        }
    }

    #[test]
    fn any_numbers_are_planned_or_refused(
        size in (1..20_000_usize, 1..20_000_usize),
        frames in 0..200_000_usize,
        numbers in (any::<f64>(), any::<f64>(), any::<u64>()),
        keys in prop::collection::vec((0..8_usize, "[0-9.,e-]{0,12}"), 0..3),
    ) {
        thread_local!(static BENCH: Bench = Bench::new("wan22-a14b"));
        let names = ["boundary_ratio", "guidance_2", "sigmas", "solver_order", "solver_type", "text_length", "tile", "tile_stride"];
        let (guidance, flow_shift, memory) = numbers;
        BENCH.with(|bench| look(&(ModelChoice { memory: Some(memory >> (memory % 64)), ..of(bench) }, Request {
            size: Some(Size { width: size.0, height: size.1 }),
            frames: Some(frames),
            guidance: Some(guidance).filter(|_| memory % 3 == 0),
            flow_shift: Some(flow_shift).filter(|_| memory % 5 == 0),
            set: keys.into_iter().map(|(key, value)| (names[key].to_owned(), value)).collect(),
            ..fox()
        })));
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn a_damaged_tokenizer_is_used_or_refused(place in 0.0..1.0, new in value(), damages in damage(), whole in any::<bool>()) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = fixture("wan21-t2v/tokenizer/tokenizer.json");
        let bytes = match whole {
            true => replaced(&read(&path), place, new).to_string().into_bytes(),
            false => damaged(&fs::read(&path).expect("a tokenizer"), &damages),
        };
        fs::write(folder.path().join("tokenizer.json"), bytes).expect("a file");
        if let Ok(tokenizer) = Tokenizer::open(folder.path(), Vocabulary::T5) {
            let tokens = tokenizer.encode("a red fox, “walking” ½ 猫 \u{0}", 16);
            prop_assert!(tokens.map_or(true, |tokens| (1..=16).contains(&tokens.ids.len())));
        }
    }

    #[test]
    fn a_damaged_tokenizer_of_llama_cpp_is_used_or_refused(damages in damage()) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let bytes = fs::read(fixture("layouts/packed/umt5-Q8_0.gguf")).expect("an encoder");
        let tensors = bytes.windows(8).position(|word| word == b"add_eos_").expect("the last key");
        // As long as it was: otherwise the tensors would lie elsewhere, and nothing after that would be read.
        let mut head = damaged(&bytes[..tensors], &damages);
        head.resize(tensors, 0);
        fs::write(file.path(), [&head, &bytes[tensors..]].concat()).expect("a file");
        if let Ok(tokenizer) = Tokenizer::open(file.path(), Vocabulary::T5) {
            let tokens = tokenizer.encode("a red fox, “walking” ½ 猫 \u{0}", 16);
            prop_assert!(tokens.map_or(true, |tokens| (1..=16).contains(&tokens.ids.len())));
        }
    }

    #[test]
    fn any_prompt_is_cleaned_and_tokenized(prompt in prompt(), length in 1..40_usize) {
        thread_local!(static TOKENIZER: Tokenizer = Tokenizer::open(&fixture("wan21-t2v/tokenizer"), Vocabulary::T5).expect("a tokenizer"));
        let cleaned = clean(&prompt);
        let tokens = TOKENIZER.with(|tokenizer| tokenizer.encode(&cleaned, length)).expect("tokens");
        prop_assert!((1..=length).contains(&tokens.ids.len()));
        prop_assert_eq!(tokens.ids.last(), Some(&1));
    }

    #[test]
    fn a_damaged_plan_is_read_or_refused(place in 0.0..1.0, new in value(), damages in damage(), whole in any::<bool>()) {
        thread_local!(static PLAN: Value = {
            let bench = Bench::new("wan21-t2v");
            let plan = Session::look(&Machine::here(), &of(&bench), &Request { frames: Some(5), steps: Some(2), ..fox() }).expect("a plan");
            json!(plan)
        });
        let folder = tempfile::tempdir().expect("a folder");
        let bytes = PLAN.with(|plan| match whole {
            true => replaced(plan, place, new).to_string().into_bytes(),
            false => damaged(plan.to_string().as_bytes(), &damages),
        });
        fs::write(folder.path().join("plan.json"), bytes).expect("a plan");
        let Ok(run) = Run::open(folder.path().to_str(), folder.path()) else { return Ok(()) };
        let _ = run.plan().map(|plan| plan.to_string());
        let _ = (run.state(&Device::Cpu), run.conditioning(&Device::Cpu), run.latents());
    }
}

/// Texts with what HTML, terminals and broken encodings leave behind.
fn prompt() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<String>(),
        "[ -~]{0,20}",
        "&(#x?[0-9a-fA-F]{0,9}|[a-zA-Z]{1,8});?",
        "[\u{80}-\u{ff}]{0,8}",
        "\u{1b}\\[[0-9;]{0,4}[a-zA-Z]?",
        "[ﬀ-ﬆ！-～　\u{2028}\u{feff}\u{fffd}\u{200b}]{0,8}",
        "<[a-z/]{0,5}>",
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(cases(16))]

    /// Through the command: what the plan of a run says is carried out, or refused with one error.
    #[test]
    fn a_run_with_a_damaged_plan_is_carried_out_or_refused(place in 0.0..1.0, new in value()) {
        thread_local!(static STOPPED: (Bench, String) = {
            let bench = Bench::new("wan21-t2v");
            let vae = "model/vae/diffusion_pytorch_model.safetensors";
            let whole = fs::read(bench.path(vae)).expect(vae);
            bench.poison(vae, "decoder.conv_out.bias", f32::NAN);
            bench.generate(&[]).refused(1, &["not numbers"]);
            fs::write(bench.path(vae), whole).expect(vae);
            let run = bench.runs().remove(0);
            fs::remove_file(bench.path(&format!("home/runs/{run}/latents.safetensors"))).expect("latents");
            (bench, run)
        });
        STOPPED.with(|(bench, run)| {
            let copy = bench.path("home/runs/copy");
            let kept = bench.path("home/runs").join(run);
            fs::create_dir_all(&copy).expect("a folder");
            for file in ["state.safetensors", "conditioning.safetensors"] {
                fs::copy(kept.join(file), copy.join(file)).expect(file);
            }
            fs::write(copy.join("plan.json"), replaced(&read(&kept.join("plan.json")), place, new).to_string()).expect("a plan");
            let done = bench.run(&["resume", "copy"]);
            match done.code {
                Some(0) => drop(done.worked(&[])),
                Some(code @ (1 | 2)) => drop(done.refused(code, &[])),
                _ => panic!("{done}"),
            }
            fs::remove_dir_all(&copy).or_else(|_| fs::create_dir_all(&copy)).expect("a folder");
        });
    }
}
