//! Memory: whether a film fits, what is done so that it fits, and a smaller film that would.

use serde::{Deserialize, Serialize};

use super::{Budget, Costs, Facts, Machine, Plan, Shape, StageMemory};
use crate::error::{Error, Result};
use crate::plan::human_bytes;
use crate::progress::Stage;

/// Bytes of the program itself, of its libraries and of what the allocator keeps.
pub const BASE: f64 = 42e6;

/// Networks streamed from disk block by block.
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
                _ => return Err(Error::usage(format!("`{part}` is not a network that can be streamed"))),
            }
        }
        Ok(streams)
    }
}

impl Plan {
    /// Adds the memory of each stage, saves memory where a stage fits only so, and refuses what cannot fit. Then chooses the
    /// stages that stay loaded within `budget`: see [`Budget`].
    ///
    /// # Errors
    /// A film that does not fit into memory, with one that would; a budget in which no stage fits.
    pub fn with_memory(
        mut self,
        (facts, machine): (&Facts, &Machine),
        budget: Budget,
        costs: &dyn Costs,
    ) -> Result<Self> {
        let limit = self.choice.memory.or_else(|| machine.free(&self.settings.device));
        self.memory = limit;
        self.stages = costs.memory(&self, &self.shape);
        if let Some(limit) = limit {
            self.save_memory(limit, facts);
            self.stages = costs.memory(&self, &self.shape);
            let fits = |stages: &[StageMemory]| stages.iter().all(|stage| stage.peak() <= limit);
            if !fits(&self.stages) {
                return Err(self.refusal(limit, facts, &|shape| fits(&costs.memory(&self, shape))));
            }
        }
        // Before it is known what stays loaded: that changes no film, and so no recipe.
        self.parameters.insert("stream".into(), self.settings.streams.to_string().into());
        self.keeping(budget, costs)
    }

    /// Streams networks and tiles the autoencoder where a stage would take more than `limit`, unless the user says otherwise.
    fn save_memory(&mut self, limit: u64, facts: &Facts) {
        let over = |plan: &Self, which: &[Stage]| {
            plan.stages.iter().any(|stage| which.contains(&stage.stage) && stage.peak() > limit)
        };
        let may_stream = !self.request.set.contains_key("stream");
        if may_stream && !self.settings.streams.text && over(self, &[Stage::Text]) {
            self.settings.streams.text = true;
            self.notes.push(of_blocks("text encoder"));
        }
        if may_stream && !self.settings.streams.transformer && over(self, &[Stage::Denoise]) {
            self.settings.streams.transformer = true;
            self.notes.push(of_blocks("transformer"));
        }
        let may_tile = self.settings.tiling.is_none() && !self.request.set.contains_key("tile");
        if may_tile && over(self, &[Stage::Image, Stage::Decode]) {
            let tiling = facts.tiling;
            self.notes
                .push(format!("the autoencoder works in tiles of {} pixels, to fit into memory", tiling.min_height));
            self.parameters.insert("tile".into(), tiling.min_height.into());
            self.parameters.insert("tile_stride".into(), tiling.stride_height.into());
            self.settings.tiling = Some(tiling);
        }
    }

    fn refusal(&self, limit: u64, facts: &Facts, fits: &dyn Fn(&Shape) -> bool) -> Error {
        let worst = self.stages.iter().max_by_key(|stage| stage.peak());
        let need = worst.map_or(0, StageMemory::peak);
        let stage = worst.map_or_else(String::new, |worst| format!(" ({})", worst.stage.name()));
        let error = Error::failed(format!(
            "this film needs {} of memory at its peak{stage}, and {} may be used",
            human_bytes(need),
            human_bytes(limit)
        ));
        match smaller(&self.shape, facts).find(fits) {
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
fn smaller<'a>(shape: &Shape, facts: &'a Facts) -> impl Iterator<Item = Shape> + 'a {
    let Shape { width, height, frames, .. } = *shape;
    let unit = facts.spatial * facts.patch[1].max(facts.patch[2]);
    let least = unit.max(facts.least * facts.spatial);
    let smaller = move |side: usize, shrink| ((side as f64 * 0.85f64.powi(shrink)) as usize / unit * unit).max(least);
    (0..12).flat_map(move |shrink| {
        let (width, height) = (smaller(width, shrink), smaller(height, shrink));
        let lengths = (0..=frames / facts.temporal).rev().map(move |n| n * facts.temporal + 1);
        let lengths = lengths.filter(move |&length| length <= frames && (length >= 17.min(frames) || shrink == 11));
        lengths.map(move |length| Shape::new(width, height, length, facts))
    })
}
