//! LTX-2's video autoencoders and latent upsamplers against diffusers, on small networks with random weights.

use std::collections::HashMap;

use candle_core::{DType, Tensor};
use talkie::families::ltx::upsampler::{self, Upsampler};
use talkie::families::ltx::vae::{Config, Decoder, Encoder, Statistics};
use talkie::plan::Tiling;
use talkie::weights::Weights;

use crate::support::{close, device, fixture, reference, relative_l2, tensors};

/// The released shapes first, then one that no release has.
const FOLDERS: [&str; 3] = ["ltx2", "ltx23", MIRRORED];
const MIRRORED: &str = "vae/ltx-mirrored";

/// Of frames. Measured: 2.9e-6, plain 3.1e-6.
const DECODED: f64 = 9e-6;

/// Of an upsampler's latents. Measured: 9.4e-7, plain 9.9e-7.
const UPSAMPLED: f64 = 3e-6;

/// Of an encoder's latents. Measured: 1.3e-6, plain 1.6e-6; of the network that mirrors 5.0e-6, 2.9e-6.
fn encoded(folder: &str) -> f64 {
    if folder == MIRRORED { 1.5e-5 } else { 4e-6 }
}

fn open(folder: &str, part: &str) -> Weights {
    let file = fixture(folder).join(part).join("diffusion_pytorch_model.safetensors");
    Weights::open(&[file], &device(), DType::F32).expect(folder)
}

fn weights(folder: &str) -> Weights {
    open(folder, "vae")
}

fn config(folder: &str) -> Config {
    let text = std::fs::read_to_string(fixture(folder).join("vae/config.json")).expect(folder);
    Config::parse(&text).expect(folder)
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
        xs.index_select(&Tensor::new(ids, &device()).unwrap(), axis).unwrap()
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
        let frames = every(&frames, stride(folder, "decode"));
        close(&frames, &tensors["vae.decode.frames"], DECODED, &format!("{folder} decode"));
    }
}

#[test]
fn decoding_in_tiles_gives_the_reference_film() {
    for folder in FOLDERS {
        let tensors = references(folder);
        let (frames, _) = decode(&decoder(folder), &tensors["vae.tiled.latents"], Some(tiling(folder)));
        let frames = every(&frames, stride(folder, "tiled"));
        close(&frames, &tensors["vae.tiled.frames"], DECODED, &format!("{folder} decode in tiles"));
    }
}

#[test]
fn encoding_gives_the_reference_latents() {
    for folder in FOLDERS {
        let tensors = references(folder);
        let latents = encoder(folder).encode(&tensors["vae.encode.frames"], None).expect(folder);
        close(&latents, &tensors["vae.encode.latents"], encoded(folder), &format!("{folder} encode"));
    }
}

#[test]
fn a_causal_decoder_gives_its_frames_at_once() {
    let tensors = references(MIRRORED);
    let config = Config { decoder_causal: true, ..config(MIRRORED) };
    let decoder = Decoder::load(&config, &weights(MIRRORED)).expect("a decoder");
    let (frames, counts) = decode(&decoder, &tensors["vae.decode.latents"], None);
    assert_eq!(counts, [1, 4, 4, 4]);
    close(&frames, &tensors["vae.causal.frames"], DECODED, "causal decode");
}

#[test]
fn encoding_in_tiles_gives_the_reference_latents() {
    let tensors = references(MIRRORED);
    let frames = &tensors["vae.tiled.encode.frames"];
    let latents = encoder(MIRRORED).encode(frames, Some(tiling(MIRRORED))).expect("latents");
    close(&latents, &tensors["vae.tiled.encode.latents"], encoded("ltx2"), "encode in tiles");
}

#[test]
fn the_encoder_waits_until_a_latent_frame_is_whole() {
    for folder in FOLDERS {
        let tensors = references(folder);
        let (frames, encoder) = (&tensors["vae.encode.frames"], encoder(folder));
        let mut stream = encoder.stream(None);
        let pushed: Vec<Option<Tensor>> =
            (0..9).map(|i| stream.push(&frames.narrow(2, i, 1).unwrap()).expect("a push")).collect();
        let ready: Vec<usize> = (0..9).filter(|&i| pushed[i].is_some()).collect();
        assert_eq!(ready, (0..9).step_by(config(folder).temporal_factor()).collect::<Vec<_>>(), "{folder}");
        let latents = Tensor::cat(&pushed.into_iter().flatten().collect::<Vec<_>>(), 2).expect("latents");
        close(&latents, &tensors["vae.encode.latents"], encoded(folder), &format!("{folder} pushed"));
    }
}

#[test]
fn two_streams_of_one_decoder_do_not_mix() {
    let tensors = references("ltx2");
    let (decoder, latents) = (decoder("ltx2"), &tensors["vae.decode.latents"]);
    let (mut one, mut other) = (decoder.stream(None), decoder.stream(None));
    let mut frames = Vec::new();
    for i in 0..2 {
        let latent = latents.narrow(2, i, 1).unwrap();
        frames.extend(one.push(&latent).expect("frames"));
        other.push(&(latent * -1.0).unwrap()).expect("frames");
    }
    while let Some(more) = one.finish().expect("the rest") {
        frames.push(more);
        other.finish().expect("the rest");
    }
    let frames = Tensor::cat(&frames, 2).expect("a film");
    close(&every(&frames, stride("ltx2", "decode")), &tensors["vae.decode.frames"], DECODED, "one of two streams");
}

/// A grid's last tile may be a single latent pixel, which a mirror cannot double: the tile before sees it as well.
#[test]
fn tiles_too_small_for_a_mirror_are_left_to_the_tiles_before() {
    let (decoder, tiling) = (decoder("ltx2"), tiling("ltx2"));
    let latents = |side: usize| {
        let values = (0..8 * side * side).map(|i| ((i * 37 % 101) as f32 - 50.0) / 30.0).collect();
        Tensor::from_vec(values, (1, 8, 1, side, side), &device()).unwrap()
    };
    let latents = latents(5);
    let (frames, _) = decode(&decoder, &latents, Some(tiling));
    assert_eq!(frames.dims(), [1, 3, 1, 160, 160]);
    // The corner belongs to the last tile that is left, from the third latent pixel on, past the 32 pixels of its seam.
    let corner = |xs: &Tensor, start: usize, length: usize| {
        xs.narrow(3, start, length).unwrap().narrow(4, start, length).unwrap().contiguous().unwrap()
    };
    let (last, _) = decode(&decoder, &corner(&latents, 2, 3), None);
    assert!(relative_l2(&corner(&frames, 96, 64), &corner(&last, 32, 64)) < 1e-6);
}

#[test]
fn what_does_not_belong_together_is_refused_with_a_reason() {
    let decoder = decoder("ltx2");
    let latent = |shape: [usize; 5]| Tensor::zeros(shape.as_slice(), DType::F32, &device()).unwrap();
    let refusal = |shapes: &[[usize; 5]]| {
        let mut stream = decoder.stream(None);
        let pushed: Result<Vec<_>, _> = shapes.iter().map(|shape| stream.push(&latent(*shape))).collect();
        pushed.map(|_| ()).unwrap_err().report()
    };
    assert!(refusal(&[[1, 48, 1, 2, 2]]).contains("[1, 48, 1, 2, 2]"));
    assert!(refusal(&[[1, 8, 2, 2, 2]]).contains("(1, 8, 1, rows, columns)"));
    assert!(refusal(&[[1, 8, 1, 2, 2], [1, 8, 1, 2, 3]]).contains("[1, 8, 1, 2, 3]"));
    for shape in [[1, 8, 1, 1, 4], [1, 8, 1, 4, 1]] {
        let report = refusal(&[shape]);
        assert!(report.contains("mirror") && report.contains("64 pixels"), "{report}");
    }
    let zeros = self::decoder("ltx23");
    assert!(zeros.stream(None).push(&latent([1, 8, 1, 1, 1])).is_ok(), "zeros need no room");

    let mut stream = decoder.stream(None);
    assert!(stream.finish().expect("an empty film").is_none());
    stream.push(&latent([1, 8, 1, 2, 2])).expect("a push");
    while stream.finish().expect("the rest").is_some() {}
    assert!(stream.push(&latent([1, 8, 1, 2, 2])).unwrap_err().report().contains("after the end"));

    let refusal = |folder: &str, height: usize| {
        let frames = Tensor::zeros((1, 3, 1, height, 64), DType::F32, &device()).unwrap();
        encoder(folder).encode(&frames, None).unwrap_err().report()
    };
    assert!(refusal("ltx2", 48).contains("multiples of 32"));
    assert!(refusal(MIRRORED, 8).contains("16 at least"));
}

#[test]
fn a_configuration_that_describes_no_network_is_refused_with_its_key() {
    for (text, word) in [
        ("{", "JSON"),
        (r#"{"timestep_conditioning": true}"#, "timestep_conditioning"),
        (r#"{"decoder_inject_noise": [false, true, false, false]}"#, "decoder_inject_noise"),
        (r#"{"encoder_causal": false}"#, "encoder_causal"),
        (r#"{"down_block_types": ["DownBlock"]}"#, "DownBlock"),
        (r#"{"patch_size_t": 2}"#, "patch_size_t"),
        (r#"{"patch_size": 0}"#, "patch_size"),
        (r#"{"downsample_type": ["conv"]}"#, "conv"),
        (r#"{"decoder_spatial_padding_mode": "circular"}"#, "circular"),
        (r#"{"block_out_channels": []}"#, "block_out_channels"),
        (r#"{"block_out_channels": [256, 512, 1024]}"#, "layers_per_block"),
        (r#"{"block_out_channels": [256, 512, 1024, 9000000000000000000]}"#, "block_out_channels"),
        (r#"{"block_out_channels": [256, 512, 1024, 1000]}"#, "1024 to 1000"),
        (r#"{"spatio_temporal_scaling": [true, true, true, false]}"#, "1024 to 2048"),
        (r#"{"spatio_temporal_scaling": [true, true, true]}"#, "spatio_temporal_scaling"),
        (r#"{"latent_channels": 0}"#, "latent_channels"),
        (r#"{"layers_per_block": [4, 6, 6, 2, 4000000000]}"#, "4000000000"),
        (r#"{"upsample_factor": [2, 2]}"#, "upsample_factor"),
        (r#"{"upsample_factor": [2, 0, 2]}"#, "upsample_factor"),
        (r#"{"upsample_factor": [2, 3, 2]}"#, "upsample_factor"),
        (r#"{"decoder_block_out_channels": [256, 512, 512]}"#, "256 by 2"),
        (r#"{"upsample_type": ["spatial", "spatial", "spatial"]}"#, "upsample_type"),
        (r#"{"decoder_spatio_temporal_scaling": false}"#, "by 2"),
        (r#"{"spatial_compression_ratio": 64}"#, "spatial_compression_ratio"),
        (r#"{"temporal_compression_ratio": 4}"#, "temporal_compression_ratio"),
        (r#"{"resnet_norm_eps": 0}"#, "resnet_norm_eps"),
        (r#"{"scaling_factor": 0}"#, "scaling_factor"),
    ] {
        let report = Config::parse(text).expect_err(text).report();
        assert!(report.contains(word), "{text}: {report}");
    }
    let released = Config::parse("{}").expect("the defaults");
    assert_eq!((released.spatial_factor(), released.temporal_factor()), (32, 8));

    for (text, word) in [
        (r#"{"mid_channels": 1000}"#, "mid_channels"),
        (r#"{"in_channels": 0}"#, "in_channels"),
        (r#"{"dims": 1}"#, "dims"),
        (r#"{"dims": 2, "temporal_upsample": true}"#, "dims"),
        (r#"{"spatial_upsample": false}"#, "spatial_upsample"),
        (r#"{"rational_spatial_scale": 3}"#, "rational_spatial_scale"),
        (r#"{"num_blocks_per_stage": 1000000000}"#, "num_blocks_per_stage"),
    ] {
        let report = upsampler::Config::parse(text).expect_err(text).report();
        assert!(report.contains(word), "{text}: {report}");
    }
    assert_eq!(upsampler::Config::parse("{}").expect("the defaults").side(24).expect("a side"), 48);
}

#[test]
fn a_tensor_of_neither_half_is_refused() {
    let mut all = tensors("ltx2/vae/diffusion_pytorch_model.safetensors");
    let stray = all["decoder.conv_in.conv.bias"].clone();
    all.insert("decoder.stray".to_owned(), stray);
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("vae.safetensors");
    candle_core::safetensors::save(&all, &copy).expect("a copy");
    let weights = Weights::open(&[copy], &device(), DType::F32).expect("weights");
    let report = Decoder::load(&config("ltx2"), &weights).expect_err("a stray tensor").report();
    assert!(report.contains("decoder.stray"), "{report}");
    Encoder::load(&config("ltx2"), &weights).expect("the encoder is whole");
}

#[test]
fn the_upsampler_gives_the_reference_latents() {
    for (folder, part, output) in [
        ("ltx2", "latent_upsampler", "upsampler.output"),
        ("ltx23", "latent_upsampler", "upsampler.output"),
        (MIRRORED, "time", "upsampler.time"),
        (MIRRORED, "fraction", "upsampler.fraction"),
    ] {
        let tensors = references(folder);
        let text = std::fs::read_to_string(fixture(folder).join(part).join("config.json")).expect(part);
        let config = upsampler::Config::parse(&text).expect(part);
        let upsampler = Upsampler::load(&config, &open(folder, part)).expect(part);
        let before = &tensors["upsampler.latents"];
        let latents = upsampler.forward(before).expect(part);
        for axis in [3, 4] {
            assert_eq!(latents.dim(axis).unwrap(), config.side(before.dim(axis).unwrap()).unwrap(), "{folder} {part}");
        }
        close(&latents, &tensors[output], UPSAMPLED, &format!("{folder} {part}"));
        let other = Tensor::zeros((1, 3, 1, 2, 2), DType::F32, &device()).unwrap();
        assert!(upsampler.forward(&other).unwrap_err().report().contains("[1, 3, 1, 2, 2]"));
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
