//! `talkie quantize`: weights in fewer bits.

use std::path::{Path, PathBuf};

use talkie::error::{Error, Result};
use talkie::files;
use talkie::model::{Component, Source};
use talkie::progress::{Event, Progress};
use talkie::tools::quantize::{Made, Target, quantize};

use super::show::Show;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A name from `talkie models`, a hub repository, a folder, or a file with one network
    model: String,
    /// q8_0, q6_k, q5_k or q4_k for a GGUF file, fp8 for safetensors with scaled e4m3
    #[arg(long, value_name = "TYPE", value_parser = super::typed::<Target>)]
    to: Target,
    /// The file to write: .gguf, or .safetensors for fp8
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Which network of the model: transformer, transformer_2 or text_encoder
    #[arg(long, default_value = "transformer")]
    part: String,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let part = part(args)?;
    let (mut packed, mut worst, mut kept) = (0, 0f64, 0);
    let mut result = Ok(());
    quantize(&part, args.to, &args.output, &mut |made: &Made| {
        if made.error > 0.0 {
            packed += 1;
            worst = worst.max(made.error);
            let line = format!("{:<52} {:<8} {:.2e}", made.name, made.kind.to_string(), made.error);
            result = std::mem::replace(&mut result, Ok(())).and_then(|()| super::print(&line));
        } else {
            kept += 1;
        }
    })?;
    result?;
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    super::say(&format!(
        "{packed} matrices packed, the worst with a relative error of {worst:.2e}; {kept} tensors kept as they are; {:.1} MB, \
         from {:.1}",
        size(&args.output) as f64 / 1e6,
        part.bytes() as f64 / 1e6
    ));
    super::print(&args.output.display().to_string())
}

fn part(args: &Args) -> Result<Component> {
    let path = Path::new(&args.model);
    let alone = if path.is_file() { Component::of_file(path, &args.part)? } else { None };
    if let Some(part) = alone {
        return Ok(part);
    }
    let mut show = Show::new(false, None)?;
    let mut sink = |event: &Event| show.event(event);
    let model = Source::find(&args.model)?.fetch(files::home().ok().as_deref(), &mut Progress::new(&mut sink))?;
    model.find(&args.part).cloned().ok_or_else(|| {
        let parts: Vec<&str> =
            model.components.iter().filter(|part| !part.files.is_empty()).map(|part| part.name.as_str()).collect();
        Error::usage(format!("the model has no `{}`", args.part)).hint(format!("it has {}", parts.join(", ")))
    })
}
