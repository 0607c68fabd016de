//! Layers of sound: the fast ways against the plain ones, and the plain ones against what defines them.

use std::f64::consts::PI;

use candle_core::{DType, Tensor};
use talkie::audio::Waveform;
use talkie::audio::pieces::pieces;
use talkie::audio::resample::{Ends, resample};
use talkie::audio::spectrum::Spectrum;
use talkie::nn::activation::leaky_relu;
use talkie::nn::conv1d::{Conv1d, ConvTranspose1d};
use talkie::nn::snake::{AntiAliased, Snake};

use crate::support::{device, relative_l2};

/// The same numbers in every run: candle's own generator cannot be seeded on a CPU.
fn noise(shape: &[usize]) -> Tensor {
    let mut state = shape.iter().fold(1u64, |state, &side| state * 31 + side as u64);
    let mut value = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| value()).collect();
    Tensor::from_vec(values, shape, &device()).expect("noise")
}

/// (t, channels) as candle's own convolutions want it: (1, channels, t), or back.
fn turned(xs: &Tensor) -> Tensor {
    if xs.rank() == 2 { xs.t().unwrap().unsqueeze(0).unwrap() } else { xs.squeeze(0).unwrap().t().unwrap() }
        .contiguous()
        .unwrap()
}

#[test]
fn convolutions_along_time_agree_with_candles() {
    for (inputs, outputs, kernel, dilation) in [(1, 1, 1, 1), (3, 2, 3, 5), (5, 7, 7, 1), (8, 8, 11, 3), (24, 24, 3, 2)]
    {
        let (weight, bias) = (noise(&[outputs, inputs, kernel]), noise(&[outputs]));
        let conv = Conv1d::new(&weight, Some(bias.clone())).unwrap().dilation(dilation);
        assert_eq!(conv.reach(), (kernel - 1) / 2 * dilation);
        // Also fewer samples than the kernel covers, and fewer than the dilation.
        for length in [1, 2, 4, 16, 100] {
            let xs = noise(&[length, inputs]);
            let padding = (kernel - 1) / 2 * dilation;
            let ys = turned(&xs).conv1d(&weight, padding, 1, dilation, 1).unwrap();
            let ys = turned(&ys).broadcast_add(&bias).unwrap();
            for (way, conv) in
                [("fast", conv.clone()), ("plain", conv.clone().plain(100)), ("whole", conv.clone().plain(9999))]
            {
                let error = relative_l2(&conv.forward(&xs).unwrap(), &ys);
                assert!(error < 1e-6, "{way}: {inputs} to {outputs}, {kernel}, {dilation}, {length}: {error:e}");
            }
        }
    }
    let conv = Conv1d::new(&noise(&[2, 3, 5]), None).unwrap().padding(1, 0);
    assert_eq!(conv.forward(&noise(&[4, 3])).unwrap().dims(), [1, 2]);
    assert!(conv.forward(&noise(&[3, 3])).is_err(), "fewer samples than the kernel covers");
    assert!(conv.forward(&noise(&[9, 4])).is_err(), "other channels");
    // Of an even kernel, the greater part of the padding comes after the end.
    let even = Conv1d::new(&noise(&[1, 1, 4]), None).unwrap();
    let moved = even.clone().padding(1, 2);
    assert_eq!(relative_l2(&even.forward(&noise(&[9, 1])).unwrap(), &moved.forward(&noise(&[9, 1])).unwrap()), 0.0);
}

#[test]
fn transposed_convolutions_along_time_agree_with_candles() {
    for (kernel, stride, padding) in [(16, 6, 5), (11, 5, 3), (4, 2, 1), (3, 3, 0), (7, 2, 0), (1, 1, 0)] {
        let (weight, bias) = (noise(&[6, 3, kernel]), noise(&[3]));
        let conv = ConvTranspose1d::new(&weight, &bias, stride, padding).unwrap();
        for length in [1, 2, 5, 40] {
            let xs = noise(&[length, 6]);
            let ys = turned(&turned(&xs).conv_transpose1d(&weight, 0, 0, stride, 1, 1).unwrap());
            let ys = ys.narrow(0, padding, ys.dim(0).unwrap() - 2 * padding).unwrap().broadcast_add(&bias).unwrap();
            for conv in [&conv, &conv.clone().plain(50)] {
                let error = relative_l2(&conv.forward(&xs).unwrap(), &ys);
                assert!(error < 1e-6, "{kernel}, {stride}, {padding}, {length}: {error:e}");
            }
        }
        // What lies further away than the reach changes nothing.
        for near in [0, 3, 10] {
            let (reach, xs) = (conv.reach(near), noise(&[60, 6]));
            let mask: Vec<f32> = (0..60usize).map(|i| if i.abs_diff(30) <= reach { 1.0 } else { 0.0 }).collect();
            let masked = xs.broadcast_mul(&Tensor::new(mask, &device()).unwrap().unsqueeze(1).unwrap()).unwrap();
            let own = |xs: &Tensor| conv.forward(xs).unwrap().narrow(0, 30 * stride - near, stride + 2 * near).unwrap();
            assert_eq!(relative_l2(&own(&masked), &own(&xs)), 0.0, "{kernel}, {stride}, {padding}, {near}");
        }
    }
}

#[test]
fn anti_aliased_snake_agrees_with_its_plain_self() {
    for (channels, ratio, kernel) in
        [(1, 2, 12), (24, 2, 12), (700, 2, 12), (5, 3, 18), (3, 2, 7), (2, 1, 2), (2, 4, 5)]
    {
        let values = |shape: &[usize]| noise(shape).to_vec1::<f32>().unwrap();
        let alpha: Vec<f32> = values(&[channels]).iter().map(|x| (3.0 * x).exp()).collect();
        let snake = Snake::new(alpha, &values(&[channels]).iter().map(|x| x + 1.5).collect::<Vec<_>>());
        let layer = AntiAliased::new(snake, ratio, values(&[kernel]), values(&[kernel]));
        let plain = layer.clone().plain();
        for length in [1, 2, 3, 7, 33, 150] {
            let xs = noise(&[length, channels]);
            let error = relative_l2(&layer.forward(&xs).unwrap(), &plain.forward(&xs).unwrap());
            assert!(error < 2e-6, "{channels}, {ratio}, {kernel}, {length}: {error:e}");
        }
        for layer in [&layer, &plain] {
            assert!(layer.forward(&noise(&[4, channels + 1])).is_err(), "other channels");
        }
        // What lies further away than the reach changes nothing.
        let (xs, reach) = (noise(&[4 * layer.reach() + 9, channels]), layer.reach());
        let middle = |ys: Tensor, skip: usize| ys.narrow(0, reach - skip, 2 * reach).unwrap();
        let part = xs.narrow(0, reach, xs.dim(0).unwrap() - reach).unwrap();
        let (whole, part) = (layer.forward(&xs).unwrap(), layer.forward(&part).unwrap());
        let whole = whole.narrow(0, reach, whole.dim(0).unwrap() - reach).unwrap();
        assert_eq!(relative_l2(&middle(whole, 0), &middle(part, 0)), 0.0, "{channels}, {ratio}, {kernel}");
    }
}

/// Snake is `x + sin²(αx)/β`, for angles small and large, and stays finite for those beyond f32's precision.
#[test]
fn snake_is_accurate() {
    // A β so small that the square of the sine is nearly all there is.
    let layer = AntiAliased::new(Snake::new(vec![100.0], &[1e-6]), 1, vec![0.0, 1.0], vec![1.0, 0.0]);
    for sign in [1.0, -1.0] {
        let xs: Vec<f32> = (0..4000).map(|i| ((f64::from(i) * 0.01).exp2() * 1e-5 * sign) as f32).collect();
        let column = Tensor::new(xs.as_slice(), &device()).unwrap().unsqueeze(1).unwrap();
        let values =
            |layer: &AntiAliased| layer.forward(&column).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for ((x, fast), plain) in xs.iter().zip(values(&layer)).zip(values(&layer.clone().plain())) {
            assert!(fast.is_finite());
            let same = (f64::from(fast) - f64::from(plain)).abs() * 1e-6 < 5e-7;
            assert!(same || x.abs() > 100.0, "{x}: {fast} {plain}");
        }
    }
}

#[test]
fn rectifiers_agree() {
    let xs = noise(&[40_000]);
    let plain = candle_nn::ops::leaky_relu(&xs, 0.1).unwrap();
    assert!(relative_l2(&leaky_relu(&xs, 0.1).unwrap(), &plain) < 1e-7);
}

#[test]
fn pieces_cover_a_signal_once() {
    for (length, size, reach) in
        [(10, 3, (2, 1)), (10, 10, (5, 5)), (10, 100, (0, 0)), (1, 1, (9, 9)), (0, 4, (1, 1)), (5, 0, (0, 0))]
    {
        let mut next = 0;
        for piece in pieces(length, size, reach) {
            assert_eq!(piece.keep.start, next);
            next = piece.keep.end;
            assert_eq!(piece.take.start, piece.keep.start.saturating_sub(reach.0));
            assert_eq!(piece.take.end, (piece.keep.end + reach.1).min(length));
            assert_eq!(piece.skip(), piece.keep.start - piece.take.start);
        }
        assert_eq!(next, length);
    }
}

/// A tone of `hertz`, of so many samples at `rate`.
fn tone(hertz: f64, rate: u32, samples: usize) -> Vec<f32> {
    (0..samples).map(|i| (0.5 * (2.0 * PI * hertz * i as f64 / f64::from(rate)).sin()) as f32).collect()
}

#[test]
fn a_tone_stays_a_tone_at_another_rate() {
    for (from, to) in [(48_000, 16_000), (44_100, 16_000), (16_000, 48_000), (16_000, 16_000), (22_050, 24_000)] {
        let sound = resample(&tone(440.0, from, from as usize / 4), from, to, Ends::Silent);
        assert_eq!(sound.len(), (from as usize / 4 * to as usize).div_ceil(from as usize));
        let expected = tone(440.0, to, sound.len());
        let middle = 200..sound.len() - 200;
        let far = sound[middle.clone()].iter().zip(&expected[middle]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 2e-3, "{from} to {to}: {far}");
    }
    // What the lower rate cannot hold is gone.
    let gone = resample(&tone(11_000.0, 48_000, 12_000), 48_000, 16_000, Ends::Silent);
    assert!(gone[200..3800].iter().all(|x| x.abs() < 2e-3));
    assert!(resample(&[], 48_000, 16_000, Ends::Silent).is_empty());
    assert_eq!(resample(&[0.5; 9], 1, 3, Ends::Repeated).len(), 27);
    assert!(resample(&[0.5; 9], 1, 3, Ends::Repeated).iter().all(|x| (x - 0.5).abs() < 2e-3));
}

/// 64 bands at 16 kHz, by torchaudio's definitions: 8 kHz are 45.245 mels, so that the middles of bands are 0.696 apart; 1
/// kHz, of 15 mels, is at 21.55 of them, and the middle of the first band at 1.
#[test]
fn a_spectrum_shows_a_tone_where_it_is() {
    let spectrum = Spectrum::slaney(16_000, 64, 1024, 160, &device()).unwrap();
    for (hertz, bin) in [(1000.0, 21), (300.0, 5), (3900.0, 49), (7000.0, 61)] {
        let rows = spectrum.centred(&tone(hertz, 16_000, 16_000)).unwrap();
        assert_eq!(rows.dims(), [101, 64]);
        let row = rows.get(50).unwrap().to_vec1::<f32>().unwrap();
        let loudest = (0..64).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        assert_eq!(loudest, bin, "{hertz} Hz: {row:?}");
    }
    let silence = spectrum.centred(&vec![0.0; 1024]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(silence.iter().all(|x| (x - 1e-5f32.ln()).abs() < 1e-5));
    // A click in the middle has the same magnitude at every frequency: the area of a band is 1, whatever its width.
    let mut click = vec![0f32; 3200];
    click[1600] = 1.0;
    let row = spectrum.centred(&click).unwrap().get(10).unwrap().to_vec1::<f32>().unwrap();
    assert!(row[63].exp() * 16_000.0 / 1024.0 > 0.98 && row[63].exp() * 16_000.0 / 1024.0 < 1.02, "{}", row[63].exp());
    assert!(spectrum.centred(&[0.0; 512]).is_err());
}

#[test]
fn the_encoder_makes_spectra_of_any_sound() {
    let folder = crate::support::fixture("ltx23/audio_vae");
    let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let config = talkie::families::ltx::audio_vae::Config::parse(&text).unwrap();
    let file = folder.join("diffusion_pytorch_model.safetensors");
    let weights = talkie::weights::Weights::open(&[file], &device(), DType::F32).unwrap();
    let encoder = talkie::families::ltx::audio_vae::Encoder::load(&config, &weights).unwrap();
    let sound =
        |rate, channels: usize, samples| Waveform { rate, channels: vec![tone(440.0, rate, samples); channels] };
    let stereo = encoder.spectrum(&sound(48_000, 2, 24_000)).unwrap();
    assert_eq!(stereo.dims(), [1, 2, 51, 8]);
    let mono = encoder.spectrum(&sound(48_000, 1, 24_000)).unwrap();
    assert_eq!(relative_l2(&mono, &stereo), 0.0);
    assert_eq!(encoder.forward(&stereo).unwrap().dims(), [1, 2, 13, 2]);
    assert_eq!(encoder.spectrum(&sound(16_000, 3, 1)).unwrap().dims(), [1, 2, 7, 8]);
    for (rate, channels, samples) in [(16_000, 0, 0), (16_000, 2, 0), (0, 2, 10), (u32::MAX, 2, 10)] {
        let sound = Waveform { rate, channels: vec![vec![0.0; samples]; channels] };
        let report = encoder.spectrum(&sound).expect_err("no sound").report();
        assert!(report.contains("cannot compute a mel spectrogram of"), "{report}");
    }
}
