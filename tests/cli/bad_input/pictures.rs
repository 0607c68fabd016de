//! Pictures that a film is to begin with.

use std::fs;

use talkie::media::{Rgb, write_png};

use super::nothing_left;
use crate::support::command::Bench;

fn picture(bench: &Bench, name: &str, width: u32, height: u32) {
    let data = (0..width * height * 3).map(|at| (at * 7 % 251) as u8).collect();
    write_png(&bench.path(name), &Rgb { width, height, data }).expect("a picture");
}

#[test]
fn a_picture_that_cannot_be_read_is_refused_before_anything_is_computed() {
    for (fixture, size) in [("wan22-ti2v-5b", "64x64"), ("wan22-i2v-a14b", "32x32")] {
        let bench = Bench::new(fixture);
        picture(&bench, "whole.png", 64, 48);
        let whole = fs::read(bench.path("whole.png")).expect("a picture");
        fs::write(bench.path("cut.png"), &whole[..whole.len() / 2]).expect("a file");
        fs::write(bench.path("header.png"), &whole[..20]).expect("a file");
        fs::write(bench.path("text.png"), "no picture").expect("a file");
        fs::write(bench.path("empty.png"), "").expect("a file");
        let mut huge = whole.clone();
        // Width and height are the first fields of the first chunk.
        huge[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        fs::write(bench.path("huge.png"), huge).expect("a file");
        let table: &[(&str, i32)] = &[
            ("cut.png", 1),
            ("header.png", 1),
            ("text.png", 1),
            ("empty.png", 1),
            ("huge.png", 1),
            ("missing.png", 2),
            ("model", 2),
        ];
        for (name, code) in table {
            let done = bench.generate(&["--image", name, "--size", size]);
            nothing_left(&bench, done.refused(*code, &[name]));
            assert_eq!(bench.runs(), [""; 0], "{done}");
        }
    }
}

#[test]
fn a_picture_of_another_size_is_scaled_and_cropped_aloud() {
    for (fixture, size) in [("wan22-ti2v-5b", "64x64"), ("wan22-i2v-a14b", "32x32")] {
        let bench = Bench::new(fixture);
        for (width, height) in [(1, 1), (640, 3), (3, 640), (100, 80)] {
            let name = format!("{width}x{height}.png");
            picture(&bench, &name, width, height);
            let done = bench.generate(&["--image", &name, "--size", size]);
            done.worked(&[&format!("{width}x{height} pixels"), "scaled and cropped", size]);
            fs::remove_dir_all(bench.path("out/film")).expect("a film");
        }
        let (width, height) = size.split_once('x').expect("a size");
        picture(&bench, "fits.png", width.parse().expect("a width"), height.parse().expect("a height"));
        let done = bench.generate(&["--image", "fits.png", "--size", size]);
        assert!(!done.worked(&[]).stderr.contains("cropped"), "{done}");
    }
}

#[test]
fn a_picture_is_given_where_one_is_read_and_nowhere_else() {
    let text = Bench::new("wan21-t2v");
    picture(&text, "a.png", 32, 32);
    let done = text.generate(&["--image", "a.png"]);
    nothing_left(&text, done.refused(2, &["text-to-video", "--image", "wan2.2-ti2v-5b"]));
    let image = Bench::new("wan22-i2v-a14b");
    nothing_left(&image, image.generate(&[]).refused(2, &["needs a first image", "--image FILE"]));
    let either = Bench::new("wan22-ti2v-5b");
    either.generate(&["--size", "64x64"]).worked(&[]);
}
