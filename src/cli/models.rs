//! `talkie models`: what can be run.

use talkie::error::Result;
use talkie::model::catalogue::{self, AvSampling, Entry, FewSteps, Place};
use talkie::model::{Source, bundled};
use talkie::plan::human_bytes;
use talkie::{Budget, ModelChoice, Session};

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
        let from = entry.tasks.iter().map(|task| task.label()).collect::<Vec<_>>().join(", ");
        let (name, licence, title) = (&entry.name, &entry.licence.name, &entry.title);
        let count = count(transformers(&entry), 1);
        super::print(&format!("{name:<18} {count:>10}  {from:<11} {licence:<26} {title}"))?;
    }
    super::say("`talkie models show NAME` tells more; `talkie generate \"…\" -m NAME --plan` what a film would cost");
    Ok(())
}

fn show(entry: &Entry) -> Result<()> {
    let sampling = &entry.sampling;
    let second = sampling.guidance_2.map_or_else(String::new, |second| format!(" and {second}"));
    let schedule = match (sampling.sigmas.is_empty(), sampling.refine_sigmas.len()) {
        _ if sampling.few_steps.is_some() => "sigmas of its own".to_owned(),
        _ if entry.is_boxed() => "the schedule of its folder".to_owned(),
        (true, _) if sampling.av.is_some() => "flow shift by the film's size".to_owned(),
        (true, _) => format!("flow shift {}", sampling.flow_shift),
        (false, more) => format!("sigmas of its own, {more} more steps in a second stage"),
    };
    let sizes = entry.geometry.sizes.iter().map(|(w, h)| format!("{w}x{h}")).collect::<Vec<_>>().join(", ");
    let mut lines = vec![
        ("name", entry.name.clone()),
        ("title", entry.title.clone()),
        place(entry),
        ("licence", format!("{}, {}", entry.licence.name, entry.licence.url)),
    ];
    lines.extend(entry.licence.terms.iter().map(|terms| ("terms", terms.clone())));
    lines.push(("transformer", format!("{} parameters", count(transformers(entry), 2))));
    lines.push(("text encoder", format!("{} parameters", count(entry.parameters.text_encoder, 2))));
    for (name, part) in PARTS {
        let parameters = entry.parameters.of(part);
        if parameters > 0 {
            lines.push((name, format!("{} parameters{}", count(parameters, 2), elsewhere(entry, part))));
        }
    }
    lines.extend([
        ("sizes", sizes),
        ("film", format!("{} frames at {} fps", entry.geometry.frames, entry.geometry.fps)),
        ("sampling", format!("{} steps, guidance {}{second}, {schedule}", sampling.steps, sampling.guidance)),
    ]);
    lines.extend(sampling.av.as_ref().map(|av| ("sound", sound(av))));
    lines.extend(entry.presets.iter().map(|(name, recipe)| ("preset", preset(name, recipe))));
    let negative = Some(&sampling.negative_prompt).filter(|negative| !negative.is_empty());
    lines.push(("negative", negative.map_or_else(|| "none".to_owned(), Clone::clone)));
    lines.push(("checked", entry.checked.clone()));
    lines.iter().try_for_each(|(key, value)| super::print(&format!("{key:<13} {value}")))?;
    entry.notes.iter().try_for_each(|note| super::print(&format!("{:<13} {note}", "note")))
}

/// Where the model is: its repository, or where the folder that came with talkie was found.
fn place(entry: &Entry) -> (&'static str, String) {
    match &entry.place {
        Place::Hub { repo, revision } => ("repository", format!("{repo} ({revision})")),
        Place::Box { folder } => ("in the box", super::found(bundled::find(folder))),
    }
}

/// A number of parameters as a person reads it: `1.4B`, `53.2M`, `870k`.
fn count(parameters: u64, decimals: usize) -> String {
    match parameters as f64 {
        many if many >= 1e9 => format!("{:.decimals$}B", many / 1e9),
        many if many >= 1e8 => format!("{:.0}M", many / 1e6),
        many if many >= 1e6 => format!("{:.1}M", many / 1e6),
        few => format!("{:.0}k", few / 1e3),
    }
}

/// Where a part is, if not in the model's repository.
fn elsewhere(entry: &Entry, part: &str) -> String {
    let repo = entry.components.get(part).and_then(|described| described.repo.as_ref());
    repo.filter(|repo| entry.repo() != Some(repo.as_str())).map_or_else(String::new, |repo| format!(", from {repo}"))
}

/// A recipe of few steps, and what it is for.
fn preset(name: &str, recipe: &FewSteps) -> String {
    let FewSteps { weights, sampler, sigmas, fewer, .. } = recipe;
    let fewest = if *fewer { "1 to " } else { "" };
    format!("{name}: {fewest}{} steps of `{sampler}` without guidance, for {weights}", sigmas.len())
}

/// How pictures and sound are guided besides by the prompt.
fn sound(av: &AvSampling) -> String {
    let blocks = av.stg_blocks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let at = if blocks.is_empty() { String::new() } else { format!(" at block {blocks}") };
    format!(
        "guidance {}; for pictures and sound, STG {}{at}, modality {}, rescale {}",
        av.audio_guidance, av.stg_scale, av.modality_scale, av.rescale
    )
}

fn pull(name: &str) -> Result<()> {
    let mut show = Show::new(false, None)?;
    let mut on_event = |event: &talkie::progress::Event| show.event(event);
    let choice = ModelChoice { model: Some(name.to_owned()), ..ModelChoice::default() };
    Session::open(&choice, Budget::Nothing, &mut on_event)?;
    let source = Source::find(name)?;
    let (model, _) = source.look()?;
    let bytes = human_bytes(model.components.iter().map(talkie::model::Component::bytes).sum());
    show.clear();
    if source.entry().is_some_and(Entry::is_boxed) {
        super::say(&format!("{name} is in the box, nothing is to be fetched: {bytes} of weights"));
    } else {
        super::say(&format!("{name} is here: {bytes} of weights"));
    }
    super::print(&model.folder.display().to_string())
}

fn transformers(entry: &Entry) -> u64 {
    entry.parameters.transformer + entry.parameters.transformer_2.unwrap_or(0)
}
