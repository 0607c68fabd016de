//! Contact sheets: which frames they show, how large, and where the sound is drawn.

use std::ops::Range;

use talkie::audio::Waveform;
use talkie::media::{Rgb, Sheet, read_image};

use super::support::{landscape, names, noise};

/// Pixels between pictures and around them, and rows of a channel of sound.
const GAP: u32 = 4;
const LANE: u32 = 40;

/// The sheet of a film whose frames `picture` draws.
fn sheet(size: (u32, u32), frames: usize, sound: Option<&Waveform>, picture: impl Fn(usize) -> Vec<u8>) -> Rgb {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sheet.png");
    let mut sheet = Sheet::new(size, frames, sound).expect("a sheet");
    for frame in 0..frames {
        sheet.push(&Rgb { width: size.0, height: size.1, data: picture(frame) });
    }
    sheet.write(&path).expect("a picture");
    assert_eq!(names(folder.path()), ["sheet.png"]);
    read_image(&path).expect("a picture")
}

/// A part of a picture, row by row.
fn part(image: &Rgb, columns: Range<u32>, rows: Range<u32>) -> Vec<u8> {
    let row = |y: u32| {
        let at = |x: u32| 3 * (y * image.width + x) as usize;
        image.data[at(columns.start)..at(columns.end)].to_vec()
    };
    rows.flat_map(row).collect()
}

/// A silent sound with one sample of full scale.
fn click(samples: usize, at: usize) -> Waveform {
    let mut left = vec![0.0; samples];
    left[at] = -2.0;
    Waveform { rate: 16_000, channels: vec![left, vec![0.0; samples]] }
}

#[test]
fn small_frames_are_repeated_pixel_by_pixel() {
    let (width, height, times) = (20, 12, 7);
    let (across, down) = (width * times, height * times);
    let picture = sheet((width, height), 33, None, |frame| noise(width, height, frame));
    assert_eq!((picture.width, picture.height), (GAP + 8 * (across + GAP), GAP + 2 * (down + GAP)));
    for place in 0..16_u32 {
        let (left, top) = (GAP + place % 8 * (across + GAP), GAP + place / 8 * (down + GAP));
        let shown = part(&picture, left..left + across, top..top + down);
        let frame = noise(width, height, place as usize * 33 / 16);
        for (at, pixel) in shown.chunks_exact(3).enumerate() {
            let (x, y) = (at as u32 % across / times, at as u32 / across / times);
            let expected = &frame[3 * (y * width + x) as usize..][..3];
            assert_eq!(pixel, expected, "picture {place} at {x}, {y}");
        }
    }
    assert!(part(&picture, 0..GAP, 0..picture.height).chunks_exact(3).all(|pixel| pixel == [24, 24, 28]));
}

#[test]
fn large_frames_are_shrunk() {
    let picture = sheet((832, 480), 5, None, |frame| landscape(832, 480, frame));
    assert_eq!((picture.width, picture.height), (GAP + 5 * (256 + GAP), GAP + 147 + GAP));
    let sky = part(&picture, 200..201, 8..9);
    assert!(sky[2] > 200 && sky[0] < 130, "{sky:?}");
}

#[test]
fn every_length_and_shape_has_a_sheet() {
    let table = [
        ((64, 64), 1, (136, 136)),
        ((64, 64), 15, (1060, 136)),
        ((64, 64), 16, (1060, 268)),
        ((64, 64), 1000, (1060, 268)),
        ((128, 64), 2, (268, 72)),
        ((1, 1), 1, (136, 136)),
        ((1, 3000), 9, (8 * 5 + 4, 264)),
        ((256, 256), 1, (264, 264)),
        ((257, 257), 1, (264, 264)),
    ];
    for (size, frames, expected) in table {
        let picture = sheet(size, frames, None, |frame| noise(size.0, size.1, frame));
        assert_eq!((picture.width, picture.height), expected, "{size:?}, {frames} frames");
    }
    assert!(Sheet::new((64, 64), 0, None).is_err() && Sheet::new((0, 64), 3, None).is_err());
}

#[test]
fn sound_is_drawn_where_its_frame_is() {
    // Frame `n` of 32 begins with sample `500 n`; every second one is shown.
    for place in [0_u32, 5, 7, 8, 15] {
        let sound = click(16_000, 1000 * place as usize);
        let picture = sheet((64, 64), 32, Some(&sound), |frame| noise(64, 64, frame));
        let height = 128 + GAP + 2 * LANE + GAP;
        assert_eq!((picture.width, picture.height), (1060, GAP + 2 * height));
        let (left, top) = (GAP + place % 8 * 132, GAP + place / 8 * height + 128 + GAP);
        for row in 0..2 {
            for lane in 0..2 {
                let from = GAP + row * height + 128 + GAP + lane * LANE;
                let lane_is_it = from == top;
                for column in 0..picture.width {
                    let pixels = part(&picture, column..column + 1, from..from + LANE);
                    let drawn = pixels.chunks_exact(3).filter(|pixel| *pixel == [120, 190, 250]).count();
                    // Below the middle only, to the edge: the sample is negative, and clips.
                    let expected = if lane_is_it && column == left { 20 } else { 0 };
                    assert_eq!(drawn, expected, "picture {place}, row {row}, lane {lane}, column {column}");
                }
            }
        }
    }
    let nothing = Waveform { rate: 16_000, channels: vec![Vec::new()] };
    assert_eq!(sheet((64, 64), 2, Some(&nothing), |frame| noise(64, 64, frame)).height, GAP + 128 + GAP + LANE + GAP);
}

#[test]
fn a_film_that_is_not_whole_has_no_sheet() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sheet = Sheet::new((8, 8), 2, None).expect("a sheet");
    sheet.push(&Rgb { width: 8, height: 8, data: vec![0; 192] });
    let error = sheet.write(&folder.path().join("sheet.png")).expect_err("a frame is missing");
    assert!(error.to_string().contains("1 frames of 2"), "{error}");
    assert_eq!(names(folder.path()), [""; 0]);
}
