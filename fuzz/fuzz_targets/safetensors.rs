//! A safetensors file: its header, its tensors, and what talkie keeps in such files itself.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| talkie_fuzz::targets::safetensors(data));
