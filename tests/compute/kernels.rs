//! The kernels for CUDA, run on this processor against their definition (`tests/kernels/definitions.cpp`): whoever builds talkie without
//! CUDA, and changes one, hears of it.

use std::path::Path;
use std::process::Command;

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QTensor};

use crate::nn::layers::noise;

/// Kinds of blocks, with their numbers in a GGUF file.
const KINDS: [(u32, GgmlDType); 10] = [
    (2, GgmlDType::Q4_0),
    (3, GgmlDType::Q4_1),
    (6, GgmlDType::Q5_0),
    (7, GgmlDType::Q5_1),
    (8, GgmlDType::Q8_0),
    (10, GgmlDType::Q2K),
    (11, GgmlDType::Q3K),
    (12, GgmlDType::Q4K),
    (13, GgmlDType::Q5K),
    (14, GgmlDType::Q6K),
];

/// The first C++ compiler that is there.
fn compiler() -> Option<&'static str> {
    ["c++", "g++", "clang++"].into_iter().find(|name| Command::new(name).arg("--version").output().is_ok())
}

/// Files of random blocks of a kind, and of the numbers that candle says they stand for.
fn blocks(folder: &Path, number: u32, kind: GgmlDType) -> [String; 3] {
    let xs = noise(&[7, 512]).to_device(&Device::Cpu).expect("numbers");
    let blocks = QTensor::quantize(&xs, kind).expect("blocks");
    let numbers = blocks.dequantize(&Device::Cpu).and_then(|xs| xs.flatten_all()?.to_vec1::<f32>()).expect("numbers");
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let [stored, meant] = ["blocks", "numbers"].map(|name| folder.join(format!("{number}.{name}")));
    std::fs::write(&stored, blocks.data().expect("blocks")).expect("a file");
    std::fs::write(&meant, bytes).expect("a file");
    [number.to_string(), stored.display().to_string(), meant.display().to_string()]
}

#[test]
fn kernels_compute_what_they_are_defined_to() {
    let Some(compiler) = compiler() else {
        println!("skipped: there is no C++ compiler here");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (program, sources) =
        (folder.path().join("definitions"), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels"));
    let built = Command::new(compiler)
        .args(["-std=c++17", "-O1", "-fno-strict-aliasing", "-w", "-o"])
        .args([&program, &sources.join("definitions.cpp")])
        .output()
        .expect("a compiler");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let files = KINDS.iter().flat_map(|&(number, kind)| blocks(folder.path(), number, kind));
    let ran = Command::new(&program).args(files).output().expect("a program");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    println!("{said}");
}
