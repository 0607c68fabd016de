//! A file of one part of a model, recognised by its names. The first byte says where it is given.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| talkie_fuzz::targets::piece(data));
