//! A prompt with structure in LTX-2's words: one paragraph of prose, with what is said in quotation marks.

use crate::request::{Line, Request};

/// The prompt of a request, with its dialogue, sounds and music. A plain prompt stays as it is.
pub fn render(request: &Request) -> String {
    let mut parts = Vec::new();
    parts.extend(request.dialogue.iter().map(spoken));
    if let Some(sounds) = enumeration(&request.sounds) {
        parts.push(format!("The sounds heard are {sounds}."));
    }
    if let Some(music) = request.music.as_deref().map(bare).filter(|music| !music.is_empty()) {
        parts.push(format!("The music is {music}."));
    }
    if parts.is_empty() {
        return request.prompt.clone();
    }
    parts.insert(0, sentence(&request.prompt));
    parts.retain(|part| !part.is_empty());
    parts.join(" ")
}

/// `The old man says in a tired voice: "…"`
fn spoken(line: &Line) -> String {
    let voice = line.voice.as_deref().map(bare).filter(|voice| !voice.is_empty());
    let voice = voice.map_or_else(String::new, |voice| format!(" {voice}"));
    // The words end where the marks do: quotation marks within them would say otherwise.
    let words = line.text.trim().replace(['"', '“', '”'], "'");
    format!("{} says{voice}: \"{words}\"", capitalised(bare(&line.speaker)))
}

/// The text with a full stop, unless it ends a sentence already.
fn sentence(text: &str) -> String {
    let text = text.trim();
    let ends = text.is_empty() || text.ends_with(['.', '!', '?', '…', '"', '”']);
    if ends { text.to_owned() } else { format!("{text}.") }
}

/// `rain, wind and a dog that barks twice`
fn enumeration(items: &[String]) -> Option<String> {
    let items: Vec<&str> = items.iter().map(|item| bare(item)).filter(|item| !item.is_empty()).collect();
    let (last, others) = items.split_last()?;
    Some(if others.is_empty() { (*last).to_owned() } else { format!("{} and {last}", others.join(", ")) })
}

/// The text without what surrounds a part of a sentence.
fn bare(text: &str) -> &str {
    text.trim().trim_end_matches(['.', ',', ';', ':'])
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
