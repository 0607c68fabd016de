//! A JSON file in the folder of a model: its index, the configurations of its networks, a list of shards. The first byte says
//! which.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| talkie_fuzz::targets::configuration(data));
