//! Folders of PNG frames, and what every kind of film has in common.

use std::fs;
use std::path::Path;

use talkie::error::Kind;
use talkie::media::{self, Film, FilmSpec, Format, read_image};

use super::support::{names, noise, spec, write};

#[test]
fn the_ending_chooses_the_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = [
        ("film.mp4", Format::Mp4),
        ("FILM.MP4", Format::Mp4),
        ("a/b.mov", Format::Mov),
        ("film.v2.webm", Format::Webm),
        ("film.gif", Format::Gif),
        ("frames/", Format::Frames),
        ("film.mp4/", Format::Frames),
        ("frames", Format::Frames),
        ("..", Format::Frames),
    ];
    for (name, format) in table {
        assert_eq!(Format::of(Path::new(name)).expect(name), format, "{name}");
    }
    let there = folder.path().join("take.1");
    fs::create_dir(&there).expect("a folder");
    assert_eq!(Format::of(&there).expect("a folder"), Format::Frames);
    for name in ["film.avi", "film.mp3", "film.png", ""] {
        let error = Format::of(Path::new(name)).expect_err(name);
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.report().contains(".mp4"), "{}", error.report());
    }
}

#[test]
fn frames_are_exact_and_numbered() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("frames");
    // Odd sizes are no trouble here.
    let written = write(&path, &spec(33, 17, 3), |frame| noise(33, 17, frame)).expect("frames");
    assert_eq!((written.frames, written.seconds, written.codec.as_str()), (3, 0.1875, "PNG"));
    assert_eq!(names(&path), ["frame-00000.png", "frame-00001.png", "frame-00002.png", "recipe.json"]);
    assert_eq!(names(folder.path()), ["frames"]);
    for frame in 0..3 {
        let image = read_image(&path.join(format!("frame-0000{frame}.png"))).expect("a frame");
        assert_eq!((image.width, image.height), (33, 17));
        assert_eq!(image.data, noise(33, 17, frame), "frame {frame}");
    }
    let recipe = Some(spec(33, 17, 3).recipe);
    assert_eq!(media::comment(&path).expect("a recipe"), recipe);
    assert_eq!(media::comment(&path.join("frame-00001.png")).expect("a recipe"), recipe);
}

#[test]
fn an_earlier_film_is_replaced_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("frames");
    write(&path, &spec(16, 16, 5), |frame| noise(16, 16, frame)).expect("the first");
    let shorter = FilmSpec { recipe: "second".to_owned(), ..spec(16, 16, 2) };
    write(&path, &shorter, |frame| noise(16, 16, frame + 9)).expect("the second");
    assert_eq!(names(&path), ["frame-00000.png", "frame-00001.png", "recipe.json"]);
    assert_eq!(read_image(&path.join("frame-00001.png")).expect("a frame").data, noise(16, 16, 10));
    assert_eq!(media::comment(&path).expect("a recipe").as_deref(), Some("second"));
    // One that is given up leaves the earlier one as it was.
    let mut film = Film::create(&path, &spec(16, 16, 2), None).expect("a film");
    film.push(&noise(16, 16, 0)).expect("a frame");
    drop(film);
    assert_eq!(names(&path), ["frame-00000.png", "frame-00001.png", "recipe.json"]);
    assert_eq!(read_image(&path.join("frame-00001.png")).expect("a frame").data, noise(16, 16, 10));
}

#[test]
fn a_folder_with_anything_else_in_it_is_refused() {
    for name in ["notes.txt", "frame-1.png", "frame-0000x.png", "photo.png", ".hidden"] {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(name), "mine").expect("a file");
        let error = Film::create(folder.path(), &spec(16, 16, 1), None).expect_err(name);
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.report().contains(name), "{}", error.report());
        assert_eq!(names(folder.path()), [name]);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("film");
    fs::write(&file, "mine").expect("a file");
    assert_eq!(Film::create(&file, &spec(16, 16, 1), None).expect_err("a file").kind(), Kind::Usage);
    assert_eq!(fs::read(&file).expect("the file"), b"mine");
}

/// The names under which each format is tried; without FFmpeg, frames alone.
fn targets() -> &'static [&'static str] {
    if cfg!(feature = "ffmpeg") { &["film.mp4", "film.mov", "film.webm", "film.gif", "frames"] } else { &["frames"] }
}

#[test]
fn a_film_that_is_not_whole_leaves_nothing() {
    for name in targets() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        let begin = || Film::create(&path, &spec(32, 32, 3), None).expect(name);

        let mut dropped = begin();
        dropped.push(&noise(32, 32, 0)).expect("a frame");
        assert!(!path.exists(), "{name} has its name before it is whole");
        drop(dropped);
        assert_eq!(names(folder.path()), [""; 0], "{name} dropped");

        let mut short = begin();
        short.push(&noise(32, 32, 0)).expect("a frame");
        let error = short.finish().expect_err("two frames are missing");
        assert!(error.report().contains("1 frames, not 3"), "{}", error.report());
        assert_eq!(names(folder.path()), [""; 0], "{name} too short");

        let mut long = begin();
        for frame in 0..3 {
            long.push(&noise(32, 32, frame)).expect("a frame");
        }
        assert!(long.push(&noise(32, 32, 3)).is_err(), "{name} took a fourth frame of three");
        assert!(long.finish().is_err());

        let mut wrong = begin();
        let error = wrong.push(&[0; 32 * 32 * 3 - 1]).expect_err("a byte is missing");
        assert!(error.report().contains("3071 bytes"), "{}", error.report());
        assert!(wrong.finish().is_err(), "{name} was finished without the frame that failed");
        assert_eq!(names(folder.path()), [""; 0], "{name} wrong");
    }
}

#[test]
fn a_folder_that_is_missing_or_closed_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file"), "mine").expect("a file");
    for name in targets() {
        for parent in ["missing", "file"] {
            let path = folder.path().join(parent).join(name);
            let error = Film::create(&path, &spec(32, 32, 1), None).expect_err(name);
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.report().contains(parent) && error.report().contains("mkdir"), "{}", error.report());
        }
        // Not even the superuser creates a file there.
        #[cfg(target_os = "linux")]
        {
            let error = Film::create(&Path::new("/proc").join(name), &spec(32, 32, 1), None).expect_err(name);
            assert_eq!(error.kind(), Kind::Failed);
            assert!(error.report().contains("/proc") && error.report().contains("try:"), "{}", error.report());
        }
    }
    assert_eq!(names(folder.path()), ["file"]);
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for (width, height, frames) in [(0, 16, 1), (16, 0, 1), (16, u32::MAX, 1), (20_000, 16, 1), (16, 16, 0)] {
        for name in targets() {
            let error = Film::create(&folder.path().join(name), &spec(width, height, frames), None).expect_err(name);
            assert_eq!(error.kind(), Kind::Usage, "{width}x{height}, {frames}");
        }
    }
    assert_eq!(names(folder.path()), [""; 0]);
}

#[cfg(not(feature = "ffmpeg"))]
#[test]
fn without_ffmpeg_the_error_says_what_works() {
    for name in ["film.mp4", "film.mov", "film.webm", "film.gif"] {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Film::create(&folder.path().join(name), &spec(32, 32, 1), None).expect_err(name);
        assert!(error.report().contains("without FFmpeg") && error.report().contains("frames/"), "{}", error.report());
        assert_eq!(names(folder.path()), [""; 0]);
    }
    assert!(media::encoders().is_empty() && media::ffmpeg_version().is_none());
}
