//! What is observed in a film, and how it compares with what it should show.

use serde::Serialize;
use talkie::error::Result;

use crate::contacts::{Contact, story};
use crate::films::{FPS, Film, Scene, Thing};
use crate::material::Materials;
use crate::onsets::onsets;
use crate::segment::Backdrop;
use crate::track::{Track, tracks};

/// A contact is heard, and an onset seen, where they are at most a picture apart, in seconds.
const MATCH: f64 = 1.0 / FPS;
/// What happens before the first and after this time, in seconds, cannot be seen and heard to the end.
const SPAN: std::ops::Range<f64> = 0.05..1.93;

/// What the instruments see and hear in a film, whatever it should show.
#[derive(Debug)]
pub(crate) struct Observation {
    pub(crate) tracks: Vec<Track>,
    pub(crate) wall: Option<&'static str>,
    pub(crate) event: &'static str,
    pub(crate) contacts: Vec<Contact>,
    /// In seconds.
    pub(crate) onsets: Vec<f64>,
    pub(crate) material: Option<String>,
    /// Whether there are things, and each is in every picture, without a leap.
    pub(crate) lasts: bool,
}

impl Observation {
    /// Observes a film.
    ///
    /// # Errors
    /// Those of candle.
    pub(crate) fn of(film: &Film, materials: &Materials) -> Result<Self> {
        let backdrop = Backdrop::of(film);
        let tracks = tracks(film, &backdrop);
        let story = story(&tracks, &backdrop);
        let onsets = onsets(&film.sound)?;
        let material = materials.tell(&film.sound, &onsets)?.map(str::to_owned);
        let lasts = !tracks.is_empty() && tracks.iter().all(Track::lasts);
        let (event, contacts) = (story.event, story.contacts);
        Ok(Self { tracks, wall: backdrop.wall, event, contacts, onsets, material, lasts })
    }

    /// Where the first thing moves at first.
    fn heading(&self) -> Option<&'static str> {
        let points = self.tracks.first()?.points();
        let (first, later) = (points.first()?.1.x, points.get(6)?.1.x);
        Some(if later > first { "right" } else { "left" })
    }
}

/// How a film does. What a scene does not ask for is none.
#[derive(Debug, Clone, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a row of the table")]
pub(crate) struct Score {
    pub(crate) file: String,
    pub(crate) prompt: String,
    pub(crate) held_out: bool,
    /// Each thing that is seen: its colour, shape and size.
    pub(crate) things: Vec<[&'static str; 3]>,
    pub(crate) colours: bool,
    pub(crate) shapes: bool,
    pub(crate) number: bool,
    /// Whether the named things are there, each with its colour and shape, and nothing else.
    pub(crate) all: bool,
    pub(crate) sizes: Option<bool>,
    pub(crate) side: Option<bool>,
    pub(crate) event: bool,
    /// The event that is seen.
    pub(crate) seen: &'static str,
    pub(crate) lasts: bool,
    pub(crate) contacts: Vec<Contact>,
    pub(crate) onsets: Vec<f64>,
    /// For each contact that must be heard, whether it is.
    pub(crate) heard: Vec<bool>,
    /// For each onset, whether a contact is seen.
    pub(crate) shown: Vec<bool>,
    /// Of those that are heard, how much later, in seconds.
    pub(crate) lags: Vec<f64>,
    pub(crate) material: Option<bool>,
    pub(crate) click: Option<bool>,
    /// The material that is heard.
    pub(crate) told: Option<String>,
}

/// Scores what was observed against a scene.
pub(crate) fn score(seen: &Observation, scene: &Scene) -> Score {
    let things: Vec<[&str; 3]> = seen.tracks.iter().map(|track| [track.colour, track.shape, track.size]).collect();
    let named: Vec<[&str; 3]> = scene.things.iter().map(names).collect();
    let number = things.len() == named.len();
    let sized: Vec<&Thing> = scene.things.iter().filter(|thing| scene.names_size(thing)).collect();
    let fits = |thing: &&Thing| things.iter().any(|[colour, _, size]| *colour == thing.colour && *size == thing.size);
    let side = scene.wall.as_deref().map(|wall| seen.wall == Some(wall) && seen.heading() == Some(wall));
    let told = seen.material.as_deref() == Some(scene.sound());
    let glass = scene.sound() == "glass";
    let lag = |contact: &Contact| {
        let lags = seen.onsets.iter().map(|onset| onset - contact.time);
        lags.min_by(|a, b| a.abs().total_cmp(&b.abs())).filter(|lag| lag.abs() <= MATCH)
    };
    let loud: Vec<&Contact> =
        seen.contacts.iter().filter(|contact| contact.loud && SPAN.contains(&contact.time)).collect();
    let near = |onset: &&f64| seen.contacts.iter().any(|contact| (contact.time - **onset).abs() <= MATCH);
    Score {
        file: scene.file.clone(),
        prompt: scene.prompt.clone(),
        held_out: scene.held_out,
        colours: holds(&things, &named, |thing| vec![thing[0]]),
        shapes: holds(&things, &named, |thing| vec![thing[1]]),
        number,
        all: number && holds(&things, &named, |thing| thing[..2].to_vec()),
        sizes: (!sized.is_empty()).then(|| sized.iter().all(fits)),
        side,
        event: seen.event == scene.event,
        seen: seen.event,
        lasts: seen.lasts,
        heard: loud.iter().map(|contact| lag(contact).is_some()).collect(),
        shown: seen.onsets.iter().filter(|onset| SPAN.contains(onset)).map(|onset| near(&onset)).collect(),
        lags: loud.iter().filter_map(|contact| lag(contact)).collect(),
        material: (!glass).then_some(told),
        click: glass.then_some(told),
        told: seen.material.clone(),
        contacts: seen.contacts.clone(),
        onsets: seen.onsets.clone(),
        things,
    }
}

fn names(thing: &Thing) -> [&str; 3] {
    [&thing.colour, &thing.shape, &thing.size]
}

/// Whether for each that is named there is another that is seen, by what `pick` looks at.
fn holds<'a>(seen: &[[&'a str; 3]], named: &[[&'a str; 3]], pick: impl Fn(&[&'a str; 3]) -> Vec<&'a str>) -> bool {
    let mut seen: Vec<_> = seen.iter().map(&pick).collect();
    named.iter().all(|one| {
        let found = seen.iter().position(|other| *other == pick(one));
        found.map(|at| seen.swap_remove(at)).is_some()
    })
}
