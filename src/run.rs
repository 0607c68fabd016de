//! The folder of a run: its plan, its state after each step, its latents. What `resume` and `decode` read.
//!
//! Every file is written under a temporary name and renamed, so that whatever stops the program, what is there is whole.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};

use crate::error::{Context, Error, Result};
use crate::latents;
use crate::plan::Plan;

/// The state is kept after every step, or this often, whichever is rarer: writing it costs less than a step of a real
/// model, and more than one of a small model.
const EVERY: Duration = Duration::from_secs(3);

const PLAN: &str = "plan.json";
const CONDITIONING: &str = "conditioning.safetensors";
const STATE: &str = "state.safetensors";
const LATENTS: &str = "latents.safetensors";
const OWNER: &str = "pid";

/// The folder of one run.
#[derive(Debug)]
pub struct Run {
    folder: PathBuf,
    saved: Option<Instant>,
}

/// What a run knows after some of its steps.
#[derive(Debug)]
pub struct State {
    /// The next step.
    pub next: usize,
    /// The latents and the sampler's history, by name.
    pub tensors: HashMap<String, Tensor>,
}

/// Where talkie keeps what it writes for itself: `TALKIE_HOME`, or `talkie` in the platform's folder for data.
///
/// # Errors
/// No home folder is known.
pub fn home() -> Result<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(home) = from("TALKIE_HOME") {
        return Ok(home);
    }
    let data = if cfg!(target_os = "macos") {
        from("HOME").map(|home| home.join("Library/Application Support"))
    } else if cfg!(windows) {
        from("LOCALAPPDATA")
    } else {
        from("XDG_DATA_HOME").or_else(|| from("HOME").map(|home| home.join(".local/share")))
    };
    let unknown =
        || Error::failed("no folder for talkie's data is known").hint("set `TALKIE_HOME` to a folder of yours");
    Ok(data.ok_or_else(unknown)?.join("talkie"))
}

fn runs() -> Result<PathBuf> {
    Ok(home()?.join("runs"))
}

impl Run {
    /// Makes the folder of a new run, with its plan in it.
    ///
    /// # Errors
    /// A data folder that cannot be written.
    pub fn create(plan: &Plan) -> Result<Self> {
        let runs = runs()?;
        let make = |folder: &Path| std::fs::create_dir(folder);
        std::fs::create_dir_all(&runs).map_err(|cause| unwritable(&runs, cause))?;
        let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let names = std::iter::once(String::new()).chain((2..1000).map(|n| format!("-{n}")));
        for name in names {
            let folder = runs.join(format!("{stamp}-{}{name}", plan.seed));
            match make(&folder) {
                Ok(()) => {
                    let run = Self { folder, saved: None };
                    run.own()?;
                    let json = serde_json::to_vec_pretty(plan).context(|| "packing the plan")?;
                    latents::write_whole(&run.folder.join(PLAN), &json)?;
                    return Ok(run);
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(unwritable(&folder, cause)),
            }
        }
        Err(Error::failed(format!("too many runs began in the same second, in {}", runs.display())))
    }

    /// The run of that name or in that folder; the latest that is unfinished where no name is given.
    ///
    /// # Errors
    /// There is none, or a living process is at work on it.
    pub fn open(name: Option<&str>) -> Result<Self> {
        let folder = match name {
            Some(name) => {
                let direct = PathBuf::from(name);
                if direct.join(PLAN).is_file() { direct } else { runs()?.join(name) }
            }
            None => latest()?.ok_or_else(|| {
                Error::failed("there is no unfinished run").hint("a run that stopped is kept until its film is whole")
            })?,
        };
        if !folder.is_dir() {
            let known = unfinished();
            return Err(Error::usage(format!("there is no run at {}", folder.display())).hint(
                match known.as_slice() {
                    [] => "none is unfinished: start one with `talkie generate`".to_owned(),
                    known => format!("unfinished: {}", known.join(", ")),
                },
            ));
        }
        if !folder.join(PLAN).is_file() {
            return Err(Error::failed(format!("the run stopped before its plan was written, in {}", folder.display()))
                .hint("nothing of it can be used: start it again with `talkie generate`"));
        }
        let run = Self { folder, saved: None };
        run.own()?;
        Ok(run)
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
        let broken = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::failed(format!("the plan of the run is damaged or of another version, in {}", self.folder.display()))
                .because(cause)
                .hint("start the run again with `talkie generate`")
        };
        let json = crate::model::read_json(&self.folder.join(PLAN)).map_err(|cause| broken(cause.into()))?;
        serde_json::from_value(json).map_err(|cause| broken(cause.into()))
    }

    /// Keeps what the first stages made: the embeddings of the prompts, the latents of the picture.
    ///
    /// # Errors
    /// A full disk.
    pub fn save_conditioning(&self, tensors: &[(String, Tensor)]) -> Result<()> {
        latents::save(&self.folder.join(CONDITIONING), tensors, HashMap::new())
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
        if !now && self.saved.is_some_and(|saved| saved.elapsed() < EVERY) {
            return Ok(());
        }
        let metadata = HashMap::from([("next".to_owned(), next.to_string())]);
        latents::save(&self.folder.join(STATE), tensors, metadata)?;
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
        let next = latents::metadata(&path)?.remove("next").and_then(|next| next.parse().ok());
        let next = next.ok_or_else(|| damaged(&path, Error::failed("it names no step")))?;
        Ok(Some(State { next, tensors }))
    }

    /// Keeps the final latents: from here on only the decode is left.
    ///
    /// # Errors
    /// A full disk.
    pub fn save_latents(&self, video: &Tensor, metadata: HashMap<String, String>) -> Result<()> {
        latents::save(&self.folder.join(LATENTS), &[("video".to_owned(), video.clone())], metadata)
    }

    /// The final latents, where the denoising is done.
    ///
    /// # Errors
    /// A damaged file.
    pub fn latents(&self) -> Result<Option<Tensor>> {
        let path = self.folder.join(LATENTS);
        if path.is_file() {
            latents::load_video(&path).map(Some).map_err(|cause| damaged(&path, cause))
        } else {
            Ok(None)
        }
    }

    /// The words kept with the latents: the recipe.
    ///
    /// # Errors
    /// A damaged file.
    pub fn words(&self) -> Result<HashMap<String, String>> {
        latents::metadata(&self.folder.join(LATENTS))
    }

    /// Removes the folder: the film is whole.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn remove(self) -> Result<()> {
        std::fs::remove_dir_all(&self.folder).context(|| format!("removing the finished run {}", self.folder.display()))
    }

    fn read(&self, name: &str, device: &Device) -> Result<Option<HashMap<String, Tensor>>> {
        let path = self.folder.join(name);
        if path.is_file() {
            latents::load(&path, device).map(Some).map_err(|cause| damaged(&path, cause))
        } else {
            Ok(None)
        }
    }

    /// Marks the run as this process's, and refuses when a living process has it.
    fn own(&self) -> Result<()> {
        let path = self.folder.join(OWNER);
        let owner = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u32>().ok());
        if let Some(owner) = owner.filter(|&owner| owner != std::process::id() && alive(owner)) {
            return Err(Error::failed(format!("process {owner} is at work on the run {}", self.name()))
                .hint("wait for it, or stop it first: Ctrl-C ends it after the current step"));
        }
        latents::write_whole(&path, std::process::id().to_string().as_bytes())
    }
}

/// The names of the runs that are kept, the oldest first.
pub fn unfinished() -> Vec<String> {
    let entries = runs().ok().and_then(|runs| std::fs::read_dir(runs).ok());
    let with_plan = entries.into_iter().flatten().flatten().filter(|entry| entry.path().join(PLAN).is_file());
    let mut names: Vec<String> = with_plan.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Whether a process of that number runs talkie. Where the system has no `/proc`, none is assumed to.
fn alive(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.windows(6).any(|part| part == b"talkie"))
}

/// The youngest folder of a run that has a plan.
fn latest() -> Result<Option<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(runs()?) else { return Ok(None) };
    let dated = entries.flatten().filter_map(|entry| {
        let plan = entry.path().join(PLAN);
        Some((std::fs::metadata(plan).ok()?.modified().ok()?, entry.path()))
    });
    Ok(dated.max().map(|(_, folder)| folder))
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
