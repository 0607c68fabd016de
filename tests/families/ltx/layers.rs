//! Layers and arithmetic of LTX-2 by their definitions.

use candle_core::{DType, Tensor};
use talkie::families::ltx::config::Config;
use talkie::families::ltx::positions::{Grid, Positions};
use talkie::families::ltx::rope::{Rope, RopeShape, RopeType};
use talkie::families::ltx::tokens;

use crate::support::{device, relative_l2};

/// Every number different.
fn count(shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    Tensor::arange(0f32, count as f32, &device()).unwrap().reshape(shape).unwrap()
}

/// The channels (1, tokens, width) turned one pair at a time, in f64, from the definition.
fn turned(shape: &RopeShape, axes: &[Vec<f32>], xs: &Tensor) -> Tensor {
    let (_, tokens, width) = xs.dims3().unwrap();
    let (pairs, head) = (width / 2, width / shape.heads);
    let count = pairs / axes.len();
    let mut values: Vec<Vec<f32>> = xs.squeeze(0).unwrap().to_vec2().unwrap();
    for (token, row) in values.iter_mut().enumerate() {
        for pair in pairs - count * axes.len()..pairs {
            let place = pair - (pairs - count * axes.len());
            let exponent = if count > 1 { (place / axes.len()) as f64 / (count - 1) as f64 } else { 0.0 };
            let frequency = (shape.theta.powf(exponent) * std::f64::consts::FRAC_PI_2) as f32;
            let angle = f64::from((2.0 * axes[place % axes.len()][token] - 1.0) * frequency);
            let (start, inside) = (pair / (head / 2) * head, pair % (head / 2));
            let (i, j) = match shape.kind {
                RopeType::Split => (start + inside, start + inside + head / 2),
                RopeType::Interleaved => (start + 2 * inside, start + 2 * inside + 1),
            };
            let (x, y) = (f64::from(row[i]), f64::from(row[j]));
            row[i] = (x * angle.cos() - y * angle.sin()) as f32;
            row[j] = (x * angle.sin() + y * angle.cos()) as f32;
        }
    }
    Tensor::from_vec(values.concat(), (1, tokens, width), &device()).unwrap()
}

#[test]
fn ltx_rope_turns_each_pair_by_its_own_angle() {
    let axes = [vec![0.0, 0.013, 0.4, 1.7], vec![0.5, 0.1, 0.99, 0.3], vec![0.2, 0.2, 0.8, 0.0]];
    for kind in [RopeType::Split, RopeType::Interleaved] {
        for (width, heads, used) in [(20, 2, 3), (24, 3, 3), (12, 3, 1), (12, 1, 2), (2, 1, 1), (4, 2, 3)] {
            let shape = RopeShape { width, heads, theta: 10_000.0, kind };
            let axes = &axes[..used];
            let xs = (count(&[1, 4, width]) + 1.0).unwrap();
            let rope = Rope::new(&shape, axes, &device()).expect("tables");
            let error = relative_l2(&rope.turn(&xs).expect("turned"), &turned(&shape, axes, &xs));
            assert!(error < 1e-6, "{shape:?}, {used} axes: {error:e}");
        }
    }
}

#[test]
fn ltx_rope_of_a_line_is_that_of_fractions() {
    let shape = RopeShape { width: 8, heads: 2, theta: 10_000.0, kind: RopeType::Split };
    let xs = (count(&[1, 5, 8]) + 1.0).unwrap();
    let line = Rope::line(&shape, 5, 4096, &device()).expect("tables").turn(&xs).expect("turned");
    let axis: Vec<f32> = (0..5).map(|token| token as f32 / 4096.0).collect();
    assert!(relative_l2(&line, &turned(&shape, &[axis], &xs)) < 1e-6);
}

#[test]
fn ltx_rope_keeps_the_type_and_refuses_what_does_not_fit() {
    let shape = RopeShape { width: 8, heads: 2, theta: 10_000.0, kind: RopeType::Split };
    let rope = Rope::line(&shape, 3, 10, &device()).expect("tables");
    assert_eq!(rope.tokens().unwrap(), 3);
    let half = rope.turn(&count(&[1, 3, 8]).to_dtype(DType::BF16).unwrap()).expect("turned");
    assert_eq!(half.dtype(), DType::BF16);
    assert!(rope.turn(&count(&[1, 4, 8])).is_err(), "a token without a position");
    assert!(rope.turn(&count(&[1, 3, 6])).is_err(), "other channels");
    for (width, heads) in [(8, 3), (8, 0), (0, 2), (6, 2)] {
        assert!(Rope::line(&RopeShape { width, heads, ..shape }, 3, 10, &device()).is_err(), "{width}, {heads}");
    }
    assert!(Rope::new(&shape, &[vec![0.0], vec![0.0, 1.0]], &device()).is_err(), "axes of different lengths");
    assert!(Rope::new(&shape, &[], &device()).is_err(), "no axis");
}

/// One forward shows that tables are right where they matter; this, that no film is too small or too large for them.
#[test]
fn ltx_positions_refuse_films_that_cannot_be() {
    let config = Config::default();
    let grid = Grid { video: [2, 2, 3], fps: 24.0, audio: 9 };
    assert_eq!(grid.video_tokens(), 12);
    Positions::new(&config, &grid, &device()).expect("positions");
    let endless = usize::MAX / 2;
    for wrong in [
        Grid { video: [0, 2, 3], ..grid },
        Grid { video: [endless, endless, 3], ..grid },
        Grid { audio: 0, ..grid },
        Grid { audio: endless, ..grid },
        Grid { fps: 0.0, ..grid },
        Grid { fps: f64::NAN, ..grid },
        Grid { fps: f64::INFINITY, ..grid },
    ] {
        let error = Positions::new(&config, &wrong, &device()).expect_err("a film that cannot be");
        assert!(error.to_string().starts_with("cannot place"), "{error}");
    }
}

#[test]
fn ltx_latents_become_tokens_and_latents_again() {
    let video = count(&[1, 3, 2, 4, 5]);
    let tokens = tokens::video_tokens(&video).expect("tokens");
    assert_eq!(tokens.dims(), [1, 40, 3]);
    // Frame 1, row 2, column 3.
    let token: Vec<f32> = tokens.get(0).unwrap().get(20 + 2 * 5 + 3).unwrap().to_vec1().unwrap();
    assert_eq!(token, [33.0, 73.0, 113.0]);
    assert_eq!(relative_l2(&tokens::video_latents(&tokens, [2, 4, 5]).expect("latents"), &video), 0.0);
    assert!(tokens::video_latents(&tokens, [2, 4, 4]).is_err());

    let audio = count(&[1, 2, 5, 3]);
    let tokens = tokens::audio_tokens(&audio).expect("tokens");
    assert_eq!(tokens.dims(), [1, 5, 6]);
    let token: Vec<f32> = tokens.get(0).unwrap().get(4).unwrap().to_vec1().unwrap();
    assert_eq!(token, [12.0, 13.0, 14.0, 27.0, 28.0, 29.0]);
    assert_eq!(relative_l2(&tokens::audio_latents(&tokens, 3).expect("latents"), &audio), 0.0);
    assert!(tokens::audio_latents(&tokens, 4).is_err() && tokens::audio_latents(&tokens, 0).is_err());
    assert!(tokens::video_tokens(&audio).is_err() && tokens::audio_tokens(&video).is_err());
}
