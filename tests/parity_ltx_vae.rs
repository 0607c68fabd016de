//! LTX-2's video autoencoders and latent upsamplers against diffusers, on small networks with random weights.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use talkie::ltx::upsampler::{self, Upsampler};
use talkie::ltx::vae::{Config, Decoder, Encoder, Statistics};
use talkie::vae::Tiling;
use talkie::weights::Weights;

use crate::support::{fixture, reference, relative_l2, tensors};

/// The released shapes.
const FOLDERS: [&str; 2] = ["ltx2", "ltx23"];

/// How far f32 may be from f32.
const CLOSE: f64 = 1e-5;

fn open(folder: &str, part: &str) -> Weights {
    let file = fixture(folder).join(part).join("diffusion_pytorch_model.safetensors");
    Weights::open(&[file], &Device::Cpu, DType::F32).expect(folder)
}

fn weights(folder: &str) -> Weights {
    open(folder, "vae")
}

fn config(folder: &str) -> Config {
    Config::read(&fixture(folder).join("vae/config.json")).expect(folder)
}

fn decoder(folder: &str) -> Decoder {
    Decoder::load(&config(folder), &weights(folder)).expect(folder)
}

fn encoder(folder: &str) -> Encoder {
    Encoder::load(&config(folder), &weights(folder)).expect(folder)
}

/// The reference's tensors, bytes as the pixels that they stand for.
fn references(folder: &str) -> HashMap<String, Tensor> {
    let mut tensors = tensors(&format!("{folder}/reference.safetensors"));
    for tensor in tensors.values_mut() {
        let wide = tensor.to_dtype(DType::F32).expect("floats");
        *tensor = if tensor.dtype() == DType::U8 { ((wide / 127.5).unwrap() - 1.0).unwrap() } else { wide };
    }
    tensors
}

/// Every `stride`th row and column.
fn every(frames: &Tensor, stride: usize) -> Tensor {
    let pick = |xs: &Tensor, axis: usize| {
        let ids: Vec<u32> = (0..xs.dim(axis).unwrap() as u32).step_by(stride).collect();
        xs.index_select(&Tensor::new(ids, &Device::Cpu).unwrap(), axis).unwrap()
    };
    pick(&pick(frames, 3), 4)
}

fn stride(folder: &str, key: &str) -> usize {
    reference(folder)["vae"]["stride"][key].as_u64().expect(key) as usize
}

/// The tiles that the fixture was made with.
fn tiling(folder: &str) -> Tiling {
    let facts = reference(folder);
    let side = |name: &str| facts["vae"]["tile"][name].as_u64().expect(name) as usize;
    Tiling {
        min_height: side("min_height"),
        min_width: side("min_width"),
        stride_height: side("stride_height"),
        stride_width: side("stride_width"),
    }
}

/// Pushes latent frames one by one, and says how many frames each push gave, and each part of the end.
fn decode(decoder: &Decoder, latents: &Tensor, tiling: Option<Tiling>) -> (Tensor, Vec<usize>) {
    let mut stream = decoder.stream(tiling);
    let mut parts = Vec::new();
    for i in 0..latents.dim(2).unwrap() {
        parts.push(stream.push(&latents.narrow(2, i, 1).unwrap()).expect("frames"));
    }
    while let Some(frames) = stream.finish().expect("the rest") {
        parts.push(Some(frames));
    }
    let counts = parts.iter().map(|part| part.as_ref().map_or(0, |frames| frames.dim(2).unwrap())).collect();
    let frames: Vec<Tensor> = parts.into_iter().flatten().collect();
    (Tensor::cat(&frames, 2).expect("a film"), counts)
}

#[test]
fn decoding_a_latent_frame_at_a_time_gives_the_whole_film_of_the_reference() {
    for folder in FOLDERS {
        let tensors = references(folder);
        let (frames, counts) = decode(&decoder(folder), &tensors["vae.decode.latents"], None);
        assert!(counts.iter().all(|&count| count <= config(folder).temporal_factor()), "{folder}: {counts:?}");
        let error = relative_l2(&every(&frames, stride(folder, "decode")), &tensors["vae.decode.frames"]);
        println!("{folder}: {error:e}, {counts:?}");
        assert!(error < CLOSE, "{folder}: {error:e}");
    }
}

#[test]
fn decoding_in_tiles_gives_the_reference_film() {
    for folder in FOLDERS {
        let tensors = references(folder);
        let (frames, counts) = decode(&decoder(folder), &tensors["vae.tiled.latents"], Some(tiling(folder)));
        let error = relative_l2(&every(&frames, stride(folder, "tiled")), &tensors["vae.tiled.frames"]);
        println!("{folder}: {error:e}, {counts:?}");
        assert!(error < CLOSE, "{folder}: {error:e}");
    }
}

#[test]
fn encoding_gives_the_reference_latents() {
    for folder in FOLDERS {
        let tensors = references(folder);
        let latents = encoder(folder).encode(&tensors["vae.encode.frames"], None).expect(folder);
        let error = relative_l2(&latents, &tensors["vae.encode.latents"]);
        println!("{folder}: {error:e}");
        assert!(error < CLOSE, "{folder}: {error:e}");
    }
}

#[test]
fn the_upsampler_gives_the_reference_latents() {
    for folder in FOLDERS {
        let tensors = references(folder);
        let config = upsampler::Config::read(&fixture(folder).join("latent_upsampler/config.json")).expect(folder);
        let upsampler = Upsampler::load(&config, &open(folder, "latent_upsampler")).expect(folder);
        let latents = upsampler.forward(&tensors["upsampler.latents"]).expect(folder);
        assert_eq!(latents.dim(4).unwrap(), config.side(3).unwrap());
        let error = relative_l2(&latents, &tensors["upsampler.output"]);
        println!("{folder}: {error:e}");
        assert!(error < CLOSE, "{folder}: {error:e}");
    }
}

#[test]
fn normalised_latents_have_the_stored_mean_and_deviation_taken_out() {
    for folder in FOLDERS {
        let (config, weights) = (config(folder), weights(folder));
        let statistics = Statistics::load(&config, &weights).expect(folder);
        let stored = |name: &str| {
            let values = weights.f32(name, config.latent_channels).expect(name);
            values.reshape((1, (), 1, 1, 1)).unwrap()
        };
        let raw = (stored("latents_mean") + stored("latents_std")).unwrap();
        let normal = statistics.normalise(&raw).expect(folder);
        assert!(relative_l2(&normal, &normal.ones_like().unwrap()) < 1e-6, "{folder}");
        assert!(relative_l2(&statistics.denormalise(&normal).expect(folder), &raw) < 1e-6, "{folder}");
    }
}
