//! `talkie models`: what can be run.

use talkie::catalogue::{self, Entry};
use talkie::error::Result;
use talkie::generate::Pipeline;
use talkie::model::Source;
use talkie::plan::human_bytes;
use talkie::request::Request;

use super::show::Show;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List the models that can be run by name
    List,
    /// Show what is known of a model
    Show {
        /// Its name or repository
        name: String,
    },
    /// Fetch a model's files, or those that are missing
    Pull {
        /// Its name, or a hub repository `org/name`
        name: String,
    },
}

pub(super) fn run(args: &Args) -> Result<()> {
    match &args.what {
        None | Some(What::List) => list(),
        Some(What::Show { name }) => show(&catalogue::find(name)?),
        Some(What::Pull { name }) => pull(name),
    }
}

fn list() -> Result<()> {
    super::print(&format!("{:<18} {:>10}  {:<11} {:<10} {}", "NAME", "PARAMETERS", "FROM", "LICENCE", "WHAT"))?;
    for entry in catalogue::entries()? {
        let billions = transformers(&entry) as f64 / 1e9;
        let from = entry.tasks.iter().map(|task| task.words()).collect::<Vec<_>>().join(", ");
        let (name, licence, title) = (&entry.name, &entry.licence.name, &entry.title);
        super::print(&format!("{name:<18} {billions:>9.1}B  {from:<11} {licence:<10} {title}"))?;
    }
    super::say("`talkie models show NAME` tells more; `talkie generate \"…\" -m NAME --plan` what a film would cost");
    Ok(())
}

fn show(entry: &Entry) -> Result<()> {
    let sampling = &entry.sampling;
    let second = sampling.guidance_2.map_or_else(String::new, |second| format!(" and {second}"));
    let sizes = entry.geometry.sizes.iter().map(|(w, h)| format!("{w}x{h}")).collect::<Vec<_>>().join(", ");
    let lines = [
        ("name", entry.name.clone()),
        ("title", entry.title.clone()),
        ("repository", format!("{} ({})", entry.repo, entry.revision)),
        ("licence", format!("{}, {}", entry.licence.name, entry.licence.url)),
        ("transformer", format!("{:.2}B parameters", transformers(entry) as f64 / 1e9)),
        ("text encoder", format!("{:.2}B parameters", entry.parameters.text_encoder as f64 / 1e9)),
        ("autoencoder", format!("{:.0}M parameters", entry.parameters.vae as f64 / 1e6)),
        ("sizes", sizes),
        ("film", format!("{} frames at {} fps", entry.geometry.frames, entry.geometry.fps)),
        (
            "sampling",
            format!(
                "{} steps, guidance {}{second}, flow shift {}",
                sampling.steps, sampling.guidance, sampling.flow_shift
            ),
        ),
        ("negative", sampling.negative_prompt.clone()),
        ("checked", entry.checked.clone()),
    ];
    lines.iter().try_for_each(|(key, value)| super::print(&format!("{key:<13} {value}")))?;
    entry.notes.iter().try_for_each(|note| super::print(&format!("{:<13} {note}", "note")))
}

fn pull(name: &str) -> Result<()> {
    let mut show = Show::new(false, None)?;
    let mut on_event = |event: &talkie::progress::Event| show.event(event);
    let request = Request { model: Some(name.to_owned()), ..Request::default() };
    Pipeline::open(&request, &mut on_event)?;
    let (model, _) = Source::find(name)?.look()?;
    let bytes = model.components.iter().map(talkie::model::Component::bytes).sum();
    show.clear();
    super::say(&format!("{name} is here: {} of weights", human_bytes(bytes)));
    super::print(&model.folder.display().to_string())
}

fn transformers(entry: &Entry) -> u64 {
    entry.parameters.transformer + entry.parameters.transformer_2.unwrap_or(0)
}
