//! Character references of HTML, decoded as Python's `html.unescape` and as ftfy do.

use htmlize::ENTITIES;

/// The longest name of a reference.
const LONGEST: usize = 32;

/// Decodes every reference, those without their semicolon included, as `html.unescape` of Python does.
pub(super) fn unescape(text: &str) -> String {
    replace(text, |rest| if rest.starts_with("&#") { numeric(rest) } else { longest_name(rest) })
}

/// Decodes only references that end in a semicolon, and names in capitals (`&EACUTE;`) as ftfy does.
pub(super) fn unescape_unambiguous(text: &str) -> String {
    replace(text, |rest| {
        let name = rest.strip_prefix('&').map(|rest| rest.strip_prefix('#').unwrap_or(rest))?;
        let length = alphanumerics(name, 24);
        if length == 0 || name.as_bytes().get(length) != Some(&b';') {
            return None;
        }
        let whole = &rest[..=rest.len() - name.len() + length];
        if whole.starts_with("&#") {
            // `&#59;` is the semicolon itself; ftfy takes it for a reference that was only half decoded.
            return numeric(whole).filter(|(length, decoded)| *length == whole.len() && decoded != ";");
        }
        let decoded = entity(whole).map(str::to_owned).or_else(|| capitals(whole))?;
        Some((whole.len(), decoded))
    })
}

/// Replaces each reference in `text`. `decode` gets the text from an ampersand on, and returns the length of
/// the reference in bytes and its meaning.
fn replace(text: &str, decode: impl Fn(&str) -> Option<(usize, String)>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let length = match decode(rest) {
            Some((length, decoded)) => {
                out.push_str(&decoded);
                length
            }
            None => {
                out.push('&');
                1
            }
        };
        rest = &rest[length..];
    }
    out + rest
}

/// The meaning of a whole reference such as `&copy;`.
fn entity(reference: &str) -> Option<&'static str> {
    ENTITIES.get(reference.as_bytes()).and_then(|decoded| std::str::from_utf8(decoded).ok())
}

/// The longest beginning of `text` that is a reference: old ones need no semicolon, so `&notit;` is `¬it;`.
fn longest_name(text: &str) -> Option<(usize, String)> {
    let letters = 1 + alphanumerics(&text[1..], LONGEST);
    let whole = letters + usize::from(text.as_bytes().get(letters) == Some(&b';'));
    (3..=whole).rev().find_map(|length| Some((length, entity(&text[..length])?.to_owned())))
}

/// A name in capitals: `&EACUTE;` is É. Only for lower-case names without a meaning in capitals.
fn capitals(reference: &str) -> Option<String> {
    if reference.bytes().any(|c| c.is_ascii_lowercase()) || longest_name(reference).is_some() {
        return None;
    }
    Some(entity(&reference.to_ascii_lowercase())?.to_uppercase())
}

/// `&#233;` or `&#xe9;`, with or without its semicolon, and with the corrections of HTML5: noncharacters are
/// left out or replaced, and the C1 controls are those of Windows-1252.
fn numeric(text: &str) -> Option<(usize, String)> {
    let (start, radix) = if text[2..].starts_with(['x', 'X']) { (3, 16) } else { (2, 10) };
    let digits = text[start..].bytes().take_while(|&c| (c as char).is_digit(radix)).count();
    if digits == 0 {
        return None;
    }
    let end = start + digits;
    // Neither is a number too great for u32 a character.
    let number = u32::from_str_radix(&text[start..end], radix).unwrap_or(u32::MAX);
    let length = end + usize::from(text.as_bytes().get(end) == Some(&b';'));
    let decoded = match number {
        0 => "\u{fffd}".to_owned(),
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => String::new(),
        _ => match char::from_u32(number).map(super::windows_1252) {
            None => "\u{fffd}".to_owned(),
            Some(_) if number & 0xfffe == 0xfffe => String::new(),
            Some(c) => c.to_string(),
        },
    };
    Some((length, decoded))
}

/// Count of the ASCII letters and digits at the beginning of `text`, at most `most`.
fn alphanumerics(text: &str, most: usize) -> usize {
    text.bytes().take(most).take_while(u8::is_ascii_alphanumeric).count()
}
