//! The house rules that a compiler does not check: which folder may import which, and what every file looks like.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// No file of `src` is longer than this; one that would be is split.
const LINES: usize = 450;
/// No file of `tests` is longer than this.
const MOST_LINES: usize = 800;

/// Imports that must never be, of the second room by the first.
const NEVER: [(&str, &str, &str); 8] = [
    ("sampling", "nn", "schedules and steppers are numbers, and know no network"),
    ("plan", "nn", "a plan is settled before a tensor exists"),
    ("plan", "hub", "a plan downloads nothing"),
    ("model", "plan", "what lies on disk does not depend on what will be done with it"),
    ("weights", "nn", "bytes become numbers below the layers"),
    ("nn", "families", "layers know no family"),
    ("families", "pipeline", "a family is asked, and asks nobody"),
    ("request", "model", "a request is plain data"),
];

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

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
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

/// The first names of the paths in a file that begin at the crate's root. Comments are left out: a link in the documentation may
/// point anywhere.
fn roots(text: &str) -> Vec<String> {
    let bare: String = text.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let starts = bare.match_indices("crate::").filter(|(at, _)| !bare[..*at].ends_with(is_name));
    starts.flat_map(|(at, prefix)| first_names(&bare[at + prefix.len()..])).collect()
}

/// Which rooms (folders and files directly under `src`) each room imports.
fn imports(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Source { path, text } in sources {
        let room = path.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default();
        // The command is another crate, and the roots only declare.
        if !matches!(room, "main" | "lib" | "cli") {
            let used = roots(text).into_iter().filter(|used| used != room);
            graph.entry(room.to_owned()).or_default().extend(used);
        }
    }
    graph
}

/// A way from a room through its imports back to itself.
fn circle(graph: &BTreeMap<String, BTreeSet<String>>, from: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![from.to_owned()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        for next in graph.get(way.last()?).into_iter().flatten() {
            let longer = [way.as_slice(), std::slice::from_ref(next)].concat();
            if next == from {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push(longer);
            }
        }
    }
    None
}

/// What is wrong with a graph: circles, names that are no room, and imports that must never be.
fn faults(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let circles =
        graph.keys().filter_map(|room| circle(graph, room)).map(|way| format!("a circle: {}", way.join(" -> ")));
    let unknown = graph.iter().flat_map(|(room, used)| {
        used.iter()
            .filter(|used| !graph.contains_key(*used))
            .map(move |used| format!("{room} imports `{used}`, which is no room"))
    });
    let imports = |from: &str, to: &str| graph.get(from).is_some_and(|used| used.contains(to));
    let never = NEVER.iter().filter(|(from, to, _)| imports(from, to));
    circles.chain(unknown).chain(never.map(|(from, to, why)| format!("{from} -> {to}: {why}"))).collect()
}

#[test]
fn the_graph_of_folders_has_no_circle() {
    let graph = imports(&sources("src"));
    assert!((15..=23).contains(&graph.len()), "{:?}", graph.keys());
    assert!(graph.values().map(BTreeSet::len).sum::<usize>() > 50, "the imports were not found: {graph:?}");
    assert_eq!(faults(&graph), [""; 0]);
    for (from, to, _) in NEVER {
        assert!(graph.contains_key(from) && graph.contains_key(to), "{from} or {to} is no room any more");
    }
}

#[test]
fn an_import_that_must_not_be_is_found() {
    let found = |files: &[(&str, &str)]| {
        let text = |(path, text): &(&str, &str)| Source { path: (*path).to_owned(), text: (*text).to_owned() };
        faults(&imports(&files.iter().map(text).collect::<Vec<_>>())).join("; ")
    };
    let nn = ("src/nn/rope.rs", "use crate::weights::Weights;");
    assert_eq!(found(&[nn, ("src/weights/mod.rs", "// crate::nn\nuse my_crate::nn;")]), "");
    for text in
        ["use crate::nn::silu;", "use crate::{nn::{a, b}};", "use crate::{\n    nn,\n};", "fn f() { crate::nn::x() }"]
    {
        let found = found(&[nn, ("src/weights/packed.rs", text)]);
        assert!(
            found.contains("a circle: nn -> weights -> nn") && found.contains("below the layers"),
            "{text}: {found}"
        );
    }
    assert!(found(&[nn]).contains("`weights`, which is no room"));
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
    let long = |folder: &str, most: usize| {
        let lines = |source: Source| (source.text.lines().count(), source.path);
        sources(folder).into_iter().map(lines).filter(move |(lines, _)| *lines > most)
    };
    let found: Vec<_> = long("src", LINES).chain(long("tests", MOST_LINES)).collect();
    assert_eq!(found, []);
}

/// The picture of the rooms lists the imports that it shows.
#[test]
fn the_picture_of_the_rooms_is_of_these_imports() {
    let picture =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.svg")).expect("SVG");
    let listed = picture.split("<desc>").nth(1).and_then(|rest| rest.split("</desc>").next()).expect("a list");
    let drawn: BTreeMap<String, BTreeSet<String>> = listed
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(room, used)| (room.to_owned(), used.split_whitespace().map(str::to_owned).collect()))
        .filter(|(room, _)| room != "cli")
        .collect();
    assert_eq!(drawn, imports(&sources("src")), "draw it again: python3 docs/architecture.py");
}
