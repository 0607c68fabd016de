//! `talkie bench`: makes a film, discards it, prints timings.

use talkie::error::{Error, Result};
use talkie::plan::human_bytes;
use talkie::tools::bench::{self, Figures, Measured, Rate, Setting, StageFigures};

use super::film::Film;
use super::show::Show;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    film: Film,
    /// How often the film is made; the table then has medians
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
    /// Every figure of every run as one JSON object
    #[arg(long, display_order = 100)]
    pub json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let (choice, request) = (args.film.choice()?, args.film.request()?);
    let mut show = Show::new(false, None)?;
    let figures = bench::measure(&choice, &request, usize::from(args.repeat), &mut |event| show.event(event));
    show.clear();
    let figures = figures?;
    super::print(&if args.json { to_json(&figures)? } else { table(&figures) })
}

fn to_json(figures: &Figures) -> Result<String> {
    serde_json::to_string_pretty(figures).map_err(|cause| Error::failed("packing the figures").because(cause))
}

fn table(figures: &Figures) -> String {
    let runs = &figures.runs;
    let mut lines = heading(&figures.setting);
    lines.push(format!("hashing    {:.2} s for the model's files, before the first run", figures.hash));
    lines.push(format!("runs       {}{}", runs.len(), if runs.len() > 1 { ": medians" } else { "" }));
    lines.push(String::new());
    lines.push(row(["", "seconds", "load", "write", "compute", "GFLOP", "GFLOP/s", "of roofline", "memory"]));
    for at in 0..runs[0].stages.len() {
        lines.extend(stage(&runs.iter().filter_map(|run| run.stages.get(at)).collect::<Vec<_>>()));
    }
    let alone = |name: &str, seconds: fn(&Measured) -> f64, peak: String| {
        row([name, &time(median(runs.iter().map(seconds))), "", "", "", "", "", "", &peak])
    };
    lines.push(alone("finish", |run| run.finish, String::new()));
    lines.push(alone("other", |run| run.other, String::new()));
    lines.push(alone("all", |run| run.seconds, bytes(runs.iter().map(|run| run.peak))));
    lines.join("\n")
}

fn heading(setting: &Setting) -> Vec<String> {
    let Setting { model, device, dtype, threads, width, height, frames, tokens, sound_tokens, .. } = setting;
    let sound = if *sound_tokens > 0 { format!(" and {sound_tokens} of sound") } else { String::new() };
    let texts: Vec<String> = setting.text_tokens.iter().map(usize::to_string).collect();
    let side = setting.roofline_side;
    vec![
        format!("model      {model}"),
        format!("film       {width}x{height}, {frames} frames: {tokens} tokens{sound}"),
        format!("text       {} tokens, {} rows for the transformer", texts.join(" and "), setting.text_rows),
        format!("device     {device}, {threads} threads, computing in {dtype}"),
        format!("roofline   {:.1} GFLOP/s, a product of two {side}x{side} matrices", setting.roofline / 1e9),
    ]
}

/// The rows of a stage: itself, and its steps.
fn stage(runs: &[&StageFigures]) -> Vec<String> {
    let of = |seconds: fn(&StageFigures) -> f64| time(median(runs.iter().map(|run| seconds(run))));
    let [flop, rate, share] = rates(&runs.iter().map(|run| run.rate).collect::<Vec<_>>());
    let times = [of(|run| run.seconds), of(|run| run.load), of(|run| run.write), of(|run| run.compute)];
    let [seconds, load, write, compute] = &times;
    let memory = bytes(runs.iter().map(|run| run.peak));
    let mut rows = vec![row([runs[0].stage.name(), seconds, load, write, compute, &flop, &rate, &share, &memory])];
    for at in 0..runs[0].steps.len() {
        let steps: Vec<_> = runs.iter().filter_map(|run| run.steps.get(at)).collect();
        let seconds = time(median(steps.iter().map(|step| step.seconds)));
        let [flop, rate, share] = rates(&steps.iter().map(|step| step.rate).collect::<Vec<_>>());
        rows.push(row([&format!("  step {}", at + 1), &seconds, "", "", &seconds, &flop, &rate, &share, ""]));
    }
    rows
}

/// Operations in billions, their rate, and the share of the roofline, as words.
fn rates(rates: &[Rate]) -> [String; 3] {
    let of = |value: fn(&Rate) -> Option<f64>| {
        let values: Vec<f64> = rates.iter().filter_map(value).collect();
        (!values.is_empty()).then(|| median(values))
    };
    let word = |value: Option<f64>, unit: f64, end: &str| {
        value.map_or_else(String::new, |value| format!("{:.1}{end}", value / unit))
    };
    [
        word(of(|rate| rate.flop), 1e9, ""),
        word(of(|rate| rate.flop_per_second), 1e9, ""),
        word(of(|rate| rate.share), 0.01, " %"),
    ]
}

/// The largest of several peaks.
fn bytes(peaks: impl Iterator<Item = Option<u64>>) -> String {
    peaks.flatten().max().map_or_else(String::new, human_bytes)
}

fn time(seconds: f64) -> String {
    format!("{seconds:.3}")
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

fn row([name, rest @ ..]: [&str; 9]) -> String {
    let cells: String = rest.iter().map(|cell| format!("{cell:>12}")).collect();
    format!("{name:<10}{cells}").trim_end().to_owned()
}
