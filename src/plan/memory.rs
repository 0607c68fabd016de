//! Whether it fits, and what would.

use super::{Geometry, Plan, Shape, StageMemory};
use crate::error::{Error, Result};
use crate::plan::human_bytes;
use crate::vae::Tiling;

/// How a family estimates the memory of its stages for a film of a shape.
pub(super) type Estimate<'a> = &'a dyn Fn(&Shape, Option<Tiling>) -> Vec<StageMemory>;

impl Plan {
    /// Adds the memory of each stage, turns tiles on where the decode fits only so, and refuses what cannot fit.
    ///
    /// # Errors
    /// A film that does not fit into memory, with one that would.
    pub fn with_memory(mut self, geometry: &Geometry, estimate: Estimate<'_>) -> Result<Self> {
        let limit = self.request.memory.or_else(|| if self.device == "cpu" { free() } else { None });
        self.memory = limit;
        self.stages = estimate(&self.shape, self.tiling);
        let Some(limit) = limit else { return Ok(self) };
        let fits = |stages: &[StageMemory]| stages.iter().all(|stage| stage.peak() <= limit);
        if fits(&self.stages) {
            return Ok(self);
        }
        let tiling = geometry.tiling;
        let may_tile = self.tiling.is_none() && !self.request.set.contains_key("tile");
        if may_tile {
            let stages = estimate(&self.shape, Some(tiling));
            if fits(&stages) {
                self.notes.push(format!(
                    "the autoencoder works in tiles of {} pixels, to fit into memory",
                    tiling.min_height
                ));
                self.parameters.insert("tile".into(), tiling.min_height.into());
                self.parameters.insert("tile_stride".into(), tiling.stride_height.into());
                (self.tiling, self.stages) = (Some(tiling), stages);
                return Ok(self);
            }
        }
        let tiling = if may_tile { Some(tiling) } else { self.tiling };
        Err(self.refusal(limit, geometry, &|shape| fits(&estimate(shape, tiling))))
    }

    fn refusal(&self, limit: u64, geometry: &Geometry, fits: &dyn Fn(&Shape) -> bool) -> Error {
        let worst = self.stages.iter().max_by_key(|stage| stage.peak());
        let need = worst.map_or(0, StageMemory::peak);
        let stage = worst.map_or_else(String::new, |worst| format!(" ({})", worst.stage.name()));
        let error = Error::failed(format!(
            "this film needs {} of memory at its peak{stage}, and {} may be used",
            human_bytes(need),
            human_bytes(limit)
        ));
        match smaller(&self.shape, geometry).find(fits) {
            Some(shape) => error.hint(format!(
                "`--size {}x{} --frames {}` would fit; `--memory` says how much may be used",
                shape.width, shape.height, shape.frames
            )),
            None => error.hint("no film of this model fits: use a smaller model, such as `-m wan2.1-t2v-1.3b`, or a machine with more memory"),
        }
    }
}

/// Smaller films, the nearest first: fewer frames down to a second or so, then smaller sides.
fn smaller<'a>(shape: &Shape, geometry: &'a Geometry) -> impl Iterator<Item = Shape> + 'a {
    let Shape { width, height, frames, .. } = *shape;
    let unit = geometry.spatial * geometry.patch[1].max(geometry.patch[2]);
    let smaller = move |side: usize, shrink| ((side as f64 * 0.85f64.powi(shrink)) as usize / unit * unit).max(unit);
    (0..12).flat_map(move |shrink| {
        let (width, height) = (smaller(width, shrink), smaller(height, shrink));
        let lengths = (0..=frames / geometry.temporal).rev().map(move |n| n * geometry.temporal + 1);
        let lengths = lengths.filter(move |&length| length <= frames && (length >= 17.min(frames) || shrink == 11));
        lengths.map(move |length| Shape::new(width, height, length, geometry))
    })
}

/// Memory that this machine could give, in bytes. Unknown where the system does not say.
pub fn free() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}
