//! The one error type: what was being done, why it failed, and what to try next.

use std::fmt;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What sort of failure an [`Error`] is. It decides the exit code of the command.
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

/// An error that names the thing, the cause and what to do next.
///
/// `Display` prints only what was being done; [`std::error::Error::source`] is the cause and [`Error::hint`] the advice.
/// [`Error::report`] prints all three, as the command does.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    hint: Option<String>,
    cause: Option<Cause>,
}

impl Error {
    /// The request is wrong: an absurd number, an unknown name, two options that exclude each other.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }

    /// The work failed: a file, a network, a device, a number that is not finite.
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

    /// Adds the error underneath. The kind of a talkie error underneath is kept, so that a stop stays a stop.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        let cause = cause.into();
        if let Some(inner) = cause.downcast_ref::<Self>() {
            self.kind = inner.kind;
        }
        self.cause = Some(cause);
        self
    }

    /// Adds what to do next, as something that can be typed or checked.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The advice of this error, or of the nearest one underneath that has any.
    pub fn advice(&self) -> Option<&str> {
        let below = || self.cause.as_deref()?.downcast_ref::<Self>()?.advice();
        self.hint.as_deref().or_else(below)
    }

    /// The whole story over several lines: what, because (each cause), and what to try.
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
        // Names from foreign files are in it, and a terminal obeys some characters.
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
        Self::failed("a tensor operation failed").because(cause)
    }
}

/// Says what was being done when a result turns out to be an error.
pub trait Context<T> {
    /// Wraps the error: `what` is only built when there is one.
    ///
    /// # Errors
    /// The same error, underneath a [`Kind::Failed`] one that says what was being done.
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Cause>> Context<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|cause| Error::failed(what()).because(cause))
    }
}

/// The names that look like `word`, nearest first, at most three: for "did you mean".
///
/// Near is an edit distance (Levenshtein, in characters) of at most a third of the word, and of 2 for short words.
pub fn nearest<'a>(word: &str, names: &[&'a str]) -> Vec<&'a str> {
    // A word that long is not a slip of the finger, and the distance costs the product of both lengths.
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

/// Characters to insert, delete or replace to turn `a` into `b`, one row of the table at a time.
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
