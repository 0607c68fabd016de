//! Whether a run that goes on finds the files of its request as they were when it began.

use super::{CONDITIONING, LATENTS, Run, STATE};
use crate::error::{Error, Result};
use crate::plan::{Input, Plan, Role};

impl Run {
    /// What to say of files of the request that have changed since the run began. Those that it has read for the last time may
    /// change: a picture whose latents are kept, a noise after the first step, all of them once only the decode is left.
    ///
    /// # Errors
    /// A file that is gone, while steps are left to do: the recipe names it by its content.
    pub fn check_inputs(&self, plan: &Plan) -> Result<Vec<String>> {
        let keeps = |name: &str| self.folder.join(name).is_file();
        if keeps(LATENTS) {
            return Ok(Vec::new());
        }
        if let Some(gone) = plan.inputs.iter().find(|input| input.is_gone()) {
            let what = format!("the {} of the run is gone: {}", gone.role.name(), gone.path.display());
            return Err(Error::failed(what)
                .hint("put the file back where it was, or start again with `talkie generate` and another"));
        }
        let reads = |role| match role {
            Role::Lora => true,
            Role::Image => !keeps(CONDITIONING),
            Role::Noise => !keeps(STATE),
        };
        let changed = plan.inputs.iter().filter(|input| reads(input.role) && input.has_changed());
        let note = |input: &Input| {
            format!(
                "the {} was written again since the run began, so the film may not be what it was to be: {}",
                input.role.name(),
                input.path.display()
            )
        };
        Ok(changed.map(note).collect())
    }
}
