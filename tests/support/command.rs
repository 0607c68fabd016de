//! The built command, run in a folder of its own on a copy of a fixture that a test may damage.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use tempfile::TempDir;

use super::fixture;
use super::golden::Refusals;

/// A folder to work in: `model` is a copy of a fixture, `out` is empty, `home` is where runs are kept.
pub struct Bench {
    refusals: Arc<Refusals>,
    folder: TempDir,
    environment: Vec<(String, String)>,
}

/// One tensor of a file: its type, its shape and its bytes.
pub type Plain = (Dtype, Vec<usize>, Vec<u8>);

/// What a command left.
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    command: String,
    folder: PathBuf,
    refusals: Arc<Refusals>,
}

impl Bench {
    pub fn new(model: &str) -> Self {
        let bench =
            Self { refusals: Arc::default(), folder: tempfile::tempdir().expect("a folder"), environment: Vec::new() };
        copy(&fixture(model), &bench.path("model"));
        fs::create_dir(bench.path("out")).expect("a folder");
        bench
    }

    /// A file or folder of the bench. Commands run there, so that its name alone will do for them.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sets an environment variable of the commands from here on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Runs the command. What it may map is bounded: numbers from foreign files are no reason to ask for more.
    pub fn run(&self, arguments: &[&str]) -> Done {
        self.limited("-v 4194304", arguments)
    }

    /// Runs the command under a limit of the shell's `ulimit`. That a file grew too large is an error, not a signal.
    pub fn limited(&self, limit: &str, arguments: &[&str]) -> Done {
        let program = env!("CARGO_BIN_EXE_talkie");
        let mut command = if cfg!(unix) && !cfg!(feature = "cuda") {
            let mut shell = assert_cmd::Command::new("sh");
            shell.args(["-c", &format!(r#"trap "" XFSZ; ulimit {limit}; exec "$@""#), "sh", program]);
            shell
        } else {
            assert_cmd::Command::new(program)
        };
        let output = command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TALKIE_HOME", self.path("home"))
            .env("HF_HOME", self.path("hub"))
            .env("HF_HUB_OFFLINE", "1")
            .env("RAYON_NUM_THREADS", "2")
            .env_remove("TALKIE_TOYBOX")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .timeout(Duration::from_secs(120))
            .output()
            .expect("the command");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let folder = self.folder.path().to_owned();
        let refusals = self.refusals.clone();
        Done { code: output.status.code(), stdout, stderr, command: arguments.join(" "), folder, refusals }
    }

    /// The command, for a test that does not wait for its end.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_talkie"));
        command.args(arguments).current_dir(self.folder.path()).env("TALKIE_HOME", self.path("home"));
        command.env("HF_HOME", self.path("hub")).env("HF_HUB_OFFLINE", "1").env("RAYON_NUM_THREADS", "2");
        command.env_remove("TALKIE_TOYBOX");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `talkie generate` of a small film, with `arguments` in the place of what they name.
    pub fn generate(&self, arguments: &[&str]) -> Done {
        self.run(&film(arguments))
    }

    /// What lies in the folder of the output, hidden files too.
    pub fn left(&self) -> Vec<String> {
        names(&self.path("out"))
    }

    /// What lies in the folder of the runs.
    pub fn runs(&self) -> Vec<String> {
        let runs = self.path("home/runs");
        if runs.is_dir() { names(&runs) } else { Vec::new() }
    }

    /// Changes a JSON file.
    pub fn json(&self, file: &str, edit: impl FnOnce(&mut Value)) {
        let path = self.path(file);
        let mut value = serde_json::from_slice(&fs::read(&path).expect(file)).expect(file);
        edit(&mut value);
        fs::write(path, value.to_string()).expect(file);
    }

    /// Changes the tensors of a safetensors file.
    pub fn tensors(&self, file: &str, edit: impl FnOnce(&mut BTreeMap<String, Plain>)) {
        let path = self.path(file);
        let bytes = fs::read(&path).expect(file);
        let whole = SafeTensors::deserialize(&bytes).expect(file);
        let plain = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        let mut tensors = whole.tensors().into_iter().map(|(name, view)| (name, plain(view))).collect();
        edit(&mut tensors);
        write_tensors(&path, &tensors);
    }

    /// Puts one value into the first place of a tensor.
    pub fn poison(&self, file: &str, tensor: &str, value: f32) {
        self.tensors(file, |tensors| {
            let (dtype, _, data) = tensors.get_mut(tensor).expect(tensor);
            match dtype {
                Dtype::F32 => data[..4].copy_from_slice(&value.to_le_bytes()),
                // A bf16 is the upper half of an f32.
                Dtype::BF16 => data[..2].copy_from_slice(&value.to_le_bytes()[2..]),
                other => panic!("{tensor} is {other:?}"),
            }
        });
    }
}

impl Done {
    /// It worked.
    #[track_caller]
    pub fn worked(&self, words: &[&str]) -> &Self {
        assert_eq!(self.code, Some(0), "{self}");
        self.says(words)
    }

    /// It failed with `code`, with one error that has all of `words` and says what to do.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{self}");
        assert_eq!(self.stderr.lines().filter(|line| line.starts_with("error:")).count(), 1, "one error: {self}");
        assert!(self.stderr.contains("\n  try: ") || self.stderr.contains("try '--help'"), "no advice: {self}");
        assert!(self.stdout.is_empty(), "results of what failed: {self}");
        self.refusals.add(&self.command, code, &self.stderr, &self.folder);
        self.says(words)
    }

    #[track_caller]
    fn says(&self, words: &[&str]) -> &Self {
        assert!(!self.stderr.contains("panicked"), "{self}");
        for word in words {
            assert!(self.stderr.contains(word), "not a word of `{word}`: {self}");
        }
        self
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, stdout, stderr, command, .. } = self;
        let command: String = command.chars().take(300).collect();
        write!(f, "talkie {command}\nexit code {code:?}\n{stdout}\n{stderr}")
    }
}

/// The arguments of a small film, `arguments` among them.
pub fn film<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["generate"];
    if arguments.first().is_none_or(|first| first.starts_with('-')) {
        all.push("a red fox walks");
    }
    all.extend(arguments);
    let defaults = [
        ("-m", "model"),
        ("-o", "out/film"),
        ("--size", "32x32"),
        ("--frames", "5"),
        ("--steps", "2"),
        ("--seed", "1"),
    ];
    for (flag, value) in defaults {
        let frames = flag == "--frames" && arguments.contains(&"--seconds");
        if !arguments.contains(&flag) && !frames {
            all.extend([flag, value]);
        }
    }
    all
}

/// Writes a safetensors file.
pub fn write_tensors(path: &Path, tensors: &BTreeMap<String, Plain>) {
    write_tensors_with(path, tensors, None);
}

/// Writes a safetensors file with words in it.
pub fn write_tensors_with(path: &Path, tensors: &BTreeMap<String, Plain>, words: Option<HashMap<String, String>>) {
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).expect("a tensor")));
    let bytes = safetensors::serialize(views, words);
    fs::write(path, bytes.expect("bytes")).expect("a file");
}

/// Values as a tensor of f32.
pub fn floats(shape: &[usize], value: impl Fn(usize) -> f32) -> Plain {
    let data = (0..shape.iter().product()).flat_map(|at| value(at).to_le_bytes()).collect();
    (Dtype::F32, shape.to_vec(), data)
}

/// Everything in a folder, hidden files too.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Every file in a folder, by name.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    names(folder).into_iter().map(|name| (name.clone(), fs::read(folder.join(name)).expect("a file"))).collect()
}

/// Copies a model's folder, without what the reference made of it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a fixture") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(name)),
            false if name.to_string_lossy().starts_with("reference.") => {}
            false => drop(fs::copy(entry.path(), to.join(name)).expect("a copy")),
        }
    }
}
