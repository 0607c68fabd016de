//! A LoRA, over the transformer of a fixture.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| talkie_fuzz::targets::lora(data));
