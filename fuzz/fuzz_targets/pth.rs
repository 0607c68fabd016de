//! A `.pth` file: the ZIP archive, the pickle in it, the tensors.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| talkie_fuzz::targets::pth(data));
