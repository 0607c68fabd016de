//! Whether it fits, and what would.

use serde::{Deserialize, Serialize};

use super::{Geometry, Plan, Shape, StageMemory};
use crate::compute::device;
use crate::error::{Error, Result};
use crate::plan::human_bytes;
use crate::progress::Stage;

/// How a family estimates the memory of the stages of a plan, for a film of a shape.
pub(super) type Estimate<'a> = &'a dyn Fn(&Plan, &Shape) -> Vec<StageMemory>;

/// Bytes of the program itself, of its libraries and of what the allocator keeps.
pub const BASE: f64 = 42e6;

/// Which networks stay in their files, of which a block at a time is brought to work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// The text encoder.
    pub text: bool,
    /// The transformer.
    pub transformer: bool,
}

impl std::fmt::Display for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match (self.text, self.transformer) {
            (false, false) => "none",
            (true, false) => "text",
            (false, true) => "transformer",
            (true, true) => "text,transformer",
        })
    }
}

impl std::str::FromStr for Streams {
    type Err = Error;

    /// `none`, or some of `text` and `transformer`, separated by commas.
    fn from_str(text: &str) -> Result<Self> {
        let mut streams = Self::default();
        for part in text.split(',').map(str::trim) {
            match part {
                "none" => {}
                "text" => streams.text = true,
                "transformer" => streams.transformer = true,
                _ => return Err(Error::usage(format!("`{part}` is no network that is streamed"))),
            }
        }
        Ok(streams)
    }
}

impl Plan {
    /// Adds the memory of each stage, saves memory where a stage fits only so, and refuses what cannot fit.
    ///
    /// # Errors
    /// A film that does not fit into memory, with one that would.
    pub fn with_memory(mut self, geometry: &Geometry, estimate: Estimate<'_>) -> Result<Self> {
        let limit = self.request.memory.or_else(|| device::free(&self.device));
        self.memory = limit;
        self.stages = estimate(&self, &self.shape);
        self.parameters.insert("stream".into(), self.streams.to_string().into());
        let Some(limit) = limit else { return Ok(self) };
        let over = |plan: &Self, which: &[Stage]| {
            plan.stages.iter().any(|stage| which.contains(&stage.stage) && stage.peak() > limit)
        };
        let may_stream = !self.request.set.contains_key("stream");
        if may_stream && !self.streams.text && over(&self, &[Stage::Text]) {
            self.streams.text = true;
            self.notes.push(of_blocks("text encoder"));
        }
        if may_stream && !self.streams.transformer && over(&self, &[Stage::Denoise]) {
            self.streams.transformer = true;
            self.notes.push(of_blocks("transformer"));
        }
        let may_tile = self.tiling.is_none() && !self.request.set.contains_key("tile");
        if may_tile && over(&self, &[Stage::Image, Stage::Decode]) {
            let tiling = geometry.tiling;
            self.notes
                .push(format!("the autoencoder works in tiles of {} pixels, to fit into memory", tiling.min_height));
            self.parameters.insert("tile".into(), tiling.min_height.into());
            self.parameters.insert("tile_stride".into(), tiling.stride_height.into());
            self.tiling = Some(tiling);
        }
        self.parameters.insert("stream".into(), self.streams.to_string().into());
        self.stages = estimate(&self, &self.shape);
        let fits = |stages: &[StageMemory]| stages.iter().all(|stage| stage.peak() <= limit);
        match fits(&self.stages) {
            true => Ok(self),
            false => Err(self.refusal(limit, geometry, &|shape| fits(&estimate(&self, shape)))),
        }
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

fn of_blocks(network: &str) -> String {
    format!("the {network}'s blocks are brought one after another, to fit into memory")
}

/// Smaller films, the nearest first: fewer frames down to a second or so, then smaller sides.
fn smaller<'a>(shape: &Shape, geometry: &'a Geometry) -> impl Iterator<Item = Shape> + 'a {
    let Shape { width, height, frames, .. } = *shape;
    let unit = geometry.spatial * geometry.patch[1].max(geometry.patch[2]);
    let least = unit.max(geometry.least * geometry.spatial);
    let smaller = move |side: usize, shrink| ((side as f64 * 0.85f64.powi(shrink)) as usize / unit * unit).max(least);
    (0..12).flat_map(move |shrink| {
        let (width, height) = (smaller(width, shrink), smaller(height, shrink));
        let lengths = (0..=frames / geometry.temporal).rev().map(move |n| n * geometry.temporal + 1);
        let lengths = lengths.filter(move |&length| length <= frames && (length >= 17.min(frames) || shrink == 11));
        lengths.map(move |length| Shape::new(width, height, length, geometry))
    })
}
