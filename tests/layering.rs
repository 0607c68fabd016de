//! The house rules that a compiler does not check: which module may use which, and what every file looks like.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file above this many lines is split, but for those of [`LONG`].
const LINES: usize = 450;
/// No file is longer than this.
const MOST_LINES: usize = 800;
/// Files that may have up to [`MOST_LINES`].
const LONG: [&str; 0] = [];

/// A source file: its path from the package's folder, with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

/// Every `.rs` file under a folder of the package.
fn sources(folder: &str) -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => walk(&path, found),
                false => found.push(path),
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join(folder), &mut found);
    found.retain(|path| path.extension().is_some_and(|ending| ending == "rs"));
    found.sort();
    let read = |path: &PathBuf| Source {
        path: path.strip_prefix(root).expect("inside").to_string_lossy().replace('\\', "/"),
        text: std::fs::read_to_string(path).expect("UTF-8"),
    };
    found.iter().map(read).collect()
}

/// What `src/lib.rs` says: the level of each module in its table, the modules it declares, and what it re-exports.
struct House {
    levels: BTreeMap<String, u32>,
    declared: Vec<String>,
    exported: BTreeMap<String, String>,
}

impl House {
    fn read(lib: &str) -> Self {
        let mut house = Self { levels: BTreeMap::new(), declared: Vec::new(), exported: BTreeMap::new() };
        for line in lib.lines() {
            if let Some(row) = line.strip_prefix("//! | ") {
                house.row(row);
            } else if let Some(name) = line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod ")) {
                house.declared.push(name.trim_end_matches(';').to_owned());
            } else if let Some((module, names)) = line.strip_prefix("pub use ").and_then(|path| path.split_once("::")) {
                let names = names.split(|c: char| !is_name(c)).filter(|name| !name.is_empty());
                house.exported.extend(names.map(|name| (name.to_owned(), module.to_owned())));
            }
        }
        house
    }

    /// A row such as ``| 3 | [`text`], [`mod@family`] |``, where `mod@` tells rustdoc a module from a macro of its name; the heading
    /// has no number.
    fn row(&mut self, row: &str) {
        let Some((level, modules)) = row.split_once('|') else { return };
        let Ok(level) = level.trim().parse() else { return };
        for name in modules.split('`').skip(1).step_by(2) {
            let name = name.trim_start_matches("mod@");
            let before = self.levels.insert(name.to_owned(), level);
            assert_eq!(before, None, "`{name}` is twice in the table of src/lib.rs");
        }
    }

    /// What is wrong with the table, and every path that climbs.
    fn faults(&self, sources: &[Source]) -> Vec<String> {
        let mut faults = Vec::new();
        for name in self.declared.iter().filter(|name| !self.levels.contains_key(*name)) {
            faults.push(format!("`{name}` is declared in src/lib.rs and not in its table"));
        }
        for name in self.levels.keys().filter(|name| !self.declared.contains(*name)) {
            faults.push(format!("`{name}` is in the table of src/lib.rs and not declared"));
        }
        for source in sources {
            let module = module_path(&source.path);
            let Some(level) = module.first().and_then(|name| self.levels.get(*name)) else { continue };
            for (line, used) in names_at_the_root(&source.text, module.len()) {
                let target = self.exported.get(&used).unwrap_or(&used);
                match self.levels.get(target) {
                    Some(other) if other <= level => {}
                    Some(other) => {
                        faults.push(format!("{}:{line}: level {level} uses `{used}`, level {other}", source.path));
                    }
                    None => faults.push(format!("{}:{line}: `{used}` is no module of the table", source.path)),
                }
            }
        }
        faults
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The modules that a file stands for: `src/wan/vae/mod.rs` is `wan`, `vae`. None for the roots and for the command, which
/// is another crate and uses the library by its name.
fn module_path(path: &str) -> Vec<&str> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let names: Vec<&str> = inner.split('/').filter(|name| *name != "mod").collect();
    if matches!(names[0], "lib" | "main" | "cli") { Vec::new() } else { names }
}

/// The first name of each path that begins at the crate's root, with its line: after `crate::`, or after as many `super::`
/// as the module is deep. Comments are left out: a link in the documentation may point anywhere.
fn names_at_the_root(text: &str, depth: usize) -> Vec<(usize, String)> {
    let bare: String = text.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let climb = "super::".repeat(depth);
    let mut found = Vec::new();
    for prefix in ["crate::", &climb] {
        for (at, _) in bare.match_indices(prefix) {
            let line = bare[..at].matches('\n').count() + 1;
            let names = first_names(&bare[at + prefix.len()..]);
            // A longer chain of `super::` is found at its end; `my_crate::` is another name.
            if !bare[..at].ends_with(is_name) {
                found.extend(names.into_iter().filter(|name| name != "super").map(|name| (line, name)));
            }
        }
    }
    found
}

/// The names that a path can go on with: `a` of `a::b`, `a` and `c` of `{a::b, c}`.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| text.trim_start().chars().take_while(|c| is_name(*c)).collect::<String>();
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
            }
            '}' if depth == 0 => {
                names.push(name(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn imports_go_down_only() {
    let sources = sources("src");
    let lib = sources.iter().find(|source| source.path == "src/lib.rs").expect("src/lib.rs");
    let house = House::read(&lib.text);
    assert!(house.levels.len() > 20, "the table of src/lib.rs was not found: {:?}", house.levels);
    let used = |source: &Source| names_at_the_root(&source.text, module_path(&source.path).len().max(1)).len();
    assert!(sources.iter().map(used).sum::<usize>() > 100, "the imports were not found");
    let faults = house.faults(&sources);
    assert!(
        faults.is_empty(),
        "a module may use its own level and those above it in the table:\n{}",
        faults.join("\n")
    );
}

#[test]
fn an_import_that_climbs_is_found() {
    let lib = "//! | level | modules |\n//! |--:|---|\n//! | 0 | [`error`] |\n//! | 1 | [`nn`] |\n//! | 4 | [`wan`] |\n\
               pub mod error;\npub mod nn;\npub mod wan;\npub use error::{Error, Result};\n";
    let faults = |lib: &str, path: &str, text: &str| {
        House::read(lib).faults(&[Source { path: path.into(), text: text.into() }]).join("\n")
    };
    for harmless in [
        "use crate::nn::silu;",
        "use crate::{Error, nn::{a, b}};",
        "// crate::wan",
        "use my_crate::wan;",
        "crate::wan::x()",
    ] {
        assert_eq!(faults(lib, "src/wan/block.rs", harmless), "", "{harmless}");
    }
    for climbing in [
        "use crate::wan::Wan;",
        "use crate::{error, wan};",
        "use crate::{\n    error::{Error, Result},\n    wan::{self},\n};",
        "fn f() {\n    crate::wan::x();\n}",
        "use super::super::wan;",
        "use super::super::{error, wan};",
    ] {
        let found = faults(lib, "src/nn/rope.rs", climbing);
        assert!(found.contains("level 1 uses `wan`, level 4"), "{climbing}: {found}");
    }
    assert!(faults(lib, "src/nn.rs", "use super::wan;").contains("level 1 uses `wan`"));
    assert!(faults(lib, "src/error.rs", "use crate::elsewhere;").contains("`elsewhere` is no module"));
    assert!(faults(&format!("{lib}pub mod new;\n"), "src/nn.rs", "").contains("`new` is declared"));
    assert!(faults(&lib.replace("pub mod nn;\n", ""), "src/nn.rs", "").contains("`nn` is in the table"));
}

#[test]
fn only_media_mentions_the_ffmpeg_binding() {
    let outside = sources("src").into_iter().filter(|source| !source.path.starts_with("src/media/"));
    let found: Vec<String> =
        outside.filter(|source| source.text.contains("ffmpeg_next")).map(|source| source.path).collect();
    assert_eq!(found, [""; 0]);
}

#[test]
fn every_file_says_what_it_is_for() {
    let files = ["src", "tests", "examples"].into_iter().filter(|folder| Path::new(folder).is_dir()).flat_map(sources);
    let found: Vec<String> =
        files.filter(|source| !source.text.starts_with("//! ")).map(|source| source.path).collect();
    assert_eq!(found, [""; 0]);
}

#[test]
fn no_file_is_long() {
    let most = |path: &str| if LONG.contains(&path) { MOST_LINES } else { LINES };
    let mut found = Vec::new();
    for source in sources("src") {
        let lines = source.text.lines().count();
        if lines > most(&source.path) {
            found.push(format!("{} has {lines} lines", source.path));
        }
    }
    for source in sources("tests") {
        let lines = source.text.lines().count();
        if lines > MOST_LINES {
            found.push(format!("{} has {lines} lines", source.path));
        }
    }
    assert_eq!(found, [""; 0]);
}

#[test]
fn nothing_in_the_program_unwraps() {
    let code = |line: &str| line.split("//").next().unwrap_or_default().contains(".unwrap()");
    let found: Vec<String> = sources("src")
        .iter()
        .flat_map(|source| source.text.lines().enumerate().map(move |(at, line)| (source, at, line)))
        .filter(|(_, _, line)| code(line))
        .map(|(source, at, _)| format!("{}:{}", source.path, at + 1))
        .collect();
    assert_eq!(found, [""; 0]);
}
