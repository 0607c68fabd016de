//! Wan's autoencoders against diffusers, on small networks with random weights.

use std::collections::HashMap;

use candle_core::{DType, Tensor};
use talkie::families::family::Decoded;
use talkie::families::wan::vae::{Config, Decoder, Encoder, Frames, denormalise, normalise};
use talkie::plan::Tiling;
use talkie::weights::Weights;

use crate::support::{close, device, fixture, relative_l2, tensors};

/// The released shapes first, then some that none of them has.
const FOLDERS: [&str; 4] = ["wan21-t2v", "wan22-ti2v-5b", "vae/shortcuts", "vae/shallow"];

/// Measured: 1.7e-6, plain 1.9e-6.
const CLOSE: f64 = 5e-6;

/// Of frames decoded in tiles. Measured: 5.6e-6, plain 6.6e-6.
const TILED: f64 = 1.5e-5;

fn weights(folder: &str) -> Weights {
    let file = fixture(folder).join("vae/diffusion_pytorch_model.safetensors");
    Weights::open(&[file], &device(), DType::F32).expect(folder)
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

fn reference(folder: &str) -> HashMap<String, Tensor> {
    let mut tensors = tensors(&format!("{folder}/reference.safetensors"));
    for tensor in tensors.values_mut() {
        *tensor = tensor.to_dtype(DType::F32).expect("floats");
    }
    tensors
}

/// The tiles that the fixture was made with.
fn tiling(folder: &str) -> Tiling {
    let text = std::fs::read_to_string(fixture(folder).join("reference.json")).expect(folder);
    let facts: serde_json::Value = serde_json::from_str(&text).expect(folder);
    let side = |name: &str| facts["tile"][name].as_u64().expect(name) as usize;
    Tiling {
        min_height: side("min_height"),
        min_width: side("min_width"),
        stride_height: side("stride_height"),
        stride_width: side("stride_width"),
    }
}

/// Decodes a film, and says how many frames came at a time.
fn decode(decoder: &Decoder, latents: &Tensor, tiling: Option<Tiling>) -> (Tensor, Vec<usize>) {
    let scratch = tempfile::tempdir().expect("a folder");
    let mut frames = Vec::new();
    let mut sink = |made| {
        if let Decoded::Frames(made) = made {
            frames.push(made);
        }
        Ok(())
    };
    decoder.decode(latents, tiling, scratch.path(), &mut sink).expect("frames");
    assert_eq!(scratch.path().read_dir().expect("a folder").count(), 0, "what waited has no name");
    let counts = frames.iter().map(|frames| frames.dim(2).expect("time")).collect();
    (Tensor::cat(&frames, 2).expect("a film"), counts)
}

/// Encodes a film of tensors (1, 3, t, H, W).
fn encode(encoder: &Encoder, frames: &Tensor, tiling: Option<Tiling>) -> talkie::Result<Tensor> {
    let film = Frames { count: frames.dim(2).expect("time"), frame: &|i| Ok(frames.narrow(2, i, 1)?) };
    encoder.encode(&film, tiling, &mut |_, _| Ok(()))
}

#[test]
fn decoding_a_latent_frame_at_a_time_gives_the_reference_film() {
    for folder in FOLDERS {
        let reference = reference(folder);
        let (frames, counts) = decode(&decoder(folder), &reference["vae.decode.latents"], None);
        let after = config(folder).temporal_factor();
        assert!(counts[0] == 1 && counts[1..].iter().all(|&count| count == after), "{folder}: {counts:?}");
        close(&frames, &reference["vae.decode.frames"], CLOSE, &format!("{folder} decode"));
    }
}

#[test]
fn decoding_in_tiles_gives_the_reference_film() {
    for folder in FOLDERS {
        let reference = reference(folder);
        let latents = &reference["vae.tiled.decode.latents"];
        let (frames, counts) = decode(&decoder(folder), latents, Some(tiling(folder)));
        assert_eq!(counts, [1, config(folder).temporal_factor()], "{folder}");
        close(&frames, &reference["vae.tiled.decode.frames"], TILED, &format!("{folder} decode in tiles"));
    }
}

#[test]
fn a_film_no_larger_than_a_tile_is_decoded_whole() {
    let folder = FOLDERS[0];
    let reference = reference(folder);
    let (frames, _) = decode(&decoder(folder), &reference["vae.decode.latents"], Some(Tiling::default()));
    close(&frames, &reference["vae.decode.frames"], CLOSE, folder);
}

#[test]
fn encoding_gives_the_reference_latents() {
    for folder in FOLDERS {
        let reference = reference(folder);
        let latents = encode(&encoder(folder), &reference["vae.encode.frames"], None).expect(folder);
        close(&latents, &reference["vae.encode.latents"], CLOSE, &format!("{folder} encode"));
    }
}

#[test]
fn encoding_in_tiles_gives_the_reference_latents() {
    for folder in FOLDERS {
        let reference = reference(folder);
        let frames = &reference["vae.tiled.encode.frames"];
        let latents = encode(&encoder(folder), frames, Some(tiling(folder))).expect(folder);
        close(&latents, &reference["vae.tiled.encode.latents"], CLOSE, &format!("{folder} encode in tiles"));
    }
}

#[test]
fn frames_that_make_no_whole_latent_frame_are_left_out() {
    for folder in FOLDERS {
        let reference = reference(folder);
        let frames = &reference["vae.encode.frames"];
        let (encoder, after) = (encoder(folder), config(folder).temporal_factor());
        for count in [1, 2, after, after + 1, after + 2] {
            let latents = encode(&encoder, &frames.narrow(2, 0, count).expect("frames"), None).expect("latents");
            let whole = 1 + (count - 1) / after;
            let wanted = reference["vae.encode.latents"].narrow(2, 0, whole).expect("latents");
            close(&latents, &wanted, CLOSE, &format!("{folder} encode of {count} frames"));
        }
    }
}

#[test]
fn every_part_of_the_work_is_told_and_may_stop_it() {
    let folder = FOLDERS[0];
    let reference = reference(folder);
    let (decoder, latents) = (decoder(folder), &reference["vae.tiled.decode.latents"]);
    let scratch = tempfile::tempdir().expect("a folder");
    let mut shares = Vec::new();
    let mut sink = |made| {
        if let Decoded::Share(share) = made {
            shares.push(share);
        }
        Ok(())
    };
    decoder.decode(latents, Some(tiling(folder)), scratch.path(), &mut sink).expect("frames");
    assert!(shares.len() > 2 && shares.windows(2).all(|pair| pair[0] < pair[1]), "{shares:?}");
    assert_eq!(shares.last(), Some(&1.0));
    let mut calls = 0;
    let mut stop = |_| {
        calls += 1;
        Err(talkie::Error::stopped("enough"))
    };
    assert!(decoder.decode(latents, Some(tiling(folder)), scratch.path(), &mut stop).is_err());
    assert_eq!(calls, 1);
    // A folder that cannot be made: something else has its name.
    let taken = scratch.path().join("taken");
    std::fs::write(&taken, "").expect("a file");
    let report = decoder.decode(latents, Some(tiling(folder)), &taken, &mut |_| Ok(())).unwrap_err().report();
    assert!(report.contains("taken") && report.contains("TALKIE_HOME"), "{report}");
}

#[test]
fn two_streams_of_one_decoder_do_not_mix() {
    let folder = FOLDERS[0];
    let reference = reference(folder);
    let (decoder, latents) = (decoder(folder), &reference["vae.decode.latents"]);
    let (mut one, mut other) = (decoder.stream(), decoder.stream());
    let mut frames = Vec::new();
    for i in 0..3 {
        let latent = latents.narrow(2, i, 1).expect("a frame");
        frames.push(one.push(&latent).expect("frames"));
        other.push(&(latent * -1.0).expect("its opposite")).expect("frames");
    }
    let frames = Tensor::cat(&frames, 2).expect("a film");
    close(&frames, &reference["vae.decode.frames"], CLOSE, folder);
}

#[test]
fn normalised_latents_have_the_configured_mean_and_deviation_taken_out() {
    for folder in FOLDERS {
        let config = config(folder);
        let latents = Tensor::new(config.latents_mean.as_slice(), &device()).expect("means");
        let latents = latents.reshape((1, (), 1, 1, 1)).expect("latents").to_dtype(DType::F32).expect("f32");
        let deviations = Tensor::new(config.latents_std.as_slice(), &device()).expect("deviations");
        let deviations = deviations.reshape((1, (), 1, 1, 1)).expect("latents").to_dtype(DType::F32).expect("f32");
        let normal = normalise(&(&latents + &deviations).expect("a sum"), &config).expect("latents");
        assert!(relative_l2(&normal, &normal.ones_like().expect("ones")) < 1e-6, "{folder}");
        let back = denormalise(&normal, &config).expect("latents");
        assert!(relative_l2(&back, &(latents + deviations).expect("a sum")) < 1e-6, "{folder}");
    }
}

#[test]
fn what_does_not_belong_together_is_refused_with_a_reason() {
    let decoder = decoder(FOLDERS[0]);
    let push = |shapes: &[[usize; 5]]| {
        let mut stream = decoder.stream();
        let pushes = shapes.iter().map(|shape| {
            let latent = Tensor::zeros(shape.as_slice(), DType::F32, &device()).expect("zeros");
            stream.push(&latent).map(|_| ()).map_err(|error| error.report())
        });
        pushes.collect::<Result<(), String>>()
    };
    assert!(push(&[[1, 48, 1, 2, 2]]).unwrap_err().contains("[1, 48, 1, 2, 2]"));
    assert!(push(&[[1, 16, 2, 2, 2]]).unwrap_err().contains("[1, 16, 2, 2, 2]"));
    assert!(push(&[[1, 16, 1, 0, 2]]).is_err());
    assert!(push(&[[1, 16, 1, 2, 2], [1, 16, 1, 2, 3]]).unwrap_err().contains("[1, 16, 1, 2, 3]"));

    let tiles = |tile: usize, stride: usize| {
        let tiling = Tiling { min_height: tile, min_width: tile, stride_height: stride, stride_width: stride };
        let latent = Tensor::zeros((1, 16, 1, 8, 8), DType::F32, &device()).expect("zeros");
        let scratch = tempfile::tempdir().expect("a folder");
        decoder.decode(&latent, Some(tiling), scratch.path(), &mut |_| Ok(())).map_err(|error| error.report())
    };
    assert!(tiles(32, 16).is_ok());
    assert!(tiles(32, 0).unwrap_err().contains("0 pixels apart"));
    assert!(tiles(16, 24).unwrap_err().contains("24 pixels apart"));
    assert!(tiles(36, 16).unwrap_err().contains("multiples of 8"));

    let frames = Tensor::zeros((1, 3, 1, 24, 40), DType::F32, &device()).expect("zeros");
    let refusal = encode(&encoder(FOLDERS[1]), &frames, None).unwrap_err().report();
    assert!(refusal.contains("multiples of 16"), "{refusal}");
}

#[test]
fn a_configuration_that_describes_no_network_is_refused_with_its_key() {
    for (text, word) in [
        ("{", "JSON"),
        (r#"{"dim_mult": []}"#, "dim_mult"),
        (r#"{"dim_mult": [1, 0, 4, 4]}"#, "dim_mult"),
        (r#"{"dim_mult": [1, 2, 4]}"#, "temperal_downsample"),
        (
            r#"{"dim_mult": [1,1,1,1,1,1,1,1,1], "temperal_downsample": [true,true,true,true,true,true,true,true]}"#,
            "dim_mult",
        ),
        (r#"{"base_dim": 0}"#, "base_dim"),
        (r#"{"base_dim": 9000000000000000000}"#, "base_dim"),
        (r#"{"base_dim": 60000}"#, "base_dim"),
        (r#"{"decoder_base_dim": 0}"#, "decoder_base_dim"),
        (r#"{"num_res_blocks": 0}"#, "num_res_blocks"),
        (r#"{"num_res_blocks": 4000000000}"#, "num_res_blocks"),
        (r#"{"num_res_blocks": -1}"#, "-1"),
        (r#"{"z_dim": 8}"#, "latents_mean"),
        (r#"{"z_dim": 1, "latents_mean": [0.0], "latents_std": [0.0]}"#, "latents_std"),
        (r#"{"attn_scales": [1.0]}"#, "attn_scales"),
        (r#"{"patch_size": 0}"#, "patch_size"),
        (r#"{"patch_size": 2}"#, "in_channels"),
    ] {
        let report = Config::parse(text).expect_err(text).report();
        assert!(report.contains(word), "{text}: {report}");
    }
    assert_eq!(Config::parse("{}").expect("the defaults"), Config::default());
    assert_eq!(Config::default().spatial_factor(), 8);
    assert_eq!(Config::default().temporal_factor(), 4);
}

#[test]
fn a_tensor_of_neither_half_is_refused() {
    let folder = FOLDERS[0];
    let file = "vae/diffusion_pytorch_model.safetensors";
    let mut all = tensors(&format!("{folder}/{file}"));
    let stray = all["decoder.conv_in.bias"].clone();
    all.insert("decoder.stray".to_owned(), stray);
    let folder_of_copy = tempfile::tempdir().expect("a folder");
    let copy = folder_of_copy.path().join("vae.safetensors");
    candle_core::safetensors::save(&all, &copy).expect("a copy");
    let weights = Weights::open(&[copy], &device(), DType::F32).expect("weights");
    let report = Decoder::load(&config(folder), &weights).expect_err("a stray tensor").report();
    assert!(report.contains("decoder.stray"), "{report}");
    Encoder::load(&config(folder), &weights).expect("the encoder is whole");
}
