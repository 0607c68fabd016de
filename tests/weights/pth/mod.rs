//! `.pth` files: those of `torch.save` against safetensors of the same tensors, and those that nobody should open.

mod craft;

use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use safetensors::SafeTensors;
use talkie::weights::pth::parse;

use crate::support::{cases, fixture};
use craft::{Zip, dict, pickle, tensor, text};

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixture("pth").join(name)).unwrap()
}

fn names(bytes: &[u8]) -> Vec<String> {
    parse(bytes).unwrap().tensors.into_keys().collect()
}

fn refusal(bytes: &[u8]) -> String {
    parse(bytes).expect_err("refused").report()
}

/// Whatever is in a file: an answer that holds, or an error.
fn is_harmless(bytes: &[u8]) {
    let Ok(table) = parse(bytes) else { return };
    for (name, stored) in table.tensors {
        let (begin, end) = stored.range;
        assert!(begin <= end && end <= bytes.len(), "{name}: {begin}..{end} of {}", bytes.len());
        assert_eq!(stored.kind.bytes(&stored.shape), Some(end - begin), "{name}");
    }
}

#[test]
fn tensors_are_those_of_torch() {
    let reference = read("reference.safetensors");
    let reference = SafeTensors::deserialize(&reference).unwrap();
    for (file, count) in [("plain-2.pth", 17), ("plain-4.pth", 17), ("plain-5.pth", 17), ("nested.pth", 2)] {
        let bytes = read(file);
        let table = parse(&bytes).unwrap();
        assert_eq!(table.tensors.len(), count, "{file}");
        for (name, stored) in &table.tensors {
            let expected = reference.tensor(name).unwrap();
            assert_eq!(stored.kind.to_string(), format!("{:?}", expected.dtype()), "{name}, {file}");
            assert_eq!(stored.shape, expected.shape(), "{name}, {file}");
            assert_eq!(&bytes[stored.range.0..stored.range.1], expected.data(), "{name}, {file}");
        }
    }
}

#[test]
fn code_is_refused_and_not_run() {
    let report = refusal(&read("malicious.pth"));
    assert!(report.contains("it asks for `posix.system`; talkie never runs code from a checkpoint"), "{report}");
    assert!(report.contains("try: take the same weights as safetensors"), "{report}");
    assert!(!Path::new("/tmp/talkie-was-here").exists());
}

#[test]
fn numbers_that_are_not_in_a_row_are_refused() {
    let report = refusal(&read("transposed.pth"));
    for words in ["cannot read `w`", "a shape of [3, 2], strides of [1, 3]", ".contiguous()"] {
        assert!(report.contains(words), "{report}");
    }
}

#[test]
fn a_dict_within_is_taken_where_the_outer_has_no_tensor() {
    let inner = dict(&[tensor("w", "FloatStorage", 0, &[2], &[1])]);
    let inside = |key: &str| [text(key), inner.clone()].concat();
    for key in ["state_dict", "model", "module", "params"] {
        let nested = dict(&[inside("other"), inside(key)]);
        assert_eq!(names(&Zip::saved(&nested).bytes()), ["w"], "{key}");
    }
    let outer = dict(&[inside("model"), tensor("x", "FloatStorage", 0, &[2], &[1])]);
    assert_eq!(names(&Zip::saved(&outer).bytes()), ["x"]);
    let deeper = dict(&[[text("model"), dict(&[inside("model")])].concat()]);
    assert!(refusal(&Zip::saved(&deeper).bytes()).contains("there is no tensor in its dict"));
}

#[test]
fn sizes_of_64_bits_are_read() {
    let saved = dict(&[tensor("w", "FloatStorage", 1, &[2, 1], &[1, 9])]);
    let (short, long) = (Zip::saved(&saved), Zip { long: true, ..Zip::saved(&saved) });
    let (short, long) = (parse(&short.bytes()).unwrap(), parse(&long.bytes()).unwrap());
    assert_eq!(short.tensors["w"], long.tensors["w"]);
}

#[test]
fn what_is_no_plain_dict_of_tensors_is_refused() {
    let w =
        |storage: &str, offset, shape: &[i32], strides: &[i32]| dict(&[tensor("w", storage, offset, shape, strides)]);
    let plain = w("FloatStorage", 0, &[2], &[1]);
    let long = i32::MAX;
    for (saved, words) in [
        (w("FloatStorage", 3, &[2], &[1]), "it goes beyond the 16 bytes that it lies in"),
        (w("DoubleStorage", 0, &[3], &[1]), "it goes beyond the 16 bytes"),
        (w("FloatStorage", long, &[0], &[1]), "it goes beyond the 16 bytes"),
        (w("FloatStorage", -1, &[2], &[1]), "a tensor begins before its storage"),
        (w("FloatStorage", 0, &[-2], &[1]), "a dimension of a tensor is not a count"),
        (w("FloatStorage", 0, &[long, long, long], &[1, 1, 1]), "its shape is impossible"),
        (w("FloatStorage", 0, &[0, long, long, long], &[1, 1, 1, 1]), "its shape is impossible"),
        (w("FloatStorage", 0, &[2], &[2]), "not in a row"),
        (w("FloatStorage", 0, &[2, 2], &[1]), "not in a row"),
        (w("FloatStorage", 0, &[1; 9], &[1; 9]), "at most 8 dimensions, not 9"),
        (w("UntypedStorage", 0, &[2], &[1]), "it asks for `torch.UntypedStorage`"),
        (w("ComplexFloatStorage", 0, &[2], &[1]), "it asks for `torch.ComplexFloatStorage`"),
        (dict(&vec![tensor("w", "FloatStorage", 0, &[2], &[1]); 2]), "it holds two tensors called `w`"),
        (dict(&[]), "there is no tensor in its dict"),
        (text("w"), "it holds something other than a dict"),
        ([plain.clone(), plain.clone()].concat(), "it holds something other than a dict"),
        (b"}]\x81".to_vec(), "its pickle has the instruction 0x81"),
        (b"cbuiltins\neval\n".to_vec(), "it asks for `builtins.eval`"),
        (b"\x8c\x02os\x8c\x06system\x93".to_vec(), "it asks for `os.system`"),
        (b"\x80\x06}".to_vec(), "its pickle has the protocol 6"),
        (b"}}R".to_vec(), "it calls something that is not a function"),
        (b"h\x01".to_vec(), "a memoized value is missing"),
        (b"}q\x01".to_vec(), "it memoizes a value out of order"),
        (b"u".to_vec(), "a mark is missing"),
        (b"s".to_vec(), "a value is missing"),
        (b"X\xff\xff\xff\xff".to_vec(), "a part of it is missing"),
        (b"\x8c\x01\xff".to_vec(), "a text is not UTF-8"),
    ] {
        let report = refusal(&Zip::saved(&saved).bytes());
        assert!(report.contains(words), "{words}: {report}");
    }
}

#[test]
fn archives_that_torch_does_not_write_are_refused() {
    let plain = || Zip::saved(&dict(&[tensor("w", "FloatStorage", 0, &[2], &[1])]));
    let entry = |path: &'static str, bytes: &[u8]| {
        let mut zip = plain();
        zip.entries.push((path, bytes.to_vec()));
        zip
    };
    let without = |at: usize| {
        let mut zip = plain();
        zip.entries.remove(at);
        zip
    };
    for (zip, words) in [
        (Zip { method: 8, ..plain() }, "its entry `a/data.pkl` is compressed"),
        (Zip { flags: 1, ..plain() }, "its entry `a/data.pkl` is encrypted"),
        (entry("a/byteorder", b"big"), "not in little-endian order"),
        (entry("a/data/0", b""), "it holds two entries called `data/0`"),
        (entry("b/data/1", b""), "not all of its entries are in one folder"),
        (without(0), "without `data.pkl`"),
        (without(1), "its bytes are not there"),
    ] {
        let report = refusal(&zip.bytes());
        assert!(report.contains(words), "{words}: {report}");
    }
    let long = vec![0; (16 << 20) + 1];
    let zip = Zip { entries: vec![("a/data.pkl", long)], ..plain() };
    assert!(refusal(&zip.bytes()).contains("no dict of tensors has a pickle as long as its own"));
    assert!(refusal(b"PK\x03\x04").contains("the end of the archive is missing"));
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let whole = read("plain-4.pth");
    for length in 0..whole.len() {
        assert!(parse(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
    }
    // The pickle alone, in an archive that is whole.
    let saved = dict(&[tensor("w", "FloatStorage", 0, &[2], &[1])]);
    let code = pickle(&saved);
    for length in 0..code.len() {
        let mut zip = Zip::saved(&saved);
        zip.entries[0].1.truncate(length);
        assert!(parse(&zip.bytes()).is_err(), "{length} of {} bytes of the pickle", code.len());
    }
}

#[test]
fn any_one_byte_may_be_another() {
    for file in ["plain-2.pth", "plain-4.pth", "nested.pth"] {
        let mut bytes = read(file);
        for at in 0..bytes.len() {
            let mixed = (at as u8).wrapping_mul(167) | 2;
            for mask in [0x01, 0x80, 0xff, 0x20, mixed] {
                bytes[at] ^= mask;
                is_harmless(&bytes);
                bytes[at] ^= mask;
            }
        }
    }
}

#[test]
fn nothing_small_costs_much() {
    const MANY: usize = 1_000_000;
    let started = Instant::now();
    // In itself, a million deep, in both sides of itself a million times, remembered and marked as often.
    let endless = b"}q\x00(X\x05\x00\x00\x00modelh\x00u".to_vec();
    let deep = [b"}X\x01\x00\x00\x00w)".as_slice(), &b"\x85".repeat(MANY), b"s"].concat();
    let doubled = [b"})".as_slice(), &b"q\x00h\x00\x86".repeat(MANY), b"0"].concat();
    let remembered = [b"}]".as_slice(), &b"\x94".repeat(MANY)].concat();
    let marked = [b"}".as_slice(), &b"(".repeat(MANY)].concat();
    for saved in [endless, deep, doubled, remembered, marked] {
        assert!(parse(&Zip::saved(&saved).bytes()).is_err());
    }
    // One long number for what tensors lie in.
    let storage = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\n";
    let number = text(&"0".repeat(MANY));
    let saved = [b"}(".as_slice(), storage, &number, b"NNt", b"Q"].concat();
    assert!(refusal(&Zip::saved(&saved).bytes()).contains("what a tensor lies in is unclear"));
    // Tensors without end that share a shape, and a long one.
    let shared = |sides: usize| {
        let shape = [b"}((".as_slice(), &b"K\x01".repeat(sides), b"tq\x00N"].concat();
        let parts = [storage.as_slice(), &text("0"), b"NNtQ", b"K\x00h\x00h\x00\x89)t"].concat();
        let first = [text("w"), b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec(), parts, b"Rq\x01".to_vec()].concat();
        let named = |n: usize| [text(&n.to_string()), b"h\x01".to_vec()].concat();
        let more: Vec<u8> = (1..MANY / 5).flat_map(named).collect();
        Zip::saved(&[shape, first, more, b"u".to_vec()].concat()).bytes()
    };
    assert_eq!(names(&shared(8)).len(), MANY / 5);
    assert!(refusal(&shared(MANY)).contains("not 1000000"));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// Instructions that mean something, and some that do not.
fn instruction() -> impl Strategy<Value = Vec<u8>> {
    let calls = [
        b"ctorch._utils\n_rebuild_tensor_v2\n".as_slice(),
        b"ctorch._utils\n_rebuild_parameter\n",
        b"ccollections\nOrderedDict\n",
        b"ctorch\nFloatStorage\n",
        b"X\x07\x00\x00\x00storage",
        b"\x8c\x010",
        b"K\x01",
        b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\xff",
        b"J\xfe\xff\xff\xff",
        b"q\x00",
        b"h\x00",
    ];
    let single = b"()}]tsuaebNQR.\x85\x86\x87\x88\x94\x93";
    prop_oneof![
        prop::sample::select(calls.map(<[u8]>::to_vec).to_vec()),
        prop::sample::select(single.to_vec()).prop_map(|byte| vec![byte]),
        prop::collection::vec(any::<u8>(), 1..3),
    ]
}

/// Places and what happens there: another byte, another length, or bytes from elsewhere.
fn damaged(mut bytes: Vec<u8>, damages: &[(usize, usize, u8, u8)]) -> Vec<u8> {
    for &(at, from, length, value) in damages {
        let (at, from) = (at % bytes.len(), from % bytes.len());
        let piece = bytes[from..bytes.len().min(from + usize::from(length))].to_vec();
        match value % 4 {
            0 => bytes[at] = value,
            1 => drop(bytes.splice(at..at, piece)),
            2 => drop(bytes.splice(at..bytes.len().min(at + piece.len()), piece)),
            _ => bytes[at] = bytes[at].wrapping_add(value),
        }
    }
    bytes
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn damaged_files_are_harmless(
        file in prop::sample::select(vec!["plain-2.pth", "plain-5.pth", "nested.pth", "malicious.pth"]),
        damages in prop::collection::vec((0..8000usize, 0..8000usize, any::<u8>(), any::<u8>()), 1..6),
    ) {
        is_harmless(&damaged(read(file), &damages));
    }

    #[test]
    fn damaged_pickles_are_harmless(
        damages in prop::collection::vec((0..400usize, 0..400usize, 0..40u8, any::<u8>()), 1..6),
    ) {
        let mut zip = Zip::saved(&dict(&[tensor("w", "HalfStorage", 1, &[2, 3], &[3, 1]), tensor("x", "ByteStorage", 0, &[], &[])]));
        zip.entries[0].1 = damaged(std::mem::take(&mut zip.entries[0].1), &damages);
        is_harmless(&zip.bytes());
    }

    #[test]
    fn any_instructions_are_harmless(code in prop::collection::vec(instruction(), 0..60)) {
        is_harmless(&Zip::saved(&[b"}".to_vec(), code.concat()].concat()).bytes());
    }
}
