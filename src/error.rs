//! The error type: what was being done, why it failed, and what to try next.

use std::fmt;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The kind of an [`Error`], which decides the exit code of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The request itself cannot be carried out: exit code 2.
    Usage,
    /// Something failed on the way: exit code 1.
    Failed,
    /// The user, or the callback, asked to stop: exit code 130.
    Stopped,
}

/// An error: what failed, its cause and a hint.
///
/// `Display` prints only what was being done; [`std::error::Error::source`] is the cause, [`Error::advice`]
/// the hint. [`Error::report`] has all three, as the command prints them.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    hint: Option<String>,
    cause: Option<Cause>,
}

impl Error {
    /// Adds to an error of candle where it happened. Other errors name their place themselves.
    #[must_use]
    pub(crate) fn within(mut self, place: &str) -> Self {
        if self.what == TENSOR {
            self.what = format!("{TENSOR} in {place}");
        }
        self
    }

    /// A wrong request: an absurd number, an unknown name, two options that exclude each other.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }

    /// A failure on the way: a file, a network, a device, a value that is not finite.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Kind::Failed, what)
    }

    /// The user, or the callback, asked to stop.
    pub fn stopped(what: impl Into<String>) -> Self {
        Self::new(Kind::Stopped, what)
    }

    fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), hint: None, cause: None }
    }

    /// Adds the cause. A talkie error as cause passes its kind on, so that a stop stays a stop.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        let cause = cause.into();
        if let Some(inner) = cause.downcast_ref::<Self>() {
            self.kind = inner.kind;
        }
        self.cause = Some(cause);
        self
    }

    /// Adds a hint: what to type or check next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The hint of this error, or of the nearest cause that has one.
    pub fn advice(&self) -> Option<&str> {
        let below = || self.cause.as_deref()?.downcast_ref::<Self>()?.advice();
        self.hint.as_deref().or_else(below)
    }

    /// All of it in several lines: what, because (each cause), try (the hint).
    pub fn report(&self) -> String {
        let mut text = format!("error: {self}");
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            text.push_str(&format!("\n  because: {inner}"));
            cause = inner.source();
        }
        if let Some(hint) = self.advice() {
            text.push_str(&format!("\n  try: {hint}"));
        }
        // Names from foreign files may hold terminal control characters.
        text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

impl From<candle_core::Error> for Error {
    fn from(cause: candle_core::Error) -> Self {
        Self::failed(TENSOR).because(cause)
    }
}

/// What an error of candle says. The stage that it came out of adds where: see [`Error::within`].
const TENSOR: &str = "a tensor operation failed";

/// Adds to an error what was being done.
pub trait Context<T> {
    /// Wraps the error; `what` is only called if there is one.
    ///
    /// # Errors
    /// A [`Kind::Failed`] error of `what`, with the original as its cause.
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Cause>> Context<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|cause| Error::failed(what()).because(cause))
    }
}

/// The names most similar to `word`, nearest first, at most three: for "did you mean".
///
/// Similar is an edit distance (Levenshtein, in characters) of at most a third of the word, or 2 for short
/// words.
pub fn nearest<'a>(word: &str, names: &[&'a str]) -> Vec<&'a str> {
    // A longer word is not a typo, and the distance costs the product of both lengths.
    const LONGEST: usize = 100;
    let length = word.chars().take(LONGEST + 1).count();
    if length > LONGEST {
        return Vec::new();
    }
    let mut near: Vec<(usize, &str)> = names.iter().map(|&name| (edit_distance(word, name), name)).collect();
    near.retain(|(distance, _)| *distance <= (length / 3).max(2));
    near.sort_by_key(|(distance, _)| *distance);
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Levenshtein distance, one row of the table at a time.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
