//! Frames against those of the reference.

use std::path::Path;

use candle_core::Tensor;

/// Every 8-bit value within so many levels, and the share of those within one.
const LEVELS: i32 = 2;
const WITHIN_ONE: f64 = 0.999;

/// Whether the PNG files of a folder are the frames (T, H, W, 3) of the reference, which has every `stride`-th row and column.
pub fn same_frames(folder: &Path, stride: usize, expected: &Tensor, name: &str) {
    let expected: Vec<Vec<u8>> = expected.flatten_from(1).unwrap().to_vec2().unwrap();
    let files = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "png"));
    assert_eq!(files.count(), expected.len(), "{name}: number of frames");
    let (mut all, mut near) = (0usize, 0usize);
    for (index, expected) in expected.iter().enumerate() {
        let image = image::open(folder.join(format!("frame-{index:05}.png"))).unwrap().into_rgb8();
        let kept = |side: u32| (0..side).step_by(stride);
        let frame: Vec<u8> = kept(image.height())
            .flat_map(|y| kept(image.width()).flat_map(move |x| [x, y]).collect::<Vec<_>>())
            .collect::<Vec<u32>>()
            .chunks_exact(2)
            .flat_map(|at| image.get_pixel(at[0], at[1]).0)
            .collect();
        assert_eq!(frame.len(), expected.len(), "{name}: size of frame {index}");
        for (made, expected) in frame.iter().zip(expected) {
            let difference = (i32::from(*made) - i32::from(*expected)).abs();
            assert!(difference <= LEVELS, "{name}: frame {index} differs by {difference} levels");
            all += 1;
            near += usize::from(difference <= 1);
        }
    }
    let share = near as f64 / all as f64;
    assert!(share >= WITHIN_ONE, "{name}: only {share} of the values are within one level");
}
