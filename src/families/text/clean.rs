//! Cleaning of prompts, as the reference pipelines do it before they tokenize.
//!
//! `prompt_clean` of diffusers' `pipelines/wan/pipeline_wan.py` and, under it, `fix_text` of ftfy 6 (Speer,
//! 2019), step by step. Only the repair of mojibake is smaller than ftfy's: see `clean/mojibake.rs`.

mod html;
mod mojibake;

use unicode_normalization::UnicodeNormalization;

/// Rounds per line at most. Each undoes one layer of damage; ftfy repeats while anything changes, which takes
/// quadratic time on text made for it.
const ROUNDS: usize = 32;

/// A prompt as the text encoder expects it: character references decoded, mojibake and look-alike characters
/// repaired, one space between words.
///
/// Full-width punctuation becomes ASCII, so this changes even the negative prompt that the Wan models were
/// released with.
pub fn clean(prompt: &str) -> String {
    let text = html::unescape(&html::unescape(&repair(prompt)));
    // Python also counts U+001C to U+001F as white space, but none of them is left by now.
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A prompt without the white space around it, as Python's `str.strip` leaves it: all that the LTX-2
/// pipelines do.
pub fn strip(prompt: &str) -> &str {
    // Python also counts U+001C to U+001F as white space.
    prompt.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}'))
}

/// `ftfy.fix_text`: each line by itself.
fn repair(text: &str) -> String {
    let mut references = true;
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        // Text with a tag is HTML, whose references are meant literally, and so is the rest after it.
        references &= !line.contains('<');
        out.push_str(&repair_line(line, references));
    }
    out
}

fn repair_line(line: &str, references: bool) -> String {
    let mut text = line.to_owned();
    for _ in 0..ROUNDS {
        let decoded = if references { html::unescape_unambiguous(&text) } else { text.clone() };
        let plain = without_escapes(&characters(&mojibake::repair(decoded)));
        let next: String = plain.chars().filter(|&c| !is_control(c)).nfc().collect();
        if next == text {
            break;
        }
        text = next;
    }
    text
}

/// Replaces look-alikes by ordinary characters: C1 controls, ligatures, widths, curly quotes, line breaks.
fn characters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().map(windows_1252) {
        match c {
            '\u{2bc}' | '\u{2018}'..='\u{201b}' => out.push('\''),
            '\u{201c}'..='\u{201f}' => out.push('"'),
            '\r' | '\u{2028}' | '\u{2029}' => out.push('\n'),
            '\u{3000}' => out.push(' '),
            '\u{ff01}'..='\u{ffef}' => out.extend(std::iter::once(c).nfkc()),
            _ => match ligature(c) {
                Some(letters) => out.push_str(letters),
                None => out.push(c),
            },
        }
    }
    out
}

/// A C1 control as Windows-1252 reads its byte, which is HTML5's rule; any other character is unchanged.
fn windows_1252(c: char) -> char {
    match c {
        '\u{80}'..='\u{9f}' => mojibake::WINDOWS_1252[c as usize - 0x80],
        _ => c,
    }
}

/// The letters of the Latin ligatures and digraphs that come from copying and from old encodings; æ and œ are
/// letters.
fn ligature(c: char) -> Option<&'static str> {
    Some(match c {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'ŉ' => "'n",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        _ => return None,
    })
}

/// Leaves out terminal escapes: `ESC [`, numbers and semicolons, a letter.
fn without_escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        let tail = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        rest = match tail.strip_prefix(|c: char| c.is_ascii_alphabetic()) {
            Some(tail) => tail,
            None => {
                out.push_str("\u{1b}[");
                after
            }
        };
    }
    out + rest
}

/// Characters without any effect on text: ASCII controls but for white space, and the deprecated format
/// characters.
fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}')
        || matches!(c, '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}')
}
