//! The settings of a scheduler, and what they come to.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| talkie_fuzz::targets::scheduler(data));
