//! Measures films of the little world with plain instruments: does the film show what its prompt says, does it last, is what
//! is seen heard?
//!
//! ```sh
//! python models/toybox/recipe/render.py scenes
//! cargo run --release --example measure -- --scenes scenes
//! ```
//!
//! The clips that the recipe renders bring prompts and the truth about them. Two more columns give each figure its scale.
//! The ceiling is what the same instruments find in the rendered clips. The floor is what they find where film and prompt
//! have nothing to do with each other: each film against the scene of another one, with the other one's sound and, for
//! whether things last, its second half.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example speaks to the terminal")]

mod contacts;
mod films;
mod material;
mod onsets;
mod score;
mod segment;
mod table;
mod track;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use talkie::error::{Context, Error, Kind, Result};
use talkie::progress::quiet;
use talkie::{Budget, ModelChoice, Request, Session};

use crate::films::{Film, SIDE, Scene, choose, scenes};
use crate::material::Materials;
use crate::onsets::onsets;
use crate::score::{Observation, Score, score};

/// Measures films of balls and blocks against what their prompts say
#[derive(Debug, Parser)]
struct Args {
    /// A folder that models/toybox/recipe/render.py has written: prompts, the truth about them, and rendered clips
    #[arg(long, value_name = "FOLDER")]
    scenes: PathBuf,
    /// How many films, a third of them of combinations that were held out of training [default: all]
    #[arg(long, value_name = "N")]
    films: Option<usize>,
    /// Films that are there already, under the names of the clips, instead of generating them
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["model", "steps", "guidance", "seed", "keep"])]
    from: Option<PathBuf>,
    /// The model that generates [default: the one in the box]
    #[arg(long)]
    model: Option<String>,
    /// Denoising steps [default: the model's]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Scale of guidance [default: the model's]
    #[arg(long, value_name = "G")]
    guidance: Option<f64>,
    /// The seed of the first film; each further one has the next
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Where to keep the films that are generated, for --from
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Where to write what was found in each film
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.report());
            ExitCode::from(if error.kind() == Kind::Usage { 2 } else { 1 })
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let all = scenes(&args.scenes)?;
    let chosen = choose(&all, args.films);
    if chosen.is_empty() {
        return Err(Error::usage("there is nothing to measure").hint("ask for one film at least"));
    }
    // Every second clip teaches how materials sound: what is told of the others is the ceiling.
    let taught: Vec<&Scene> = all.iter().step_by(2).collect();
    let mut materials = Materials::default();
    for scene in &taught {
        let clip = Film::read(&args.scenes.join(&scene.file))?;
        materials.learn(&clip.sound, &onsets(&clip.sound)?, scene.sound())?;
    }
    let mut ceiling = Vec::new();
    for scene in &chosen {
        let clip = Film::read(&args.scenes.join(&scene.file))?;
        let found = score(&Observation::of(&clip, &materials)?, scene);
        let known = taught.iter().any(|taught| taught.file == scene.file);
        let unless = |told: Option<bool>| told.filter(|_| !known);
        ceiling.push(Score { material: unless(found.material), click: unless(found.click), ..found });
    }
    let films = match &args.from {
        Some(folder) => chosen.iter().map(|scene| Film::read(&folder.join(&scene.file))).collect::<Result<_>>()?,
        None => generate(args, &chosen)?,
    };
    report(args, &films, &chosen, &materials, ceiling)
}

/// A film of each scene's prompt, all of one model.
fn generate(args: &Args, chosen: &[Scene]) -> Result<Vec<Film>> {
    if let Some(folder) = &args.keep {
        std::fs::create_dir_all(folder).context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let request = Request {
        steps: args.steps,
        guidance: args.guidance,
        size: Some(format!("{SIDE}x{SIDE}").parse()?),
        frames: Some(33),
        fps: Some("16".parse()?),
        ..Request::default()
    };
    let choice = ModelChoice { model: args.model.clone(), ..ModelChoice::default() };
    let session = Session::open(&choice, Budget::All, &mut quiet)?;
    let mut films = Vec::new();
    for (index, scene) in chosen.iter().enumerate() {
        eprintln!("film {} of {}: {}", index + 1, chosen.len(), scene.prompt);
        let seed = Some(args.seed.wrapping_add(index as u64));
        let request = Request { prompt: scene.prompt.clone(), seed, ..request.clone() };
        let film = Film::generated(&session.generate(&request, &mut quiet)?)?;
        args.keep.as_ref().map(|folder| film.write(&folder.join(&scene.file))).transpose()?;
        films.push(film);
    }
    Ok(films)
}

/// Scores the films, against their scenes and against others, and prints the table.
fn report(args: &Args, films: &[Film], chosen: &[Scene], materials: &Materials, ceiling: Vec<Score>) -> Result<()> {
    let (mut inside, mut held, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for (at, (film, scene)) in films.iter().zip(chosen).enumerate() {
        let seen = Observation::of(film, materials)?;
        let found = score(&seen, scene);
        (if scene.held_out { &mut held } else { &mut inside }).push(found);
        let other = (at + 1) % films.len();
        let mixed = Observation::of(&film.spliced(&films[other]), materials)?;
        floor.push(score(&Observation { lasts: mixed.lasts, onsets: mixed.onsets, ..seen }, &chosen[other]));
    }
    let columns = [("in-distribution", inside), ("held-out", held), ("ceiling", ceiling), ("floor", floor)];
    if let Some(path) = &args.json {
        let records: serde_json::Map<_, _> =
            columns.iter().map(|(name, scores)| ((*name).to_owned(), serde_json::json!(scores))).collect();
        let text = serde_json::to_string_pretty(&records).context(|| "cannot put the records into words")?;
        std::fs::write(path, text + "\n").context(|| format!("cannot write {}", path.display()))?;
    }
    print!("{}", table::table(&columns));
    Ok(())
}
