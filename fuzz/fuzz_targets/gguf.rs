//! A GGUF file: its header, its tensors in blocks, and the tokenizer of a text encoder.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| talkie_fuzz::targets::gguf(data));
