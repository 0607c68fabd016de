//! What a hub answers about a repository.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| talkie_fuzz::targets::hub(data));
