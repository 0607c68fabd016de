//! The plan as a page of text.

use std::fmt::{Display, Formatter, Result};

use super::{Plan, Step};
use crate::progress::Stage;

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let shape = &self.shape;
        writeln!(f, "model     {}", self.model)?;
        writeln!(f, "          {}", self.folder.display())?;
        writeln!(f, "prompt    {}", one_line(&self.prompt))?;
        match &self.negative {
            Some(negative) if negative.trim().is_empty() => writeln!(f, "negative  (empty)")?,
            Some(negative) => writeln!(f, "negative  {}", one_line(negative))?,
            None => writeln!(f, "negative  not used: no guidance")?,
        }
        writeln!(
            f,
            "film      {}x{}, {} frames at {} fps: {:.2} s",
            shape.width,
            shape.height,
            shape.frames,
            self.settings.fps,
            self.seconds()
        )?;
        if let Some(output) = &self.request.output {
            writeln!(f, "          {}", output.display())?;
        }
        if let Some(sheet) = &self.request.contact_sheet {
            writeln!(f, "sheet     {}", sheet.display())?;
        }
        for (condition, becomes) in self.request.conditions.iter().zip(&self.conditions) {
            writeln!(f, "image     {}: {becomes}", condition.file().display())?;
        }
        let [_, channels, frames, height, width] = shape.latents;
        writeln!(f, "latents   {channels} channels, {frames}x{height}x{width}: {} tokens", shape.tokens)?;
        if let Some(sound) = &self.settings.sound {
            let heard = match sound.heard {
                _ if self.request.no_sound => "left out of the film".to_owned(),
                None => "no vocoder, not decoded".to_owned(),
                Some(heard) => format!("{} Hz, {}", heard.rate, if heard.channels == 1 { "mono" } else { "stereo" }),
            };
            writeln!(f, "sound     {} latents of {} values: {heard}", sound.latents[1], sound.latents[2])?;
        }
        writeln!(f, "seed      {}", self.seed)?;
        self.sampling(f)?;
        self.files(f)?;
        self.memory(f)?;
        for note in &self.notes {
            writeln!(f, "note      {note}")?;
        }
        Ok(())
    }
}

impl Plan {
    fn sampling(&self, f: &mut Formatter<'_>) -> Result {
        if let Some(preset) = &self.preset {
            writeln!(f, "preset    {preset}")?;
        }
        writeln!(
            f,
            "sampler   {}, {} steps, on {} in {}",
            self.sampling.sampler,
            self.step_count(),
            self.settings.device,
            self.settings.dtype
        )?;
        let switch = self.steps().position(|(_, step)| step.expert == 1);
        if let Some(switch) = switch {
            writeln!(f, "experts   the first for {switch} steps, the second for {}", self.step_count() - switch)?;
        }
        if let [first, last] = self.phases.as_slice() {
            let (steps, more) = (first.steps.len(), last.steps.len());
            let (width, height) = (first.shape.width, first.shape.height);
            writeln!(f, "stages    {steps} steps at {width}x{height}, then {more} at the whole size")?;
        }
        let list = |value: fn(&Step) -> f64| {
            self.steps().map(|(_, step)| format!("{:.4}", value(step))).collect::<Vec<_>>().join(" ")
        };
        writeln!(f, "sigmas    {} 0.0000", list(|step| step.sigma))?;
        writeln!(f, "timesteps {}", list(|step| step.timestep))?;
        if let Some(guidance) = self.parameters.get("guidance") {
            writeln!(f, "guidance  {guidance}")?;
        }
        writeln!(f, "shift     {}", self.flow_shift)?;
        writeln!(f, "set       what `--set KEY=VALUE` changes")?;
        let shown = ["sigmas", "guidance", "flow_shift"];
        for (key, value) in self.parameters.iter().filter(|(key, _)| !shown.contains(&key.as_str())) {
            writeln!(f, "  {key} = {value}")?;
        }
        Ok(())
    }

    fn files(&self, f: &mut Formatter<'_>) -> Result {
        if self.files.is_empty() {
            return Ok(());
        }
        let sum =
            |present| self.files.iter().filter(|file| file.present == present).filter_map(|file| file.bytes).sum();
        let unknown = self.files.iter().any(|file| !file.present && file.bytes.is_none());
        let more = if unknown { " plus files of unknown size" } else { "" };
        writeln!(f, "files     {} here, {} to fetch{more}", human_bytes(sum(true)), human_bytes(sum(false)))?;
        for file in &self.files {
            let state = if file.present { "here" } else { "to fetch" };
            let size = file.bytes.map_or_else(|| "?".to_owned(), human_bytes);
            writeln!(f, "  {size:>9}  {state:<8}  {:<13}  {}", file.component, file.path.display())?;
        }
        Ok(())
    }

    fn memory(&self, f: &mut Formatter<'_>) -> Result {
        if self.stages.is_empty() {
            return Ok(());
        }
        let limit = self.memory.map_or_else(String::new, |limit| format!(" of {}", human_bytes(limit)));
        let peak = self.stages.iter().map(super::StageMemory::peak).max().unwrap_or(0);
        writeln!(f, "memory    about {} at the peak{limit}", human_bytes(peak))?;
        for stage in &self.stages {
            let (weights, scratch) = (human_bytes(stage.weights), human_bytes(stage.scratch));
            writeln!(
                f,
                "  {:>9}  {:<8}  {weights} weights + {scratch} scratch",
                human_bytes(stage.peak()),
                stage.stage.name()
            )?;
        }
        if !self.keeps.is_empty() {
            let names: Vec<&str> = self.keeps.iter().copied().map(Stage::name).collect();
            writeln!(f, "keeps     {} loaded for the next film", names.join(", "))?;
        }
        Ok(())
    }
}

/// A text without line breaks, as the text encoder reads it.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Bytes as a person reads them, in powers of ten: `5.7 GB`.
pub fn human_bytes(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 99.95);
    format!("{value:.digits$} {}", units[unit])
}
