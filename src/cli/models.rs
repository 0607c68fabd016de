//! `talkie models`: what can be run.

use talkie::catalogue::{self, AvSampling, Entry};
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

/// Parts besides the transformer and the text encoder, in words and by their names in the folder.
const PARTS: [(&str, &str); 5] = [
    ("connectors", "connectors"),
    ("autoencoder", "vae"),
    ("audio vae", "audio_vae"),
    ("vocoder", "vocoder"),
    ("upsampler", "latent_upsampler"),
];

pub(super) fn run(args: &Args) -> Result<()> {
    match &args.what {
        None | Some(What::List) => list(),
        Some(What::Show { name }) => show(&catalogue::find(name)?),
        Some(What::Pull { name }) => pull(name),
    }
}

fn list() -> Result<()> {
    super::print(&format!("{:<18} {:>10}  {:<11} {:<26} {}", "NAME", "PARAMETERS", "FROM", "LICENCE", "WHAT"))?;
    for entry in catalogue::entries()? {
        let billions = transformers(&entry) as f64 / 1e9;
        let from = entry.tasks.iter().map(|task| task.words()).collect::<Vec<_>>().join(", ");
        let (name, licence, title) = (&entry.name, &entry.licence.name, &entry.title);
        super::print(&format!("{name:<18} {billions:>9.1}B  {from:<11} {licence:<26} {title}"))?;
    }
    super::say("`talkie models show NAME` tells more; `talkie generate \"…\" -m NAME --plan` what a film would cost");
    Ok(())
}

fn show(entry: &Entry) -> Result<()> {
    let sampling = &entry.sampling;
    let second = sampling.guidance_2.map_or_else(String::new, |second| format!(" and {second}"));
    let schedule = match (sampling.sigmas.is_empty(), sampling.refine_sigmas.len()) {
        (true, _) if sampling.av.is_some() => "flow shift by the film's size".to_owned(),
        (true, _) => format!("flow shift {}", sampling.flow_shift),
        (false, more) => format!("sigmas of its own, {more} more steps in a second stage"),
    };
    let sizes = entry.geometry.sizes.iter().map(|(w, h)| format!("{w}x{h}")).collect::<Vec<_>>().join(", ");
    let mut lines = vec![
        ("name", entry.name.clone()),
        ("title", entry.title.clone()),
        ("repository", format!("{} ({})", entry.repo, entry.revision)),
        ("licence", format!("{}, {}", entry.licence.name, entry.licence.url)),
    ];
    lines.extend(entry.licence.terms.iter().map(|terms| ("terms", terms.clone())));
    lines.push(("transformer", format!("{:.2}B parameters", transformers(entry) as f64 / 1e9)));
    lines.push(("text encoder", format!("{:.2}B parameters", entry.parameters.text_encoder as f64 / 1e9)));
    for (name, part) in PARTS {
        let parameters = entry.parameters.of(part) as f64 / 1e6;
        if parameters > 0.0 {
            lines.push((name, format!("{parameters:.0}M parameters{}", elsewhere(entry, part))));
        }
    }
    lines.extend([
        ("sizes", sizes),
        ("film", format!("{} frames at {} fps", entry.geometry.frames, entry.geometry.fps)),
        ("sampling", format!("{} steps, guidance {}{second}, {schedule}", sampling.steps, sampling.guidance)),
    ]);
    lines.extend(sampling.av.as_ref().map(|av| ("sound", sound(av))));
    lines.push(("negative", sampling.negative_prompt.clone()));
    lines.push(("checked", entry.checked.clone()));
    lines.iter().try_for_each(|(key, value)| super::print(&format!("{key:<13} {value}")))?;
    entry.notes.iter().try_for_each(|note| super::print(&format!("{:<13} {note}", "note")))
}

/// Where a part is, if not in the model's repository.
fn elsewhere(entry: &Entry, part: &str) -> String {
    let repo = entry.components.get(part).and_then(|described| described.repo.as_ref());
    repo.filter(|repo| **repo != entry.repo).map_or_else(String::new, |repo| format!(", from {repo}"))
}

/// How pictures and sound are guided besides by the prompt.
fn sound(av: &AvSampling) -> String {
    let blocks = av.stg_blocks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "guidance {}; for pictures and sound, STG {} at block {blocks}, modality {}, rescale {}",
        av.audio_guidance, av.stg_scale, av.modality_scale, av.rescale
    )
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
