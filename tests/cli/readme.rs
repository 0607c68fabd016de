//! What README.md tells people to type is what the command takes.

use crate::support::command::{Bench, Done};

const README: &str = include_str!("../../README.md");

/// The pieces of README.md in backticks, on one line.
fn spans() -> impl Iterator<Item = &'static str> {
    README.lines().filter(|line| !line.starts_with("```")).flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Every command line of `talkie` in README.md, of its shell blocks and between its sentences. `[…]` may be left out, and is not.
fn lines() -> Vec<String> {
    let mut shell = false;
    let blocks = README.lines().filter(|line| {
        if line.starts_with("```") {
            shell = *line == "```sh";
        }
        shell
    });
    let all = blocks.filter(|line| line.starts_with("talkie ")).map(str::to_owned);
    let inline = spans().filter(|span| span.starts_with("talkie ")).map(|span| span.replace(['[', ']'], ""));
    all.chain(inline).collect()
}

/// The arguments of a command line, as a shell takes it apart: words, words in quotes, and a comment.
fn arguments(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, part) in line.split('"').enumerate() {
        if number % 2 == 1 {
            found.push(part.to_owned());
            continue;
        }
        let words = part.split_whitespace();
        found.extend(words.clone().take_while(|word| !word.starts_with('#')).map(str::to_owned));
        if words.clone().any(|word| word.starts_with('#')) {
            break;
        }
    }
    assert_eq!(found.remove(0), "talkie");
    found
}

/// The help that is asked for behind a line: only a line that is in order gets as far.
fn help_behind(bench: &Bench, line: &str) -> Done {
    let arguments = arguments(line);
    bench.run(&arguments.iter().map(String::as_str).chain(["--help"]).collect::<Vec<_>>())
}

#[test]
fn every_line_to_type_is_taken() {
    let (bench, lines) = (Bench::new("wan21-t2v"), lines());
    assert!(lines.len() >= 10, "{lines:?}");
    for line in &lines {
        let done = help_behind(&bench, line);
        let command = arguments(line).remove(0);
        assert!(done.worked(&[]).stdout.contains(&format!("Usage: talkie {command}")), "`{line}`: {done}");
        let model = arguments(line).windows(2).find(|pair| pair[0] == "-m").map(|pair| pair[1].clone());
        if let Some(model) = model.filter(|model| model != "MODEL") {
            bench.run(&["models", "show", &model]).worked(&[]);
        }
    }
    // So that the above proves something: what is mistyped does not get as far.
    for line in [
        "talkie generat x",
        "talkie generate \"x\" --sede 1",
        "talkie generate x --seed one",
        "talkie inspect --json=1",
    ] {
        assert_eq!(help_behind(&bench, line).code, Some(2), "`{line}`");
    }
}

#[test]
fn every_flag_that_is_named_is_one() {
    let bench = Bench::new("wan21-t2v");
    let commands = ["generate", "resume", "decode", "models", "quantize", "inspect", "bench", "doctor"];
    let help: String = commands.iter().map(|command| bench.run(&[command, "--help"]).stdout).collect();
    let known: Vec<&str> = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).collect();
    let words = spans().flat_map(str::split_whitespace).filter(|word| word.starts_with("--"));
    let flags: Vec<&str> = words.map(|word| word.split(['=', ',']).next().unwrap_or_default()).collect();
    assert!(flags.len() >= 20, "{flags:?}");
    let unknown: Vec<&&str> = flags.iter().filter(|flag| !known.contains(*flag)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
