//! The stages of a session that stay loaded from film to film.

use super::{Costs, Plan, Streams, human_bytes};
use crate::error::{Error, Result};
use crate::progress::Stage;

/// How many bytes of weights a session keeps loaded from film to film.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Budget {
    /// None: each stage loads its own weights and drops them.
    #[default]
    Nothing,
    /// At most as many bytes.
    Bytes(u64),
    /// All weights that fit into memory beside the stage at work.
    All,
}

impl Plan {
    /// Chooses the stages that stay loaded, the largest first: those that fit into the budget together, and into memory beside
    /// each stage at work.
    ///
    /// # Errors
    /// A budget in bytes that is too small for any stage.
    pub(super) fn keeping(mut self, budget: Budget, costs: &dyn Costs) -> Result<Self> {
        let most = match budget {
            Budget::Nothing => return Ok(self),
            Budget::Bytes(bytes) => bytes,
            Budget::All => u64::MAX,
        };
        let weights = costs.weights();
        check_budget(budget, &weights)?;
        let mut largest_first = weights.clone();
        largest_first.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        for (stage, _) in largest_first {
            let mut longer = self.clone();
            longer.keeps.push(stage);
            // What stays loaded is not streamed. Only where the user asks for that it is, and not kept.
            longer.settings.streams = without(self.settings.streams, stage);
            let asked = longer.settings.streams != self.settings.streams && self.request.set.contains_key("stream");
            longer.stages = costs.memory(&longer, &longer.shape);
            let kept = longer.kept_bytes(&weights);
            if !asked && kept <= most && longer.peak_with(&weights) <= self.memory.unwrap_or(u64::MAX) {
                self = longer;
            }
        }
        self.keeps.sort_by_key(|stage| weights.iter().position(|(other, _)| other == stage));
        Ok(self)
    }

    /// Bytes of the weights that stay loaded.
    pub fn kept_bytes(&self, weights: &[(Stage, u64)]) -> u64 {
        weights.iter().filter(|(stage, _)| self.keeps.contains(stage)).map(|(_, bytes)| bytes).sum()
    }

    /// Bytes at the peak: of a stage at work, beside the weights of other stages that stay loaded.
    pub fn peak_with(&self, weights: &[(Stage, u64)]) -> u64 {
        let kept = self.kept_bytes(weights);
        let own = |stage: Stage| weights.iter().find(|(other, _)| *other == stage).map_or(0, |(_, bytes)| *bytes);
        let peak = |memory: &super::StageMemory| match self.keeps.contains(&memory.stage) {
            true => memory.peak().max(memory.scratch.saturating_add(own(memory.stage))) + (kept - own(memory.stage)),
            false => memory.peak().saturating_add(kept),
        };
        self.stages.iter().map(peak).max().unwrap_or(0)
    }
}

/// The networks that are still streamed when a stage stays loaded.
fn without(streams: Streams, stage: Stage) -> Streams {
    match stage {
        Stage::Text => Streams { text: false, ..streams },
        Stage::Denoise => Streams { transformer: false, ..streams },
        _ => streams,
    }
}

/// Refuses a budget that is too small for any stage: such a session would keep nothing, in silence.
///
/// # Errors
/// The smallest stage, and what all take.
pub(crate) fn check_budget(budget: Budget, weights: &[(Stage, u64)]) -> Result<()> {
    let (Budget::Bytes(most), Some((stage, least))) = (budget, weights.iter().min_by_key(|(_, bytes)| *bytes)) else {
        return Ok(());
    };
    if most >= *least {
        return Ok(());
    }
    let all: u64 = weights.iter().map(|(_, bytes)| bytes).sum();
    Err(Error::usage(format!(
        "a budget of {} keeps no stage loaded: the smallest, {}, has {} of weights",
        human_bytes(most),
        stage.name(),
        human_bytes(*least)
    ))
    .hint(format!("give at least {}; all stages take {}; or keep nothing", human_bytes(*least), human_bytes(all))))
}
