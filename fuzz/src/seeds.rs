//! Every target by name, with the files that fuzzing and the smoke test begin with. They come from
//! `tests/fixtures`, or are made here.

use std::fs;

use candle_core::{DType, Device, Tensor};
use serde_json::json;
use talkie::weights::bundle;
use talkie::{Machine, ModelChoice, Request, Session};

use super::targets::{self, fixture};

/// A parser of foreign files.
pub struct Target {
    /// The name of the target.
    pub name: &'static str,
    /// Reads bytes.
    pub run: fn(&[u8]),
    /// Whole files.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 15] = [
    Target { name: "safetensors", run: targets::safetensors, seeds: safetensors },
    Target {
        name: "gguf",
        run: targets::gguf,
        seeds: || files(&["layouts/packed/umt5-Q8_0.gguf", "quants/quants.gguf"]),
    },
    Target { name: "pth", run: targets::pth, seeds: pth },
    Target { name: "lora", run: targets::lora, seeds: lora },
    Target { name: "piece", run: targets::piece, seeds: piece },
    Target { name: "checkpoint", run: targets::checkpoint, seeds: || vec![targets::checkpoint_config().into_bytes()] },
    Target { name: "configuration", run: targets::configuration, seeds: configuration },
    Target { name: "scheduler", run: targets::scheduler, seeds: scheduler },
    Target { name: "prompt", run: targets::prompt, seeds: prompt },
    Target { name: "tokenizer", run: targets::tokenizer, seeds: tokenizer },
    Target { name: "picture", run: targets::picture, seeds: picture },
    Target { name: "recipe", run: targets::recipe, seeds: || vec![RECIPE.as_bytes().to_vec()] },
    Target { name: "film", run: targets::film, seeds: film },
    Target { name: "plan", run: targets::plan, seeds: plan },
    Target { name: "hub", run: targets::hub, seeds: || vec![LISTING.as_bytes().to_vec()] },
];

const RECIPE: &str =
    r#"{"talkie": "0.1.0", "model": "Wan 2.1", "files": [], "prompt": "a fox", "seed": 1, "parameters": {}}"#;

const LISTING: &str = r#"{"sha": "0123456789012345678901234567890123456789", "siblings": [
    {"rfilename": "vae/config.json", "size": 12, "blobId": "0123456789012345678901234567890123456789"},
    {"rfilename": "a.safetensors", "size": 9, "lfs": {"size": 9, "sha256":
        "0123456789012345678901234567890123456789012345678901234567890123"}}]}"#;

/// Four by four pixels, as other programs write them.
const JPEG: &str = "ffd8ffe000104a46494600010100000100010000ffdb0043001b12141714111b1716171e1c1b2028422b28252528513a3d3042605565645f55\
    5d5b6a7899816a7190735b5d85b586909ea3abadab6780bcc9baa6c799a8aba4ffdb0043011c1e1e2823284e2b2b4ea46e5d6ea4a4a4a4a4a4a4a4a4a4a4a4\
    a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4ffc00011080004000403012200021101031101ffc4001500010100\
    000000000000000000000000000001ffc400191001000203000000000000000000000000000103041322ffc400140101000000000000000000000000000000\
    03ffc4001b11000201050000000000000000000000000102000311122131ffda000c03010002110311003f00b46151aa3900258dfb129b360373ffd9";
const WEBP: [&str; 2] = [
    "524946463a000000574542505650384c2e0000002f03c000007f40906d33b022dc1fe90cc33364f35f840c00cb3b80200062cd82050b262d58b06024a2ff81\
     b09a0f",
    "524946463e000000574542505650382032000000d001009d012a0400040005407c25a00274010efe038e0000fe87d7e2a7e05e43fcd2afda1adbcaf0175e26\
     5ba5de60000000",
];

fn files(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| fs::read(fixture(name)).expect(name)).collect()
}

/// Files with a first byte before each, which counts them.
fn counted(files: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    files.into_iter().zip(0_u8..).map(|(file, number)| [&[number], file.as_slice()].concat()).collect()
}

fn safetensors() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("latents.safetensors");
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).expect("zeros");
    let latents = [("video".to_owned(), zeros(&[1, 2, 1, 2, 2])), ("audio".to_owned(), zeros(&[1, 3, 2]))];
    bundle::save(&path, &latents, [("steps".to_owned(), "2".to_owned())].into()).expect("latents");
    let mut seeds = files(&["quants/fp8.safetensors", "pth/reference.safetensors"]);
    seeds.push(fs::read(path).expect("latents"));
    seeds
}

fn pth() -> Vec<Vec<u8>> {
    files(&["pth/plain-2.pth", "pth/plain-4.pth", "pth/nested.pth", "pth/transposed.pth", "pth/malicious.pth"])
}

fn lora() -> Vec<Vec<u8>> {
    files(&[
        "loras/kohya.safetensors",
        "loras/peft.safetensors",
        "loras/loha.safetensors",
        "loras/other-size.safetensors",
    ])
}

fn piece() -> Vec<Vec<u8>> {
    counted(files(&["layouts/packed/transformer-fp8.safetensors", "quants/fp8.safetensors", "loras/kohya.safetensors"]))
}

fn configuration() -> Vec<Vec<u8>> {
    counted(targets::configurations().map(|(model, file)| fs::read(fixture(model).join(file)).expect(file)).collect())
}

fn scheduler() -> Vec<Vec<u8>> {
    ["wan21-t2v", "ltx2"].map(|model| files(&[&format!("{model}/scheduler/scheduler_config.json")])).concat()
}

fn prompt() -> Vec<Vec<u8>> {
    let toml = "prompt = \"a caf&eacute;\"\nsounds = [\"rain\"]\n[[dialogue]]\nspeaker = \"she\"\ntext = \"No.\"\n";
    [toml, "a red fox, &amp; â€œwalkingâ€\u{9d} ｆａｓｔ \u{1b}[1m", "832x480", "1.5 GiB"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}

fn tokenizer() -> Vec<Vec<u8>> {
    files(&["wan21-t2v/tokenizer/tokenizer.json", "ltx2/tokenizer/tokenizer.json"])
}

fn picture() -> Vec<Vec<u8>> {
    let bytes = |hex: &str| -> Vec<u8> {
        let digits: Vec<u8> =
            hex.bytes().filter_map(|digit| (digit as char).to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    };
    let mut seeds = files(&["wan22-ti2v-5b/first.png"]);
    seeds.extend([JPEG, WEBP[0], WEBP[1]].map(bytes));
    seeds
}

#[cfg(not(feature = "ffmpeg"))]
fn film() -> Vec<Vec<u8>> {
    Vec::new()
}

/// Films as talkie writes them, each with its recipe.
#[cfg(feature = "ffmpeg")]
fn film() -> Vec<Vec<u8>> {
    use talkie::media::{Film, FilmSpec};

    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str| {
        let fps = "8".parse().expect("a rate");
        let spec = FilmSpec { width: 32, height: 32, fps, frames: 2, recipe: RECIPE.to_owned(), encoder: None };
        let mut film = Film::create(&folder.path().join(name), &spec, None).expect("a film");
        for brightness in [0, 99] {
            film.push(&[brightness; 32 * 32 * 3]).expect("a frame");
        }
        fs::read(film.finish().expect("a film").path).expect("a film")
    };
    counted(["film.mp4", "film.webm", "film.gif"].map(write).to_vec())
}

fn plan() -> Vec<Vec<u8>> {
    let plan = |model: &str| {
        let choice = ModelChoice { model: Some(fixture(model).display().to_string()), ..ModelChoice::default() };
        let request = Request { prompt: "a fox".into(), steps: Some(2), ..Request::default() };
        json!(Session::look(&Machine::here(), &choice, &request).expect("a plan")).to_string().into_bytes()
    };
    ["wan21-t2v", "ltx2"].map(plan).to_vec()
}
