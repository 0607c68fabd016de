//! Golden files: what the command says, in `tests/golden`. `INSTA_UPDATE=always cargo test` writes them anew.

use std::cell::RefCell;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Holds a text against the golden file of a name.
#[track_caller]
pub fn golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// The refusals of a bench, for the golden file of its test. Those of `cli::bad_input` are kept.
#[derive(Default)]
pub struct Refusals(Mutex<Vec<String>>);

impl Refusals {
    /// Adds what a command was refused with: its error and its advice, without causes, which are the system's.
    pub fn add(&self, command: &str, code: i32, stderr: &str, folder: &Path) {
        let lines = stderr.lines().filter(|line| line.starts_with("error:") || line.starts_with("  try:"));
        let said = lines.collect::<Vec<_>>().join("\n");
        let command: String = command.chars().take(160).collect();
        let text = steady(&format!("$ talkie {command}\n{said}\n[exit code {code}]\n"), folder);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

impl Drop for Refusals {
    fn drop(&mut self) {
        let all = std::mem::take(self.0.get_mut().unwrap_or_else(PoisonError::into_inner));
        let thread = std::thread::current();
        let test =
            thread.name().and_then(|name| name.strip_prefix("cli::bad_input::")).map(|name| name.replace("::", "."));
        if let (Some(test), false, false) = (test, all.is_empty(), std::thread::panicking()) {
            refused(&test, &all.join("\n"));
        }
    }
}

/// Holds the refusals of a test so far, bench after bench, against the beginning of its golden file.
#[track_caller]
fn refused(test: &str, more: &str) {
    thread_local!(static SO_FAR: RefCell<String> = const { RefCell::new(String::new()) });
    let told = SO_FAR.with_borrow_mut(|told| {
        told.push_str(more);
        told.push('\n');
        told.clone()
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/errors").join(format!("{test}.txt"));
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        std::fs::create_dir_all(path.parent().expect("a folder"))
            .and_then(|()| std::fs::write(&path, &told))
            .expect("a file");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let line = told.lines().zip(golden.lines()).position(|(told, golden)| told != golden);
    assert!(golden.starts_with(&told), "from line {line:?} on, not what stands in {}:\n{told}", path.display());
}

/// A text without what differs from run to run: the folder of the bench, and long numbers.
pub fn steady(text: &str, folder: &Path) -> String {
    let text = text.replace(&*folder.to_string_lossy(), "[bench]");
    let mut made = String::new();
    let mut digits = String::new();
    for letter in text.chars().chain(std::iter::once('\0')) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        made.push_str(if digits.len() > 6 { "[number]" } else { &digits });
        digits.clear();
        made.push(letter);
    }
    made.trim_end_matches('\0').to_owned()
}
