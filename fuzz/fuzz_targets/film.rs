//! The recipe in a film. The first byte says how its name ends. Without FFmpeg no film is opened.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| talkie_fuzz::targets::film(data));
