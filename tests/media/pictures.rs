//! Pictures read for conditioning and written for previews.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ExtendedColorType, ImageBuffer, ImageEncoder, ImageFormat, Luma, LumaA, Rgb as Pixel, Rgba};
use proptest::prelude::*;
use talkie::error::Kind;
use talkie::media::{Filter, Rgb, fit, read_image, write_png};

use super::support::{landscape, mean_error, names, noise};

/// The same numbers as the script that asked Pillow: a linear congruence, bits 16 to 23.
fn congruence(width: u32, height: u32) -> Rgb {
    let mut state = 7_u64;
    let next = |_| {
        state = (state * 1_103_515_245 + 12345) & 0x7FFF_FFFF;
        (state >> 16) as u8
    };
    Rgb { width, height, data: (0..width * height * 3).map(next).collect() }
}

type Size = (u32, u32);

/// `ImageOps.fit(image, size, Image.Resampling.LANCZOS)` of Pillow 13 on `congruence`: its sum, and the sum of each
/// byte times its place, counted from 1.
const PILLOW: [(Size, Size, u64, u64); 7] = [
    ((12, 9), (4, 3), 4641, 87142),
    ((7, 5), (16, 16), 87262, 35_805_569),
    ((40, 30), (16, 32), 196_868, 150_190_031),
    ((26, 38), (28, 47), 502_001, 978_487_118),
    ((28, 39), (46, 51), 893_526, 3_100_117_703),
    ((57, 49), (28, 53), 561_177, 1_235_739_617),
    ((64, 48), (32, 24), 291_363, 333_883_232),
];

#[test]
fn a_picture_is_fitted_as_pillow_does() {
    for (from, to, sum, weighted) in PILLOW {
        let fitted = fit(&congruence(from.0, from.1), to.0, to.1, Filter::Lanczos);
        assert_eq!((fitted.width, fitted.height, fitted.data.len()), (to.0, to.1, (to.0 * to.1 * 3) as usize));
        let places = (1_u64..).zip(&fitted.data).map(|(place, value)| place * u64::from(*value)).sum::<u64>();
        let total = fitted.data.iter().map(|value| u64::from(*value)).sum::<u64>();
        assert_eq!((total, places), (sum, weighted), "{from:?} to {to:?}");
    }
    assert_eq!(fit(&congruence(4, 4), 2, 2, Filter::Lanczos).data.len(), 12);
}

#[test]
fn a_picture_of_the_right_size_is_untouched() {
    let image = congruence(48, 32);
    assert_eq!(fit(&image, 48, 32, Filter::Lanczos), image);
}

#[test]
fn what_stands_over_is_cropped_evenly() {
    // Red, green and blue thirds, side by side: a square of the middle is green.
    let row: Vec<u8> = [[255, 0, 0], [0, 255, 0], [0, 0, 255]].iter().flat_map(|colour| colour.repeat(30)).collect();
    let wide = Rgb { width: 90, height: 30, data: row.repeat(30) };
    let middle = fit(&wide, 20, 20, Filter::Lanczos);
    let green = middle.data.chunks_exact(3).skip(5).step_by(20).all(|pixel| pixel == [0, 255, 0]);
    assert!(green, "{:?}", &middle.data[..60]);
}

/// Saves a picture with the encoder of the `image` crate.
fn save(path: &Path, image: &DynamicImage, format: ImageFormat) {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("a picture");
    fs::write(path, bytes.into_inner()).expect("a file");
}

#[test]
fn every_kind_of_picture_becomes_rgb() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("picture");
    let kinds: [(DynamicImage, [u8; 3]); 6] = [
        (ImageBuffer::from_pixel(5, 3, Pixel([10_u8, 20, 30])).into(), [10, 20, 30]),
        // Transparent, and yet its colour is kept.
        (ImageBuffer::from_pixel(5, 3, Rgba([10_u8, 20, 30, 0])).into(), [10, 20, 30]),
        (ImageBuffer::from_pixel(5, 3, Luma([77_u8])).into(), [77; 3]),
        (ImageBuffer::from_pixel(5, 3, LumaA([77_u8, 3])).into(), [77; 3]),
        (ImageBuffer::from_pixel(5, 3, Luma([0x7F7F_u16])).into(), [0x7F; 3]),
        (ImageBuffer::from_pixel(5, 3, Pixel([0_u16, 0x8080, 0xFFFF])).into(), [0, 0x80, 255]),
    ];
    for (image, colour) in kinds {
        save(&path, &image, ImageFormat::Png);
        let read = read_image(&path).expect("a picture");
        assert_eq!((read.width, read.height), (5, 3));
        assert_eq!(read.data, colour.repeat(15), "{:?}", image.color());
    }
    let drawn = Rgb { width: 64, height: 48, data: landscape(64, 48, 0) };
    let buffer: DynamicImage = image::RgbImage::from_raw(64, 48, drawn.data.clone()).expect("pixels").into();
    save(&path, &buffer, ImageFormat::WebP);
    assert_eq!(read_image(&path).expect("a picture"), drawn);
    save(&path, &buffer, ImageFormat::Jpeg);
    assert!(mean_error(&read_image(&path).expect("a picture").data, &drawn.data) < 8.0);
}

#[test]
fn a_photograph_on_its_side_is_set_upright() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("photo.jpg");
    // Exif: little endian, one entry, orientation (0x0112), short, one, 6: to be turned clockwise.
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.set_exif_metadata(exif).expect("metadata");
    // The left half is black, the right half white: upright, the upper half is black.
    let row: Vec<u8> = [[0; 3].repeat(16), [255; 3].repeat(16)].concat();
    encoder.write_image(&row.repeat(16), 32, 16, ExtendedColorType::Rgb8).expect("a picture");
    fs::write(&path, bytes).expect("a file");
    let upright = read_image(&path).expect("a picture");
    assert_eq!((upright.width, upright.height), (16, 32));
    assert!(upright.data[0] < 20 && upright.data[upright.data.len() - 1] > 235);
}

#[test]
fn what_is_no_picture_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    write_png(&at("whole.png"), &congruence(32, 32)).expect("a picture");
    let whole = fs::read(at("whole.png")).expect("the picture");
    fs::write(at("cut.png"), &whole[..whole.len() / 2]).expect("a file");
    fs::write(at("head.png"), &whole[..20]).expect("a file");
    fs::write(at("text.png"), "no picture").expect("a file");
    fs::write(at("empty.jpg"), "").expect("a file");
    fs::write(at("photo.heic"), b"\0\0\0\x18ftypheic\0\0\0\0").expect("a file");
    fs::write(at("anim.gif"), b"GIF89a\x01\0\x01\0\0\0\0;").expect("a file");
    fs::create_dir(at("folder.png")).expect("a folder");
    let bad = ["missing.png", "cut.png", "head.png", "text.png", "empty.jpg", "photo.heic", "anim.gif", "folder.png"];
    for name in bad {
        let error = read_image(&at(name)).expect_err(name);
        assert_eq!(error.kind(), Kind::Failed);
        let report = error.report();
        assert!(report.contains(name) && report.contains("because:") && report.contains("try:"), "{report}");
    }
    assert!(read_image(&at("text.png")).expect_err("text").report().contains("PNG, JPEG and WebP"));
}

/// A chunk of a PNG, with its check.
fn chunk(name: [u8; 4], data: &[u8]) -> Vec<u8> {
    let crc = name.iter().chain(data).fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
    });
    [&(data.len() as u32).to_be_bytes()[..], &name, data, &(!crc).to_be_bytes()].concat()
}

#[test]
fn a_huge_picture_is_refused_before_it_is_decoded() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("huge.png");
    for (width, height) in [(60_000_u32, 60_000_u32), (8192, 8193), (0x7FFF_FFFF, 1), (0x7FFF_FFFF, 0x7FFF_FFFF)] {
        let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
        let png = [
            b"\x89PNG\r\n\x1A\n".to_vec(),
            chunk(*b"IHDR", &header),
            chunk(*b"IDAT", &[0x78, 1]),
            chunk(*b"IEND", &[]),
        ];
        fs::write(&path, png.concat()).expect("a file");
        let report = read_image(&path).expect_err("huge").report();
        assert!(report.contains("huge.png") && !report.contains("damaged"), "{report}");
    }
}

#[test]
fn a_preview_replaces_the_last_one_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("preview.png");
    for seed in 0..2 {
        let image = Rgb { width: 20, height: 10, data: noise(20, 10, seed) };
        write_png(&path, &image).expect("a picture");
        assert_eq!(read_image(&path).expect("a picture"), image);
        assert_eq!(names(folder.path()), ["preview.png"]);
    }
    // Bytes that are no such picture: the last one stays.
    assert!(write_png(&path, &Rgb { width: 20, height: 10, data: vec![0; 5] }).is_err());
    assert_eq!(read_image(&path).expect("a picture").data, noise(20, 10, 1));
    assert_eq!(names(folder.path()), ["preview.png"]);
    let error = write_png(&folder.path().join("missing/preview.png"), &congruence(4, 4)).expect_err("no folder");
    assert_eq!(error.kind(), Kind::Usage);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn damaged_pictures_never_panic(kind in 0..3_usize, at in 0.0..1.0_f64, byte in any::<u8>(), cut in any::<bool>()) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("picture");
        let image: DynamicImage = image::RgbImage::from_raw(16, 16, noise(16, 16, 0)).expect("pixels").into();
        save(&path, &image, [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP][kind]);
        let mut bytes = fs::read(&path).expect("the picture");
        let place = (at * bytes.len() as f64) as usize;
        bytes[place] = byte;
        if cut {
            bytes.truncate(place);
        }
        fs::write(&path, bytes).expect("a file");
        if let Ok(image) = read_image(&path) {
            prop_assert_eq!(image.data.len() as u64, u64::from(image.width) * u64::from(image.height) * 3);
        }
    }

    #[test]
    fn any_size_fits_any_other(from in (1..40_u32, 1..40_u32), to in (1..40_u32, 1..40_u32)) {
        let fitted = fit(&congruence(from.0, from.1), to.0, to.1, Filter::Lanczos);
        prop_assert_eq!(fitted.data.len() as u32, to.0 * to.1 * 3);
        let flat = Rgb { width: from.0, height: from.1, data: [9, 99, 199].repeat((from.0 * from.1) as usize) };
        prop_assert!(fit(&flat, to.0, to.1, Filter::Lanczos).data.chunks_exact(3).all(|pixel| pixel == [9, 99, 199]));
    }
}
