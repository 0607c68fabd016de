//! The colour conversion against the formula of BT.709, in f64.

use proptest::prelude::*;
use talkie::media::{palette, yuv};

use crate::support::cases;

/// Y′, Cb, Cr of a colour with channels in 0..=255, as real code values.
fn bt709([r, g, b]: [f64; 3]) -> [f64; 3] {
    let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    [16.0 + 219.0 * y / 255.0, 128.0 + 224.0 * (b - y) / 1.8556 / 255.0, 128.0 + 224.0 * (r - y) / 1.5748 / 255.0]
}

/// Nearest code value, with room for the rounding of f32 at a tie.
fn near(code: u8, exact: f64) -> bool {
    (f64::from(code) - exact).abs() <= 0.5001
}

#[test]
fn the_corners_of_the_cube_have_their_published_codes() {
    let table = [
        ([0, 0, 0], [16, 128, 128]),
        ([255, 255, 255], [235, 128, 128]),
        ([255, 0, 0], [63, 102, 240]),
        ([0, 255, 0], [173, 42, 26]),
        ([0, 0, 255], [32, 240, 118]),
        ([128, 128, 128], [126, 128, 128]),
    ];
    for (rgb, [y, cb, cr]) in table {
        let picture = yuv::from_rgb(&rgb.repeat(8), 4);
        assert_eq!(picture, yuv::Yuv420 { y: vec![y; 8], cb: vec![cb; 2], cr: vec![cr; 2] }, "{rgb:?}");
    }
}

#[test]
fn chroma_is_taken_round_the_left_column() {
    // One blue column in black, at x = 2: its own sample takes half of it, the next none, the one before none.
    let mut rgb = vec![0; 8 * 2 * 3];
    for row in 0..2 {
        rgb[(row * 8 + 2) * 3 + 2] = 255;
    }
    let half = bt709([0.0, 0.0, 127.5])[1].round() as u8;
    assert_eq!(yuv::from_rgb(&rgb, 8).cb, [128, half, 128, 128]);
    // At x = 1 its neighbours on both sides take a quarter each.
    rgb.rotate_right(3 * 7);
    let at = rgb.iter().position(|value| *value == 255).expect("the column") / 3 % 8;
    assert_eq!(at, 1, "the column has moved");
    let quarter = bt709([0.0, 0.0, 63.75])[1].round() as u8;
    assert_eq!(yuv::from_rgb(&rgb, 8).cb, [quarter, quarter, 128, 128]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_sample_is_the_formula(half_width in 1_usize..9, half_height in 1_usize..9, seed in any::<u64>()) {
        let (width, height) = (half_width * 2, half_height * 2);
        let mut state = seed;
        let rgb: Vec<u8> = (0..width * height * 3).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        }).collect();
        let picture = yuv::from_rgb(&rgb, width);
        let at = |x: usize, y: usize| [0, 1, 2].map(|c| f64::from(rgb[(y * width + x) * 3 + c]));
        for y in 0..height {
            for x in 0..width {
                prop_assert!(near(picture.y[y * width + x], bt709(at(x, y))[0]));
            }
        }
        for y in 0..half_height {
            for x in 0..half_width {
                let column = |x: usize| [0, 1, 2].map(|c| (at(x, 2 * y)[c] + at(x, 2 * y + 1)[c]) / 2.0);
                let (left, here, right) = (column((2 * x).saturating_sub(1)), column(2 * x), column(2 * x + 1));
                let [_, cb, cr] = bt709([0, 1, 2].map(|c| (left[c] + 2.0 * here[c] + right[c]) / 4.0));
                prop_assert!(near(picture.cb[y * half_width + x], cb) && near(picture.cr[y * half_width + x], cr));
            }
        }
    }
}

/// How far, squared, a colour that is shown may be from the pixel's where each has an entry. In each channel, 7 from it to the
/// entry, which is the mean of a 32nd; and 8 by the dither and 4 to the middle of a 32nd, there and back.
const SHOWN: u32 = 3 * (7 + 8 + 4 + 8 + 4u32).pow(2);

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn a_palette_holds_what_the_picture_shows(pixels in prop::collection::vec(any::<[u8; 3]>(), 1..350)) {
        let picture = palette::quantise(&pixels.concat(), pixels.len());
        prop_assert!((1..=256).contains(&picture.palette.len()));
        prop_assert_eq!(picture.indices.len(), pixels.len());
        for (pixel, index) in pixels.iter().zip(&picture.indices) {
            let shown = picture.palette[usize::from(*index)];
            let distance: u32 = pixel.iter().zip(shown).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum();
            // Of more colours than a palette holds, some are far from all of it.
            prop_assert!(distance <= SHOWN || pixels.len() > 256, "{:?} for {:?}", shown, pixel);
        }
    }
}

#[test]
fn few_colours_stay_as_they_are() {
    let colours: Vec<[u8; 3]> =
        (0..8).map(|i| [(i & 1) * 200 + 20, (i >> 1 & 1) * 200 + 20, (i >> 2) * 200 + 20]).collect();
    let picture = palette::quantise(&colours.concat().repeat(8), 8);
    let shown: Vec<[u8; 3]> =
        picture.indices.iter().take(8).map(|index| picture.palette[usize::from(*index)]).collect();
    assert_eq!(shown, colours);
}
