//! Mojibake: UTF-8 that was read as Latin-1 or Windows-1252, as in `cafÃ©` and `itâ€™s`.
//!
//! ftfy recognises it by a long list of unlikely pairs of characters, in ten code pages. This rule is
//! smaller, with the same effect where it matters: a line is repaired when some sequence in it is valid UTF-8
//! in Windows-1252 and could hardly have been written on purpose ([`unmistakable`]). When all of the line is
//! valid UTF-8, all of it is decoded; otherwise only the runs of such sequences. Good text comes first: in
//! doubt it is left alone, `CAFÉ†` and `“qué”¿cómo?` too, which ftfy damages. A few sequences that ftfy
//! misses are repaired as well (`PrÃ¸v Ã¥`, Armenian).
//!
//! Left alone on purpose, where ftfy would act: the other code pages (Windows-1250, 1251, 1253, 1254 and
//! 1257, ISO 8859-2, Mac Roman, DOS 437), surrogates written as UTF-8, the N'Ko script, and bytes that were
//! lost to a question mark.

/// Windows-1252 from 0x80 to 0x9f, where Latin-1 has the C1 controls. Its five holes stay controls.
pub(super) const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', //
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Placeholder for a lost byte: U+FFFD in the text.
const LOST: u8 = 0x1a;

/// Layers undone at once, at most.
const LAYERS: usize = 8;

/// Decodes the mojibake of a line, layer by layer.
pub(super) fn repair(mut line: String) -> String {
    for _ in 0..LAYERS {
        match undo(&line) {
            Some(next) => line = next,
            None => break,
        }
    }
    line
}

/// Characters that are one UTF-8 sequence when they are read as bytes.
struct Sequence {
    start: usize,
    length: usize,
    decoded: char,
    unmistakable: bool,
}

/// Undoes one layer, where there is one.
fn undo(line: &str) -> Option<String> {
    if line.is_ascii() {
        return None;
    }
    let text: Vec<char> = line.chars().collect();
    let bytes: Vec<Option<u8>> = text.iter().map(|&c| byte(c)).collect();
    let (sequences, consistent) = sequences(&text, &bytes);
    let runs: Vec<&[Sequence]> = sequences.chunk_by(|a, b| a.start + a.length == b.start).collect();
    let certain = |run: &[Sequence]| run.len() > 2 || run.iter().any(|sequence| sequence.unmistakable);
    if !runs.iter().any(|run| certain(run)) {
        return None;
    }
    // The end of a garble that cannot be decoded as a whole would only become another garble.
    let apart = |run: &[Sequence]| run[0].start == 0 || !matches!(bytes[run[0].start - 1], Some(0x80..=0xbf));
    let chosen = runs.into_iter().filter(|run| consistent || certain(run) && apart(run)).flatten();
    Some(substitute(&text, chosen))
}

/// Possible UTF-8 sequences, and whether the rest is only ASCII and lost characters.
fn sequences(text: &[char], bytes: &[Option<u8>]) -> (Vec<Sequence>, bool) {
    let (mut found, mut consistent, mut start) = (Vec::new(), true, 0);
    while start < text.len() {
        let Some((length, decoded)) = decode(&bytes[start..]) else {
            consistent &= text[start].is_ascii() || text[start] == char::REPLACEMENT_CHARACTER;
            start += 1;
            continue;
        };
        let (before, after) = (start.checked_sub(1).map(|index| text[index]), text.get(start + length).copied());
        // `à` alone was found by the space after it.
        let unmistakable = unmistakable(before, &text[start..start + length.max(2)], after);
        found.push(Sequence { start, length, decoded, unmistakable });
        start += length;
    }
    (found, consistent)
}

/// Replaces each sequence, in the order of the text, by the character it decodes to.
fn substitute<'a>(text: &[char], sequences: impl Iterator<Item = &'a Sequence>) -> String {
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    for sequence in sequences {
        out.extend(&text[done..sequence.start]);
        out.push(sequence.decoded);
        done = sequence.start + sequence.length;
    }
    out.extend(&text[done..]);
    out
}

/// The byte of `c` in Windows-1252 or Latin-1.
fn byte(c: char) -> Option<u8> {
    match c {
        char::REPLACEMENT_CHARACTER => Some(LOST),
        '\u{1a}' => None,
        '\0'..='\u{ff}' => Some(c as u8),
        _ => WINDOWS_1252.iter().position(|&other| other == c).map(|index| 0x80 + index as u8),
    }
}

/// The UTF-8 sequence of more than one byte that `bytes` begins with: its length and its character.
fn decode(bytes: &[Option<u8>]) -> Option<(usize, char)> {
    let lead = bytes[0]?;
    let length = match lead {
        0xc2..=0xde => 2, // 0xdf is ß, which ends German words, and leads only to N'Ko
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let mut sequence = [0; 4];
    for (place, byte) in sequence.iter_mut().zip(bytes.get(..length)?) {
        *place = (*byte)?;
    }
    let sequence = &mut sequence[..length];
    let tail = &sequence[1..];
    if tail.contains(&LOST) && tail.iter().all(|byte| matches!(byte, &LOST | 0x80..=0xbf)) {
        return Some((length, char::REPLACEMENT_CHARACTER));
    }
    if tail.contains(&b' ') {
        restore_space(sequence)?;
        if lead == 0xc3 && keeps_space(&bytes[2..]) {
            return Some((1, 'à'));
        }
    }
    let decoded = std::str::from_utf8(sequence).ok()?.chars().next()?;
    Some((length, decoded))
}

/// Turns a space back into the byte 0xa0, a no-break space that was replaced, where that makes a likely
/// character.
fn restore_space(sequence: &mut [u8]) -> Option<()> {
    let continues = |byte: u8| matches!(byte, 0x80..=0x84 | 0x86..=0x9f | 0xa1..=0xbf);
    let likely = match *sequence {
        [lead, b' '] => matches!(lead, 0xc2 | 0xc3 | 0xc5 | 0xce | 0xd0 | 0xd9),
        [lead, b' ', last] => matches!(lead, 0xe2 | 0xe3) && continues(last),
        [lead, middle, b' '] => matches!(lead, 0xe0..=0xe3) && continues(middle),
        [lead, ref tail @ ..] => lead == 0xf0 && tail.iter().filter(|&&byte| byte == b' ').count() == 1,
        [] => false,
    };
    likely.then(|| sequence.iter_mut().filter(|byte| **byte == b' ').for_each(|byte| *byte = 0xa0))
}

/// Whether `Ã` and a space are the word `à` and the space after it, not `à` alone: always, except before
/// another space and in the Portuguese contractions (`àquele`, `às`).
fn keeps_space(after: &[Option<u8>]) -> bool {
    let begins = |word: &str| after.len() >= word.len() && word.bytes().zip(after).all(|(a, b)| Some(a) == *b);
    ![" ", "quele", "quela", "quilo", "s "].into_iter().any(begins)
}

/// Whether `sequence`, valid UTF-8 as bytes, could hardly have been written on purpose between these two
/// characters.
fn unmistakable(before: Option<char>, sequence: &[char], after: Option<char>) -> bool {
    let small = before.is_some_and(char::is_lowercase);
    let large = before.is_some_and(char::is_uppercase);
    let within = after.is_some_and(char::is_alphabetic);
    match *sequence {
        ['Ã', ' '] => small || before.is_none(),
        ['Â', ' '] => small || before.is_none_or(|c| ".,?!".contains(c)),
        ['Â' | 'Ã', mark] => !CLOSING.contains(mark) || small || within && mark != '’',
        ['×', mark] => never_after_a_letter(mark) && byte(mark) < Some(0xb0),
        [_, ' '] => false,
        [_, mark] => {
            never_after_a_letter(mark)
                || CURRENCY.contains(mark) && !large
                || (OPENING.contains(mark) || NOTES.contains(mark)) && small
                || within && (!JOINING.contains(mark) || small && !HYPHENS.contains(mark))
        }
        [_, first, second] => {
            never_after_a_letter(first)
                || CURRENCY.contains(first)
                || first == 'º'
                || first == 'œ' && !second.is_alphabetic()
                || NOTES.contains(second) && within
                || never_after_a_letter(second) && !OPENING.contains(second)
        }
        [_, ref tail @ ..] => tail.iter().any(|&mark| never_after_a_letter(mark)),
        [] => false,
    }
}

/// Marks that may end a word or follow its end.
const CLOSING: &str = "’”“»›…–—™®\u{a0}";
/// Marks that may stand between a letter and another letter, letters among them.
const JOINING: &str = "’‘–—…·´¨²³¹ªº§šžœŠŽŒŸƒ\u{a0}\u{ad}";
/// The subset that is fine even inside a word, after an accidental capital letter: `CafÉ’s`.
const HYPHENS: &str = "’–—…·´\u{a0}\u{ad}";
/// Marks that begin something.
const OPENING: &str = "‚„‹•©¡¿";
/// Footnote marks: good text has them after capitals, never inside a word.
const NOTES: &str = "†‡";
const CURRENCY: &str = "¢£¥€";

/// Marks that nobody puts right after an accented letter.
fn never_after_a_letter(mark: char) -> bool {
    matches!(mark, '\u{80}'..='\u{9f}') || "¤¦¬¯°±µ¶¸¼½¾¡¿ƒˆ‰˜Ÿ\u{fffd}".contains(mark)
}
