//! LTX-2's audio autoencoder and vocoders against diffusers, on small networks with random weights.

use std::collections::HashMap;

use candle_core::{DType, Tensor};
use talkie::audio::Waveform;
use talkie::audio::resample::{Ends, resample};
use talkie::audio::spectrum::Spectrum;
use talkie::families::ltx::audio_vae::{self, Decoder, Encoder};
use talkie::families::ltx::tokens::{audio_latents, audio_tokens};
use talkie::families::ltx::vocoder::{self, Vocoder, check_pair};
use talkie::weights::Weights;

use crate::support::{close, device, fixture, relative_l2, tensors};

/// The releases 2.0 and 2.3.
const FOLDERS: [&str; 2] = ["ltx2", "ltx23"];

/// Measured: 7.7e-7, plain 7.7e-7.
const CLOSE: f64 = 2.3e-6;

/// Of another rate of samples, and of spectra. Measured, either way: 2.7e-7 and 4.0e-8.
const RESAMPLED: f64 = 8e-7;
const SPECTRUM: f64 = 1.2e-7;

/// How far two ways of adding the same numbers are.
const SAME: f64 = 2e-6;

fn weights(folder: &str, part: &str) -> Weights {
    let file = fixture(folder).join(part).join("diffusion_pytorch_model.safetensors");
    Weights::open(&[file], &device(), DType::F32).expect(folder)
}

fn audio_config(folder: &str) -> audio_vae::Config {
    let text = std::fs::read_to_string(fixture(folder).join("audio_vae/config.json")).expect(folder);
    audio_vae::Config::parse(&text).expect(folder)
}

fn vocoder_config(folder: &str) -> vocoder::Config {
    let text = std::fs::read_to_string(fixture(folder).join("vocoder/config.json")).expect(folder);
    vocoder::Config::parse(&text).expect(folder)
}

fn decoder(folder: &str) -> Decoder {
    Decoder::load(&audio_config(folder), &weights(folder, "audio_vae")).expect(folder)
}

fn encoder(folder: &str) -> Encoder {
    Encoder::load(&audio_config(folder), &weights(folder, "audio_vae")).expect(folder)
}

fn vocoder(folder: &str) -> Vocoder {
    Vocoder::load(&vocoder_config(folder), &weights(folder, "vocoder")).expect(folder)
}

fn reference(folder: &str) -> HashMap<String, Tensor> {
    tensors(&format!("{folder}/reference.safetensors"))
}

/// A waveform as the reference has it: (1, channels, samples).
fn samples(sound: &Waveform) -> Tensor {
    Tensor::new(sound.channels.clone(), &device()).and_then(|sound| sound.unsqueeze(0)).expect("channels")
}

/// Numbers that are the same in every run.
fn wave(shape: &[usize]) -> Tensor {
    let values = (0..shape.iter().product()).map(|i: usize| ((i * i % 1009) as f32 * 0.37).sin() * 1.5).collect();
    Tensor::from_vec::<_, f32>(values, shape, &device()).expect("numbers")
}

#[test]
fn spectra_come_out_of_latents() {
    for folder in FOLDERS {
        let reference = reference(folder);
        let mel = decoder(folder).forward(&reference["audio_vae.decode.latents"]).expect(folder);
        close(&mel, &reference["audio_vae.decode.mel"], CLOSE, &format!("{folder} spectrum"));
    }
}

#[test]
fn latents_come_out_of_spectra() {
    for folder in FOLDERS {
        let reference = reference(folder);
        let latents = encoder(folder).forward(&reference["audio_vae.encode.mel"]).expect(folder);
        close(&latents, &reference["audio_vae.encode.latents"], CLOSE, &format!("{folder} sound latents"));
    }
}

#[test]
fn sound_comes_out_of_spectra() {
    for (folder, rate) in [("ltx2", 24_000), ("ltx23", 48_000)] {
        let reference = reference(folder);
        let sound = vocoder(folder).forward(&reference["vocoder.mel"]).expect(folder);
        assert_eq!(sound.rate, rate);
        close(&samples(&sound), &reference["vocoder.waveform"], CLOSE, &format!("{folder} vocoder"));
    }
}

/// The parts of bandwidth extension that are no network.
#[test]
fn the_spectrum_and_the_higher_rate_of_a_sound_agree() {
    let (reference, weights) = (reference("ltx23"), weights("ltx23", "vocoder"));
    let narrow = reference["vocoder.narrow"].squeeze(0).unwrap().to_vec2::<f32>().unwrap();
    let skip = narrow.iter().map(|channel| resample(channel, 16_000, 48_000, Ends::Repeated)).collect::<Vec<_>>();
    let skip = Tensor::new(skip, &device()).unwrap().unsqueeze(0).unwrap();
    close(&skip, &reference["vocoder.skip"], RESAMPLED, "resampled");

    let basis = weights.f32("mel_stft.stft_fn.forward_basis", (98, 1, 96)).unwrap().squeeze(1).unwrap();
    let spectrum = Spectrum::new(&basis, &weights.f32("mel_stft.mel_basis", (8, 49)).unwrap(), 80).unwrap();
    for (channel, narrow) in narrow.into_iter().enumerate() {
        let rows = spectrum.of(&[vec![0.0; 16], narrow].concat()).expect("a spectrum");
        let expected = reference["vocoder.log_mel"].get(0).unwrap().get(channel).unwrap().t().unwrap();
        close(&rows, &expected, SPECTRUM, "log mel");
        assert!(spectrum.of(&[0.0; 95]).is_err(), "less than a window");
    }
}

#[test]
fn tokens_are_latents_with_their_statistics() {
    for folder in FOLDERS {
        let (decoder, encoder) = (decoder(folder), encoder(folder));
        let (channels, bins) = (decoder.config().latent_channels, decoder.config().latent_bins());
        let tokens = wave(&[1, 5, channels * bins]);
        let latents = decoder.denormalise(&tokens).expect(folder);
        assert_eq!(latents.dims(), [1, channels, 5, bins]);
        let statistics = weights(folder, "audio_vae");
        let [mean, std] = ["latents_mean", "latents_std"].map(|name| statistics.f32(name, channels * bins).unwrap());
        let value = |tensor: &Tensor, at: &[usize]| {
            at.iter().fold(tensor.clone(), |tensor, &i| tensor.get(i).unwrap()).to_scalar::<f32>().unwrap()
        };
        for (row, channel, bin) in [(0, 0, 0), (4, 1, 0), (2, 0, 1)] {
            let place = channel * bins + bin;
            let expected = value(&tokens, &[0, row, place]) * value(&std, &[place]) + value(&mean, &[place]);
            assert!((value(&latents, &[0, channel, row, bin]) - expected).abs() < 1e-6);
        }
        assert!(relative_l2(&encoder.normalise(&latents).expect(folder), &tokens) < 1e-6);
        assert!(relative_l2(&audio_latents(&audio_tokens(&latents).unwrap(), bins).unwrap(), &latents) == 0.0);
    }
}

#[test]
fn lengths_follow_the_clock() {
    let config = audio_vae::Config::default();
    assert_eq!(config.latents_per_second(), 25.0);
    // 121 frames at 24 a second; halves go to the even number.
    for (seconds, rows) in [(121.0 / 24.0, 126), (0.02, 1), (0.06, 2), (0.1, 2), (0.14, 4), (0.0, 1), (20.0, 500)] {
        assert_eq!(config.latent_rows(seconds), rows, "{seconds}");
    }
    assert_eq!([0, 1, 2, 126].map(|latents| config.mel_rows(latents)), [0, 1, 5, 501]);
}

/// A piece with its neighbours gives what the whole gives, however small it is.
#[test]
fn pieces_make_the_whole() {
    for folder in FOLDERS {
        let latents = wave(&[1, 2, 90, 2]);
        let mel = decoder(folder).forward(&latents).expect(folder);
        assert_eq!(mel.dims(), [1, 2, 357, 8]);
        for piece in [1, 7, 40, 89] {
            let error = relative_l2(&decoder(folder).in_pieces_of(piece).forward(&latents).expect(folder), &mel);
            assert!(error < SAME, "{folder}, decoder, {piece}: {error:e}");
        }
        let spectrum = wave(&[1, 2, 355, 8]);
        let whole = encoder(folder).forward(&spectrum).expect(folder);
        assert_eq!(whole.dims(), [1, 2, 89, 2]);
        for piece in [1, 7, 40, 88] {
            let error = relative_l2(&encoder(folder).in_pieces_of(piece).forward(&spectrum).expect(folder), &whole);
            assert!(error < SAME, "{folder}, encoder, {piece}: {error:e}");
        }
        let mel = wave(&[1, 2, 150, 8]);
        let whole = samples(&vocoder(folder).forward(&mel).expect(folder));
        for piece in [11, 60, 149] {
            let pieces = samples(&vocoder(folder).in_pieces_of(piece).forward(&mel).expect(folder));
            let error = relative_l2(&pieces, &whole);
            assert!(error < SAME, "{folder}, vocoder, {piece}: {error:e}");
        }
    }
}

#[test]
fn other_shapes_and_values_are_refused() {
    let refused = |result: talkie::Result<Tensor>, what: &str| {
        let report = result.expect_err(what).report();
        assert!(report.contains(what), "{report}");
    };
    let (decoder, encoder, vocoder) = (decoder("ltx23"), encoder("ltx23"), vocoder("ltx23"));
    for shape in [[1, 2, 0, 2], [1, 3, 4, 2], [1, 2, 4, 3], [2, 2, 4, 2]] {
        refused(
            decoder.forward(&Tensor::zeros(&shape, DType::F32, &device()).unwrap()),
            "the shape of audio latents must be",
        );
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let latents = Tensor::full(bad, (1, 2, 1, 2), &device()).unwrap();
        refused(decoder.forward(&latents), "values of the audio latents are not finite");
        let mel = Tensor::full(bad, (1, 2, 1, 8), &device()).unwrap();
        refused(encoder.forward(&mel), "values of the mel spectrogram are not finite");
        refused(vocoder.forward(&mel).map(|sound| samples(&sound)), "samples that are not finite");
    }
    refused(encoder.forward(&wave(&[1, 2, 4, 9])), "the shape of a mel spectrogram must be");
    for shape in [&[1, 2, 4, 9][..], &[1, 2, 0, 8], &[2, 2, 4, 8], &[2, 4, 8]] {
        let mel = Tensor::zeros(shape, DType::F32, &device()).unwrap();
        refused(vocoder.forward(&mel).map(|sound| samples(&sound)), "the shape of a mel spectrogram must be");
    }
}

/// A sound of a single row is shorter than every kernel is wide.
#[test]
fn one_row_is_enough() {
    for (folder, samples) in [("ltx2", 240), ("ltx23", 480)] {
        let mel = decoder(folder).forward(&wave(&[1, 2, 1, 2])).expect(folder);
        assert_eq!(mel.dims(), [1, 2, 1, 8]);
        let sound = vocoder(folder).forward(&mel).expect(folder);
        assert_eq!((sound.channels.len(), sound.len()), (2, samples), "{folder}");
        assert_eq!(encoder(folder).forward(&mel).expect(folder).dims(), [1, 2, 1, 2]);
    }
}

/// What a test does to a good configuration.
type Change = fn(&mut audio_vae::Config);

#[test]
fn a_vocoder_of_another_network_is_refused() {
    for (folder, other) in [("ltx2", "ltx23"), ("ltx23", "ltx2")] {
        check_pair(&audio_config(folder), &vocoder_config(folder)).expect(folder);
        let report = Vocoder::load(&vocoder_config(folder), &weights(other, "vocoder")).expect_err(folder).report();
        assert!(report.contains("is missing from"), "{report}");
    }
    let changes: [(Change, &str); 4] = [
        (
            |config| config.mel_bins = 80,
            "the vocoder reads 16 values per row, and the autoencoder makes 2 channels of 80 bins",
        ),
        (
            |config| config.output_channels = 1,
            "the vocoder reads 16 values per row, and the autoencoder makes 1 channels of 8 bins",
        ),
        (
            |config| config.sample_rate = 44_100,
            "240 samples per row for 24000 Hz, and rows are 160 samples apart at 44100",
        ),
        (
            |config| config.mel_hop_length = 256,
            "240 samples per row for 24000 Hz, and rows are 256 samples apart at 16000",
        ),
    ];
    for (change, what) in changes {
        let mut config = audio_config("ltx2");
        change(&mut config);
        let report = check_pair(&config, &vocoder_config("ltx2")).expect_err(what).report();
        assert!(report.contains("the vocoder (`LTX2Vocoder`) and the audio autoencoder do not fit"), "{report}");
        assert!(report.contains(what), "{report}");
    }
    // The first generator's rate counts, not the one that comes out.
    let mut config = audio_config("ltx23");
    config.sample_rate = 48_000;
    let report = check_pair(&config, &vocoder_config("ltx23")).expect_err("three times the rate").report();
    assert!(report.contains("160 samples per row for 16000 Hz"), "{report}");
}
