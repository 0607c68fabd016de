//! `talkie doctor`: devices, features, FFmpeg, cache: what works here and what does not.

use std::error::Error as _;

use serde_json::{Value, json};
use talkie::compute::device;
use talkie::error::{Error, Result};
use talkie::model::bundled;
use talkie::model::catalogue::IN_THE_BOX;
use talkie::pipeline::run;
use talkie::plan::human_bytes;
use talkie::{files, media};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The same as JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let report = report();
    if args.json {
        let json = serde_json::to_string_pretty(&report);
        return super::print(&json.map_err(|cause| Error::failed("packing the report").because(cause))?);
    }
    for (key, value) in report.as_object().into_iter().flatten() {
        let lines: Vec<String> = match value {
            Value::Array(items) if items.is_empty() => vec!["none".into()],
            Value::Array(items) => items.iter().map(plain).collect(),
            value => vec![plain(value)],
        };
        for (index, line) in lines.iter().enumerate() {
            super::print(&format!("{:<12} {line}", if index == 0 { key.as_str() } else { "" }))?;
        }
    }
    Ok(())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn report() -> Value {
    let devices: Vec<String> = ["cpu", "cuda", "metal"].map(works).to_vec();
    let features = [
        ("ffmpeg", cfg!(feature = "ffmpeg")),
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
        ("flash-attn", cfg!(feature = "flash-attn")),
        ("metal", cfg!(feature = "metal")),
        ("accelerate", cfg!(feature = "accelerate")),
    ];
    let built =
        |with: bool| features.iter().filter(|(_, on)| *on == with).map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
    let encoders: Vec<String> = media::encoders()
        .iter()
        .map(|encoder| format!("{} ({}) for {}", encoder.name, encoder.codec, encoder.endings.join(" ")))
        .collect();
    let ffmpeg = media::ffmpeg_version().unwrap_or_else(|| "not built in: films are written as PNG frames".into());
    json!({
        "talkie": env!("CARGO_PKG_VERSION"),
        "built with": built(true),
        "without": built(false),
        "devices": devices,
        "threads": std::thread::available_parallelism().map_or(1, usize::from),
        "memory": device::free("cpu").map_or_else(|| "unknown".into(), |free| format!("{} free", human_bytes(free))),
        "ffmpeg": ffmpeg,
        "encoders": encoders,
        "in the box": super::found(bundled::find(IN_THE_BOX)),
        "weights": super::found(talkie::hub::HubConfig::from_env().map(|config| config.cache)),
        "runs": super::found(files::home().map(|home| home.join("runs"))),
        "unfinished": files::home().map(|home| run::unfinished(&home)).unwrap_or_default(),
    })
}

fn works(name: &str) -> String {
    match device::open(name) {
        Ok(_) => format!("{name}: works"),
        Err(error) => {
            let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
            format!("{name}: {}{cause}", super::advised(&error))
        }
    }
}
