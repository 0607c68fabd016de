//! A prompt, as text and as a prompt file, and the words of a command line.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| talkie_fuzz::targets::prompt(data));
