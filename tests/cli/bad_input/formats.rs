//! Weights in formats that talkie does not compute with are refused by name, before anything is computed.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::Dtype;
use talkie::weights::Weights;

use super::nothing_left;
use crate::support::command::{Bench, Plain, write_tensors_with};
use crate::support::fixture;

const LAYER: &str = "blocks.0.attn1.to_q";

/// A tensor of zeros: how its name goes on after that of the layer, its type and its shape.
type Tiny = (&'static str, Dtype, &'static [usize]);

/// Writes a file with a layer like this one, and one tensor that is as it should be.
fn write(path: &Path, tensors: &[Tiny], note: Option<&str>, word: Option<&str>) {
    let mut all: BTreeMap<String, Plain> = BTreeMap::new();
    for (name, dtype, shape) in tensors {
        let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        all.insert(format!("{LAYER}.{name}"), (*dtype, shape.to_vec(), vec![0; bytes]));
    }
    all.insert("proj_out.bias".into(), (Dtype::F32, vec![64], vec![0; 256]));
    if let Some(note) = note {
        let note = format!(r#"{{"format": "{note}"}}"#).into_bytes();
        all.insert(format!("{LAYER}.comfy_quant"), (Dtype::U8, vec![note.len()], note));
    }
    let words = word.map(|format| {
        let layers = format!(r#"{{"format_version": "1.0", "layers": {{"{LAYER}": {{"format": "{format}"}}}}}}"#);
        [("_quantization_metadata".to_owned(), layers)].into()
    });
    write_tensors_with(path, &all, words);
}

/// A format by the name that the error has for it, with what a layer of it looks like and what ComfyUI notes of it: beside the
/// layer, or in the file's words.
type Format = (&'static str, &'static [Tiny], Option<&'static str>, Option<&'static str>);

use Dtype::{BF16, F8_E4M3, F8_E8M0, F16, F32, I8, I32, U8};

const FORMATS: &[Format] = &[
    (
        "NVFP4",
        &[("weight", U8, &[32, 16]), ("weight_scale", F8_E4M3, &[128, 4]), ("weight_scale_2", F32, &[])],
        None,
        None,
    ),
    ("NVFP4", &[("weight", U8, &[32, 16]), ("weight_scale", F8_E4M3, &[128, 4])], Some("nvfp4"), None),
    ("NVFP4", &[("weight", U8, &[32, 16])], None, Some("nvfp4")),
    ("MXFP8", &[("weight", F8_E4M3, &[32, 32]), ("weight_scale", F8_E8M0, &[32, 1])], None, None),
    ("MXFP8", &[("weight", F8_E4M3, &[32, 32]), ("weight_scale", U8, &[32, 1])], None, None),
    ("MXFP8", &[("weight", F8_E4M3, &[32, 32]), ("weight_scale", U8, &[32, 1])], Some("mxfp8"), None),
    ("INT8", &[("weight", I8, &[32, 32]), ("weight_scale", F32, &[32, 1])], Some("int8_tensorwise"), None),
    ("INT8", &[("weight", I8, &[32, 32]), ("weight_scale", F32, &[])], None, None),
    ("`convrot_w4a4`", &[("weight", U8, &[32, 16]), ("weight_scale", F32, &[32, 1])], Some("convrot_w4a4"), None),
    ("`awq_w4a16`", &[("weight", U8, &[32, 16])], None, Some("awq_w4a16")),
    (
        "NF4 of bitsandbytes",
        &[
            ("weight", U8, &[512, 1]),
            ("weight.absmax", F32, &[16]),
            ("weight.quant_map", F32, &[16]),
            ("weight.quant_state.bitsandbytes__nf4", U8, &[80]),
        ],
        None,
        None,
    ),
    (
        "FP4 of bitsandbytes",
        &[("weight", U8, &[512, 1]), ("weight.quant_state.bitsandbytes__fp4", U8, &[80])],
        None,
        None,
    ),
    (
        "4 bits of bitsandbytes",
        &[("weight", U8, &[512, 1]), ("weight.absmax", F32, &[16]), ("weight.quant_map", F32, &[16])],
        None,
        None,
    ),
    ("INT8 of bitsandbytes", &[("weight", I8, &[32, 32]), ("SCB", F32, &[32])], None, None),
    (
        "SVDQuant (Nunchaku)",
        &[
            ("qweight", I8, &[32, 16]),
            ("wscales", BF16, &[1, 32]),
            ("proj_down", BF16, &[32, 8]),
            ("proj_up", BF16, &[32, 8]),
            ("smooth_factor", BF16, &[32]),
        ],
        None,
        None,
    ),
    ("GPTQ or AWQ", &[("qweight", I32, &[4, 32]), ("qzeros", I32, &[1, 4]), ("scales", F16, &[1, 32])], None, None),
    ("a format of quanto", &[("weight._data", I8, &[32, 32]), ("weight._scale", BF16, &[32, 1])], None, None),
    ("a format of torchao", &[("_weight_qdata", F8_E4M3, &[32, 32]), ("_weight_scale", F32, &[32, 1])], None, None),
];

#[test]
fn every_format_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("other.safetensors");
    for (name, tensors, note, word) in FORMATS {
        write(&path, tensors, *note, *word);
        let error = Weights::open(std::slice::from_ref(&path), &Device::Cpu, DType::F32).err().expect(name).report();
        assert!(error.contains(&format!("its weights are in {name}, which")), "{name}: {error}");
        assert!(
            ["other.safetensors", "BF16", "FP8", "GGUF", "talkie quantize"].iter().all(|word| error.contains(word)),
            "{error}"
        );
    }
}

#[test]
fn a_file_is_refused_before_anything_is_computed() {
    let bench = Bench::new("wan21-t2v");
    let (_, tensors, ..) = FORMATS[0];
    write(&bench.path("nvfp4.safetensors"), tensors, None, None);
    let done = bench.generate(&["--transformer", "nvfp4.safetensors"]);
    nothing_left(&bench, done.refused(1, &["nvfp4.safetensors", "NVFP4"]));
    // In the model's own folder its header is read first.
    write(&bench.path("model/vae/diffusion_pytorch_model.safetensors"), tensors, None, None);
    nothing_left(&bench, bench.generate(&[]).refused(1, &["diffusion_pytorch_model.safetensors", "NVFP4"]));
    assert_eq!(bench.runs(), [""; 0], "a run was begun");
}

#[test]
fn what_talkie_reads_is_not_taken_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("scaled.safetensors");
    let layer: &[Tiny] = &[("weight", F8_E4M3, &[32, 32]), ("input_scale", F32, &[])];
    let scales: [Tiny; 4] = [
        ("scale_weight", F32, &[]),
        ("weight_scale", F32, &[]),
        ("weight_scale", F32, &[32, 1]),
        ("weight_scale", BF16, &[32, 1]),
    ];
    for scale in scales {
        for (note, word) in [(None, None), (Some("float8_e4m3fn"), None), (None, Some("float8_e4m3fn"))] {
            write(&path, &[layer, &[scale]].concat(), note, word);
            let weights = Weights::open(std::slice::from_ref(&path), &Device::Cpu, DType::F32).expect("weights");
            let matrix: Tensor = weights.pp(LAYER).f32("weight", (32, 32)).expect("a matrix");
            assert_eq!(matrix.abs().and_then(|xs| xs.sum_all()?.to_scalar::<f32>()).expect("a sum"), 0.0);
        }
    }
    for file in ["layouts/packed/transformer-fp8.safetensors", "quants/fp8.safetensors"] {
        Weights::open(&[fixture(file)], &Device::Cpu, DType::F32).expect(file);
    }
}
