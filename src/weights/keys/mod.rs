//! Names of tensors in the authors' files, and their names in diffusers.
//!
//! Layouts are tables, one file per family. Names are split at dots, and the rest after the name of a layer
//! stays: `blocks.0.self_attn.q.scale_weight` becomes `blocks.0.attn1.to_q.scale_weight`.

mod gemma;
mod ltx;
mod t5;
mod wan;

pub use gemma::{GEMMA3, GEMMA3_LLAMA};
pub use ltx::{LTX, LTX_ALONE};
pub use t5::{UMT5_COMFY, UMT5_LLAMA, UMT5_ORIGINAL};
pub use wan::{WAN_TRANSFORMER, WAN_TRANSFORMER_DIFFUSERS, WAN_VAE, WAN_VAE_2_2, WAN_VAE_DIFFUSERS};

/// All known layouts. No file matches two of them.
pub const LAYOUTS: &[&Layout] = &[
    &LTX,
    &LTX_ALONE,
    &WAN_TRANSFORMER,
    &WAN_TRANSFORMER_DIFFUSERS,
    &WAN_VAE,
    &WAN_VAE_2_2,
    &WAN_VAE_DIFFUSERS,
    &UMT5_ORIGINAL,
    &UMT5_LLAMA,
    &UMT5_COMFY,
    &GEMMA3_LLAMA,
    &GEMMA3,
];

/// A layout of files: the part of a model and the name in diffusers of each tensor.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// The model and the author of the layout, for messages.
    pub title: &'static str,
    /// Tensors that together only files of this layout have.
    pub marks: &'static [&'static str],
    /// Prefixes that programs add to all names, with the dot. The longest match is stripped before the tables
    /// apply.
    pub outer: &'static [&'static str],
    /// The parts.
    pub parts: &'static [Part],
    /// Unused tensors, by the first or last words of their names.
    pub unused: &'static [&'static str],
    /// Tensors stored as diffusers' values plus 1, by the endings of their names in diffusers.
    pub raised: &'static [&'static str],
}

/// The names of one part.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name in a diffusers folder.
    pub name: &'static str,
    /// Prefixes in the file, and their replacements. The longest match over all parts wins.
    pub prefixes: &'static [(&'static str, &'static str)],
    /// Other renames, of one or several words between dots. The first match at a place wins.
    pub renames: &'static [(&'static str, &'static str)],
}

/// The place of a file's tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a part, by its name in diffusers.
    Of(&'static str, String),
    /// Known and unused.
    Unused,
    /// Of another layout.
    Foreign,
}

/// One part's names in a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// The layout.
    pub layout: &'static Layout,
    /// The part.
    pub part: &'static str,
}

/// The layout of a file, or of several together; `has` is whether they have a tensor.
pub fn recognise(has: &dyn Fn(&str) -> bool) -> Option<&'static Layout> {
    LAYOUTS.iter().copied().find(|layout| layout.fits(has))
}

impl Layout {
    /// Whether a file is of this layout; `has` is whether it has a tensor.
    pub fn fits(&self, has: &dyn Fn(&str) -> bool) -> bool {
        let marked = |outer: &str| self.marks.iter().all(|mark| has(&format!("{outer}{mark}")));
        marked("") || self.outer.iter().any(|outer| marked(outer))
    }

    /// The place of a tensor of a file.
    pub fn place(&self, name: &str) -> Place {
        let inner = self.outer.iter().filter_map(|outer| name.strip_prefix(outer));
        let name = inner.min_by_key(|rest| rest.len()).unwrap_or(name);
        if self.unused.iter().any(|words| begins(name, words) || ends(name, words)) {
            return Place::Unused;
        }
        let starts = |part: &'static Part| part.prefixes.iter().map(move |(from, to)| (part, *from, *to));
        let found = self.parts.iter().flat_map(starts).filter(|(_, from, _)| name.starts_with(from));
        let Some((part, from, to)) = found.max_by_key(|(_, from, _)| from.len()) else { return Place::Foreign };
        Place::Of(part.name, format!("{to}{}", renamed(&name[from.len()..], part.renames)))
    }
}

impl Layout {
    /// The name in the file of a tensor by its name in diffusers; `None` if files of the layout do not have
    /// it.
    pub fn name_of(&self, name: &str) -> Option<String> {
        let ends = |part: &'static Part| part.prefixes.iter().map(move |(from, to)| (part, *from, *to));
        let possible = self.parts.iter().flat_map(ends).filter(|(.., to)| name.starts_with(to));
        let named = possible.map(|(part, from, to)| {
            let back: Vec<(&str, &str)> = part.renames.iter().map(|(from, to)| (*to, *from)).collect();
            (part, format!("{from}{}", renamed(&name[to.len()..], &back)))
        });
        let same = |part: &Part, theirs: &str| self.place(theirs) == Place::Of(part.name, name.to_owned());
        named.filter(|(part, theirs)| same(part, theirs)).map(|(_, theirs)| theirs).next()
    }
}

impl Names {
    /// The name in diffusers of a tensor of the part.
    pub fn of(&self, name: &str) -> Option<String> {
        match self.layout.place(name) {
            Place::Of(part, name) if part == self.part => Some(name),
            _ => None,
        }
    }
}

fn begins(name: &str, words: &str) -> bool {
    name.strip_prefix(words).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn ends(name: &str, words: &str) -> bool {
    name.strip_suffix(words).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn renamed(name: &str, rules: &[(&str, &str)]) -> String {
    let mut made = Vec::new();
    let mut rest = Some(name);
    while let Some(name) = rest {
        let rule = rules.iter().find_map(|(from, to)| match name.strip_prefix(from)? {
            "" => Some((*to, None)),
            after => Some((*to, Some(after.strip_prefix('.')?))),
        });
        let (word, after) = rule.unwrap_or_else(|| match name.split_once('.') {
            Some((word, after)) => (word, Some(after)),
            None => (name, None),
        });
        made.push(word);
        rest = after;
    }
    made.join(".")
}
