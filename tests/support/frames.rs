//! Frames against those of the reference.

use std::path::Path;

use candle_core::Tensor;

/// How far 8-bit values may be from the reference's.
#[derive(Clone, Copy)]
pub struct Near {
    /// No value is further than so many levels.
    pub levels: i32,
    /// At most this share of the values is another level at all.
    pub differing: f64,
    /// The reference has every so many rows and columns.
    pub stride: usize,
}

/// Whether the PNG files of a folder are the frames (T, H, W, 3) of the reference.
pub fn same_frames(folder: &Path, near: Near, expected: &Tensor, name: &str) {
    let expected: Vec<Vec<u8>> = expected.flatten_from(1).unwrap().to_vec2().unwrap();
    let files = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "png"));
    assert_eq!(files.count(), expected.len(), "{name}: number of frames");
    let (mut all, mut differing, mut most) = (0usize, 0usize, 0);
    for (index, expected) in expected.iter().enumerate() {
        let image = image::open(folder.join(format!("frame-{index:05}.png"))).unwrap().into_rgb8();
        let kept = |side: u32| (0..side).step_by(near.stride);
        let frame: Vec<u8> = kept(image.height())
            .flat_map(|y| kept(image.width()).flat_map(move |x| [x, y]).collect::<Vec<_>>())
            .collect::<Vec<u32>>()
            .chunks_exact(2)
            .flat_map(|at| image.get_pixel(at[0], at[1]).0)
            .collect();
        assert_eq!(frame.len(), expected.len(), "{name}: size of frame {index}");
        for (made, expected) in frame.iter().zip(expected) {
            let difference = (i32::from(*made) - i32::from(*expected)).abs();
            all += 1;
            differing += usize::from(difference > 0);
            most = most.max(difference);
        }
    }
    let share = differing as f64 / all as f64;
    println!("parity {name} frames: at most {most} levels, {share:.1e} of {all} values differ");
    assert!(most <= near.levels, "{name}: a value differs by {most} levels");
    assert!(share <= near.differing, "{name}: {share:e} of the values differ");
}
