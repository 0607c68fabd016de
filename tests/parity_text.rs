//! Prompts as text embeddings, against diffusers and transformers.

use std::collections::BTreeMap;

use serde::Deserialize;
use talkie::text::clean::clean;

use crate::support::fixture;

#[derive(Deserialize)]
struct Cleaned {
    cleaned: BTreeMap<String, Vec<(String, String)>>,
}

fn cleaned() -> BTreeMap<String, Vec<(String, String)>> {
    let text = std::fs::read_to_string(fixture("text/cleaned.json")).expect("fixture");
    serde_json::from_str::<Cleaned>(&text).expect("fixture").cleaned
}

#[test]
fn prompts_are_cleaned_as_the_reference_cleans_them() {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (kind, texts) in cleaned().iter().filter(|(kind, _)| *kind != "left_alone") {
        for (text, expected) in texts {
            compared += 1;
            let found = clean(text);
            if found != *expected {
                wrong.push(format!("{kind}: {text:?}\n  expected {expected:?}\n     found {found:?}"));
            }
        }
    }
    assert!(compared >= 150, "only {compared} texts");
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
}
