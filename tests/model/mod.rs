//! Models on disk: the catalogue, the layouts of files, LoRAs, tokenizers.

mod catalogue;
mod checkpoint;
mod layouts;
mod loras;
mod tokenizer;
