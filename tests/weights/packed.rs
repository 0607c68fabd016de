//! Weights in fewer bits: the numbers that they stand for, and what is multiplied with them.

use std::collections::HashMap;
use std::fs;

use candle_core::{DType, Tensor};
use proptest::prelude::*;
use talkie::nn::Linear;
use talkie::nn::embed::Embedding;
use talkie::weights::{Weights, gguf};

use crate::support::{cases, device, fixture, relative_l2, tensors};

fn open(file: &str) -> Weights {
    Weights::open(&[fixture("quants").join(file)], &device(), DType::F32).expect(file)
}

fn numbers() -> HashMap<String, Tensor> {
    tensors("quants/numbers.safetensors")
}

/// The bits of numbers, all kinds of NaN as one.
fn bits(xs: &Tensor) -> Vec<u32> {
    let values = xs.flatten_all().and_then(|xs| xs.to_vec1::<f32>()).expect("numbers");
    values.into_iter().map(|x| if x.is_nan() { f32::NAN } else { x }.to_bits()).collect()
}

#[test]
fn blocks_are_the_numbers_that_python_reads_bit_for_bit() {
    let (weights, numbers) = (open("quants.gguf"), numbers());
    let blocks: Vec<&String> = numbers.keys().filter(|name| !name.starts_with('e')).collect();
    assert_eq!(blocks.len(), 15);
    for name in blocks {
        let dims = numbers[name].dims();
        let found = weights.stored(name, dims).and_then(|found| Ok(found.to_dtype(DType::F32)?)).expect(name);
        assert_eq!(bits(&found), bits(&numbers[name]), "{name}");
    }
    weights.finish(&[]).expect("every tensor is read");
}

#[test]
fn eight_bits_are_the_numbers_that_torch_reads_bit_for_bit() {
    let (weights, numbers) = (open("fp8.safetensors"), numbers());
    let ids = Tensor::arange(0u32, 8, &device()).unwrap();
    let layers: Vec<&str> = numbers.keys().filter_map(|name| name.strip_suffix(".weight")).collect();
    let layers: Vec<&str> =
        layers.into_iter().filter(|name| name.starts_with("e4") || name.starts_with("e5")).collect();
    assert_eq!(layers.len(), 6);
    for name in layers {
        let found = Embedding::load(&weights.pp(name), 8, 32).and_then(|table| Ok(table.forward(&ids, DType::F32)?));
        assert_eq!(bits(&found.expect(name)), bits(&numbers[&format!("{name}.weight")]), "{name}");
    }
    weights.finish(&[]).expect("every tensor is read, or lies beside one that is");
}

#[test]
fn a_layer_multiplies_with_the_numbers_that_are_stored() {
    let numbers = numbers();
    // Of eight bits the first three rows: in the fourth is what is no number.
    for (file, columns, rows, whole, layers) in [("quants.gguf", 512, 6, 6, 13), ("fp8.safetensors", 32, 8, 3, 6)] {
        let weights = open(file);
        let xs = Tensor::randn(0f32, 1.0, (2, 3, columns), &device()).unwrap();
        let here = |name: &str| weights.shapes().any(|(other, shape)| other == name && shape == [rows, columns]);
        let mut seen = 0;
        for (name, weight) in numbers.iter().filter(|(name, _)| here(name)) {
            let layer = Linear::without_bias(&weights.pp(name.strip_suffix(".weight").unwrap()), columns, rows);
            let made = layer.expect(name).forward(&xs).expect(name).narrow(2, 0, whole).unwrap();
            let wanted = xs.broadcast_matmul(&weight.narrow(0, 0, whole).unwrap().t().unwrap()).unwrap();
            let error = relative_l2(&made, &wanted);
            assert!(error < 1e-6, "{name}: {error:e}");
            seen += 1;
        }
        assert_eq!(seen, layers, "{file}");
    }
}

#[test]
fn a_flattened_matrix_is_looked_up_by_row() {
    let (weights, numbers) = (open("quants.gguf"), numbers());
    let table = Embedding::load(&weights.pp("flat"), 8, 24).expect("a table");
    let ids = Tensor::new(&[7u32, 0, 3, 3], &device()).unwrap();
    let wanted = numbers["flat.weight"].index_select(&ids, 0).unwrap();
    assert_eq!(bits(&table.forward(&ids, DType::F32).expect("rows")), bits(&wanted));
    assert!(table.forward(&Tensor::new(&[8u32], &device()).unwrap(), DType::F32).is_err(), "past the end");
}

/// What opening a damaged copy of the file says.
fn damaged(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.gguf");
    let mut bytes = fs::read(fixture("quants/quants.gguf")).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let error = Weights::open(&[path], &device(), DType::F32).err().expect("an error");
    format!("{error:?}")
}

#[test]
fn a_gguf_file_that_is_not_one_is_refused_with_a_reason() {
    let place = |bytes: &[u8], word: &[u8]| bytes.windows(word.len()).position(|part| part == word).expect("a word");
    let cut = damaged(|bytes| bytes.truncate(bytes.len() - 64));
    assert!(cut.contains("beyond the end"), "{cut}");
    let short = damaged(|bytes| bytes.truncate(100));
    assert!(short.contains("ends before its header"), "{short}");
    let version = damaged(|bytes| bytes[4] = 1);
    assert!(version.contains("version 1"), "{version}");
    let countless = damaged(|bytes| bytes[8..16].fill(255));
    assert!(countless.contains("ends before its header"), "{countless}");
    // The type follows the name, the number of sides and two sides.
    let other = damaged(|bytes| {
        let at = place(bytes, b"Q4_K.weight") + 11 + 4 + 16;
        bytes[at] = 23;
    });
    assert!(other.contains("`Q4_K.weight` is stored as IQ4_XS") && other.contains("Q6_K"), "{other}");
    let sides = damaged(|bytes| {
        let at = place(bytes, b"Q4_K.weight") + 11 + 4;
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    });
    assert!(sides.contains("an impossible shape"), "{sides}");
    let offset = damaged(|bytes| {
        let at = place(bytes, b"Q4_K.weight") + 11 + 4 + 16 + 4;
        bytes[at..at + 8].copy_from_slice(&(1u64 << 40).to_le_bytes());
    });
    assert!(offset.contains("beyond the end"), "{offset}");
    let twice = damaged(|bytes| {
        let at = place(bytes, b"Q4_1.weight");
        bytes[at..at + 4].copy_from_slice(b"Q4_0");
    });
    assert!(twice.contains("twice"), "{twice}");
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn no_damage_to_a_gguf_header_makes_it_panic_or_leave_the_file(
        changes in prop::collection::vec((0usize..2200, any::<u8>()), 1..6),
        length in prop::option::of(0usize..4000),
    ) {
        let mut bytes = fs::read(fixture("quants/quants.gguf")).unwrap();
        changes.into_iter().for_each(|(at, value)| bytes[at] = value);
        bytes.truncate(length.unwrap_or(bytes.len()));
        if let Ok(table) = gguf::parse(&bytes) {
            for stored in table.tensors.values() {
                prop_assert!(stored.range.0 <= stored.range.1 && stored.range.1 <= bytes.len());
            }
        }
    }
}
