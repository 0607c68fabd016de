//! What a family says of the cost of its stages: memory and operations, from shapes alone.

use super::{Plan, Shape, StageMemory};
use crate::progress::Stage;

/// The costs of a model's stages, from shapes alone.
pub trait Costs: Send + Sync {
    /// The memory of each stage of a plan, for a film of a shape.
    fn memory(&self, plan: &Plan, shape: &Shape) -> Vec<StageMemory>;

    /// Bytes of the weights that each stage would keep loaded, in the order of the stages; none that has none.
    fn weights(&self) -> Vec<(Stage, u64)>;

    /// The floating-point operations of a part of a plan: see [`crate::compute::flops`] for what counts.
    fn flops(&self, plan: &Plan, work: Workload<'_>) -> f64;

    /// Rows of text that the transformer attends to, of a prompt of `tokens` tokens.
    fn text_rows(&self, plan: &Plan, tokens: usize) -> usize {
        let _ = tokens;
        plan.settings.text_length
    }
}

/// A part of a run whose operations are counted.
#[derive(Debug, Clone, Copy)]
pub enum Workload<'a> {
    /// Reading prompts, by the tokens of each.
    Text(&'a [usize]),
    /// A forward pass of the transformer.
    Forward {
        /// The shape that it works on.
        shape: &'a Shape,
        /// Which pass.
        pass: Pass,
        /// Tokens of the prompt.
        text_tokens: usize,
    },
    /// Making the frames of latents.
    Decode(&'a Shape),
}

/// Which forward pass of a transformer to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Full.
    Full,
    /// STG: the listed blocks skip self-attention (spatio-temporal guidance, Hyung et al. 2024).
    Perturbed,
    /// Video and audio do not attend to each other.
    Isolated,
}
