//! The `plan.json` in the folder of a run.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| talkie_fuzz::targets::plan(data));
