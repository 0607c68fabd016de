//! The folder of a run: its plan, its state after each step, its latents. What `resume` and `decode` read.
//!
//! Every file is written under a temporary name and renamed, so that whatever stops the program, what is there is whole. A
//! process holds a lock on the run that it works on, which ends with the process. Of a folder only what a run writes is ever
//! removed: it may have been moved, and hold other things by now.

mod inputs;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};

use crate::error::{Context, Error, Result};
use crate::families::latents::{self, Latents};
use crate::files::atomic;
use crate::plan::{Plan, VERSION};
use crate::weights::bundle;

/// The state is kept after every step, or this often, whichever is rarer: writing it costs less than a step of a real
/// model, and more than one of a small model.
const EVERY: Duration = Duration::from_secs(3);

/// A run that is younger keeps its state more often, so that never more than this share of its time is lost.
const SHARE: u32 = 4;

/// How long a folder without a plan is left alone: it may be a run that is about to begin.
const YOUNG: Duration = Duration::from_secs(3600);

const PLAN: &str = "plan.json";
const CONDITIONING: &str = "conditioning.safetensors";
const STATE: &str = "state.safetensors";
const LATENTS: &str = "latents.safetensors";
const FINISHED: &str = "finished";
const LOCK: &str = "lock";

/// All that a run writes, in the order in which it goes: without a plan, nobody takes what is left for an unfinished run.
const FILES: [&str; 6] = [PLAN, CONDITIONING, STATE, LATENTS, FINISHED, LOCK];

/// The folder of one run.
#[derive(Debug)]
pub struct Run {
    folder: PathBuf,
    began: Instant,
    saved: Option<Instant>,
    /// Held as long as this process is at work on the run.
    _lock: File,
}

/// What a run knows after some of its steps.
#[derive(Debug)]
pub struct State {
    /// The next step.
    pub next: usize,
    /// The latents and the sampler's history, by name.
    pub tensors: HashMap<String, Tensor>,
}

/// The folder of all runs.
fn runs(home: &Path) -> PathBuf {
    home.join("runs")
}

impl Run {
    /// Makes the folder of a new run in `home`, with its plan in it.
    ///
    /// # Errors
    /// A data folder that cannot be written.
    pub fn create(plan: &Plan, home: &Path) -> Result<Self> {
        let runs = runs(home);
        std::fs::create_dir_all(&runs).map_err(|cause| unwritable(&runs, cause))?;
        sweep(&runs);
        let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let names = std::iter::once(String::new()).chain((2..1000).map(|n| format!("-{n}")));
        for name in names {
            let folder = runs.join(format!("{stamp}-{}{name}", plan.seed));
            match std::fs::create_dir(&folder) {
                Ok(()) => {
                    return Self::begin(folder.clone(), plan).inspect_err(|_| {
                        // Nobody could resume it. If it cannot be removed either, a later run sweeps it away.
                        let _ = discard(&folder);
                    });
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(unwritable(&folder, cause)),
            }
        }
        Err(Error::failed(format!("too many runs began in the same second, in {}", runs.display())))
    }

    /// Puts the plan into the new folder.
    fn begin(folder: PathBuf, plan: &Plan) -> Result<Self> {
        let run = Self::own(folder)?;
        let json = serde_json::to_vec_pretty(plan).context(|| "packing the plan")?;
        atomic::write_whole(&run.folder.join(PLAN), &json)?;
        Ok(run)
    }

    /// The run of that name or in that folder; the latest that is unfinished where no name is given.
    ///
    /// # Errors
    /// There is none, or a living process is at work on it.
    pub fn open(name: Option<&str>, home: &Path) -> Result<Self> {
        let folder = match name {
            Some(name) => {
                let direct = PathBuf::from(name);
                if direct.join(PLAN).is_file() { direct } else { runs(home).join(name) }
            }
            None => latest(home).ok_or_else(|| {
                Error::failed("there is no unfinished run").hint("a run that stopped is kept until its film is whole")
            })?,
        };
        if !folder.is_dir() {
            let hint = match unfinished(home).as_slice() {
                [] => "none is unfinished: start one with `talkie generate`".to_owned(),
                names => format!("unfinished: {}", names.join(", ")),
            };
            return Err(Error::usage(format!("there is no run at {}", folder.display())).hint(hint));
        }
        if !folder.join(PLAN).is_file() {
            return Err(Error::failed(format!("the run stopped before its plan was written, in {}", folder.display()))
                .hint("nothing of it can be used: start it again with `talkie generate`"));
        }
        // Before a lock is put there: `plan.json` may be of another program.
        plan_in(&folder)?;
        Self::own(folder)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The name to give to `talkie resume`.
    pub fn name(&self) -> String {
        self.folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// The plan.
    ///
    /// # Errors
    /// A file that is not a plan of this version.
    pub fn plan(&self) -> Result<Plan> {
        plan_in(&self.folder)
    }

    /// Keeps what the first stages made: the embeddings of the prompts, and what the conditions became.
    ///
    /// # Errors
    /// A full disk.
    pub fn save_conditioning(&self, tensors: &[(String, Tensor)]) -> Result<()> {
        bundle::save(&self.folder.join(CONDITIONING), tensors, HashMap::new())
    }

    /// What the first stages made, where they were done.
    ///
    /// # Errors
    /// A damaged file.
    pub fn conditioning(&self, device: &Device) -> Result<Option<HashMap<String, Tensor>>> {
        self.read(CONDITIONING, device)
    }

    /// Keeps the state before step `next`, unless the last one is so young that the disk would be busier than the model.
    ///
    /// # Errors
    /// A full disk.
    pub fn save_state(&mut self, next: usize, tensors: &[(String, Tensor)], now: bool) -> Result<()> {
        let every = EVERY.min(self.began.elapsed() / SHARE);
        if !now && self.saved.is_some_and(|saved| saved.elapsed() < every) {
            return Ok(());
        }
        let metadata = HashMap::from([("next".to_owned(), next.to_string())]);
        bundle::save(&self.folder.join(STATE), tensors, metadata)?;
        self.saved = Some(Instant::now());
        Ok(())
    }

    /// The latest state that was kept.
    ///
    /// # Errors
    /// A damaged file.
    pub fn state(&self, device: &Device) -> Result<Option<State>> {
        let Some(tensors) = self.read(STATE, device)? else { return Ok(None) };
        let path = self.folder.join(STATE);
        let next = bundle::metadata(&path)?.remove("next").and_then(|next| next.parse().ok());
        let next = next.ok_or_else(|| damaged(&path, Error::failed("it names no step")))?;
        Ok(Some(State { next, tensors }))
    }

    /// Keeps the final latents: from here on only the decode is left.
    ///
    /// # Errors
    /// A full disk.
    pub fn save_latents(&self, made: &Latents, metadata: HashMap<String, String>) -> Result<()> {
        bundle::save(&self.folder.join(LATENTS), &made.pack(), metadata)
    }

    /// The final latents, where the denoising is done.
    ///
    /// # Errors
    /// A damaged file.
    pub fn latents(&self) -> Result<Option<Latents>> {
        let path = self.folder.join(LATENTS);
        if path.is_file() {
            latents::load_latents(&path).map(Some).map_err(|cause| damaged(&path, cause))
        } else {
            Ok(None)
        }
    }

    /// The metadata kept with the latents: the recipe.
    ///
    /// # Errors
    /// A damaged file.
    pub fn recipe_metadata(&self) -> Result<HashMap<String, String>> {
        bundle::metadata(&self.folder.join(LATENTS))
    }

    /// Removes the run: the film is whole. What is in its folder besides stays, and the folder with it.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn remove(self) -> Result<()> {
        discard(&self.folder).context(|| format!("removing the finished run {}", self.folder.display()))
    }

    /// Keeps the run, as one that is not waiting to be resumed: the film is whole.
    ///
    /// # Errors
    /// A full disk.
    pub fn finish(self) -> Result<()> {
        atomic::write_whole(&self.folder.join(FINISHED), b"")
    }

    fn read(&self, name: &str, device: &Device) -> Result<Option<HashMap<String, Tensor>>> {
        let path = self.folder.join(name);
        if path.is_file() {
            bundle::load(&path, device).map(Some).map_err(|cause| damaged(&path, cause))
        } else {
            Ok(None)
        }
    }

    /// Marks the run in a folder as this process's, and refuses when a living process has it.
    fn own(folder: PathBuf) -> Result<Self> {
        let path = folder.join(LOCK);
        let failed = || format!("cannot lock the run in {}", folder.display());
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut lock = opened.context(failed)?;
        match atomic::try_lock(&lock) {
            Ok(false) => {
                let mut owner = String::new();
                // Its number is a courtesy: it may not be written yet.
                let _ = lock.read_to_string(&mut owner);
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                Err(Error::failed(format!("process {} is at work on the run {name}", owner.trim()))
                    .hint("wait for it, or stop it first: Ctrl-C ends it after the current step"))
            }
            Err(cause) if cause.kind() != io::ErrorKind::Unsupported => Err(cause).context(failed),
            _ => {
                let number = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
                number.context(failed)?;
                Ok(Self { folder, began: Instant::now(), saved: None, _lock: lock })
            }
        }
    }
}

/// The plan in a run's folder.
fn plan_in(folder: &Path) -> Result<Plan> {
    let broken = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Error::failed(format!("the plan of the run is damaged or of another version, in {}", folder.display()))
            .because(cause)
            .hint("start the run again with `talkie generate`")
    };
    let json = crate::files::read_json(&folder.join(PLAN)).map_err(|cause| broken(cause.into()))?;
    let version = made_by(&json);
    if version.is_some_and(|version| version != VERSION) {
        let version = version.unwrap_or_default();
        return Err(Error::failed(format!(
            "the run was begun by talkie {version}, and this is talkie {VERSION}: {}",
            folder.display()
        ))
        .hint(format!(
            "finish it with talkie {version}, or start it again; where it has `{LATENTS}`, `talkie decode` makes the film"
        )));
    }
    serde_json::from_value(json).map_err(|cause| broken(cause.into()))
}

/// The version of talkie that settled a plan: plans of 0.1 do not name theirs, and have their steps beside the shape.
fn made_by(plan: &serde_json::Value) -> Option<&str> {
    let named = plan.get("talkie").and_then(serde_json::Value::as_str);
    named.or_else(|| (plan.get("request").is_some() && plan.get("steps").is_some()).then_some("0.1"))
}

/// Removes the files of a run, and the folder if nothing else is in it.
fn discard(folder: &Path) -> io::Result<()> {
    let entries = std::fs::read_dir(folder)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let part = |name: &String| FILES.iter().any(|file| atomic::is_part_of(name, file));
    let parts: Vec<String> = entries.filter(part).collect();
    for name in FILES.iter().copied().chain(parts.iter().map(String::as_str)) {
        match std::fs::remove_file(folder.join(name)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
    }
    // It stays where something else is in it.
    let _ = std::fs::remove_dir(folder);
    Ok(())
}

/// Removes what was left of runs that were killed before their plan was written, or while they were removed.
fn sweep(runs: &Path) {
    for entry in std::fs::read_dir(runs).into_iter().flatten().flatten() {
        let age = entry.metadata().ok().and_then(|meta| meta.modified().ok()?.elapsed().ok());
        let old = age.is_some_and(|age| age > YOUNG);
        if old && entry.file_type().is_ok_and(|kind| kind.is_dir()) && !entry.path().join(PLAN).exists() {
            // What cannot be removed now is in nobody's way.
            let _ = discard(&entry.path());
        }
    }
}

/// The names of the runs whose films are not whole yet, the oldest first.
pub fn unfinished(home: &Path) -> Vec<String> {
    let name = |(_, folder): (_, PathBuf)| Some(folder.file_name()?.to_string_lossy().into_owned());
    dated(home).into_iter().filter_map(name).collect()
}

/// The youngest unfinished run that no process is at work on; failing that, the youngest.
fn latest(home: &Path) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = dated(home).into_iter().rev().map(|(_, folder)| folder).collect();
    let busy =
        |folder: &Path| File::open(folder.join(LOCK)).is_ok_and(|lock| matches!(atomic::try_lock(&lock), Ok(false)));
    folders.iter().find(|folder| !busy(folder)).or(folders.first()).cloned()
}

/// Unfinished runs with the time at which they began, the oldest first.
fn dated(home: &Path) -> Vec<(std::time::SystemTime, PathBuf)> {
    let entries = std::fs::read_dir(runs(home)).into_iter().flatten();
    let unfinished = entries.flatten().map(|entry| entry.path()).filter(|folder| !folder.join(FINISHED).exists());
    let with_date = |folder: PathBuf| Some((std::fs::metadata(folder.join(PLAN)).ok()?.modified().ok()?, folder));
    let mut dated: Vec<_> = unfinished.filter_map(with_date).collect();
    dated.sort();
    dated
}

fn damaged(path: &Path, cause: Error) -> Error {
    Error::failed("a file of the run is damaged")
        .because(cause)
        .hint(format!("remove it, and what it held is computed again: rm {}", path.display()))
}

fn unwritable(folder: &Path, cause: std::io::Error) -> Error {
    Error::failed(format!("cannot make the folder of the run {}", folder.display()))
        .because(cause)
        .hint("set `TALKIE_HOME` to a folder that you may write to, on a disk with room")
}
