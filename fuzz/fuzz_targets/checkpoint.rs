//! The configuration in the words of a file that holds all of LTX-2, beside the folder of its text encoder.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| talkie_fuzz::targets::checkpoint(data));
