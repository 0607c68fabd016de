//! A picture: PNG, JPEG or WebP.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| talkie_fuzz::targets::picture(data));
