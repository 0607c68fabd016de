//! Contacts that are seen: where things turn round.

use crate::films::FPS;
use crate::segment::{Backdrop, FLOOR};
use crate::track::{Place, Track};

/// Pixels per second squared, downwards.
const GRAVITY: f64 = 140.0;
/// Pictures on either side of a contact that say how the thing moves there.
const SIDE: usize = 4;
/// A change of speed that is less than this, in pixels per second, is no contact.
const TURN: f64 = 14.0;
/// How far, in pixels, a point may be off from the motion that it belongs to.
const OFF: f64 = 1.2;
/// How far, in seconds, a contact may seem to be outside of the two pictures that it lies between.
const SLACK: f64 = 0.3 / FPS;
/// A thing that moves less than this up and down, in pixels, rolls.
const ROLLS: f64 = 5.0;

/// A contact that is seen.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Contact {
    /// In seconds, between pictures too.
    pub(crate) time: f64,
    /// In pixels per second: what meets, before it does.
    pub(crate) speed: f64,
    /// Whether it is so hard that it must be heard: the world is silent below 22 down and 11 across.
    pub(crate) loud: bool,
}

/// Motion at a speed that does not change, but for a known acceleration.
#[derive(Debug, Clone, Copy)]
struct Motion {
    start: f64,
    speed: f64,
    acceleration: f64,
    /// The largest distance of a point that it was fitted to.
    off: f64,
}

impl Motion {
    /// The motion through points (seconds, pixels), by least squares; none of less than two.
    fn fit(points: &[(f64, f64)], acceleration: f64) -> Option<Self> {
        let count = points.len() as f64;
        let level = |&(t, x): &(f64, f64)| x - 0.5 * acceleration * t * t;
        let (t, x) = (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(level).sum::<f64>() / count);
        let spread: f64 = points.iter().map(|p| (p.0 - t).powi(2)).sum();
        let speed = points.iter().map(|p| (p.0 - t) * (level(p) - x)).sum::<f64>() / spread;
        let motion = Self { start: x - speed * t, speed, acceleration, off: 0.0 };
        let off = points.iter().map(|p| (motion.at(p.0) - p.1).abs()).fold(0.0, f64::max);
        (points.len() > 1 && spread > 0.0).then_some(Self { off, ..motion })
    }

    fn at(&self, time: f64) -> f64 {
        self.start + self.speed * time + 0.5 * self.acceleration * time * time
    }

    fn speed_at(&self, time: f64) -> f64 {
        self.speed + self.acceleration * time
    }

    /// When it first is at `x`, coming down.
    fn reaches(&self, x: f64) -> Option<f64> {
        let root = self.speed * self.speed - 2.0 * self.acceleration * (self.start - x);
        (root >= 0.0).then(|| (root.sqrt() - self.speed) / self.acceleration)
    }
}

/// What happens in a film.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Story {
    /// `bounce`, `pair`, `wall`, `collide`, or empty where it is none of these.
    pub(crate) event: &'static str,
    pub(crate) contacts: Vec<Contact>,
}

/// Reads what happens from the tracks.
pub(crate) fn story(tracks: &[Track], backdrop: &Backdrop) -> Story {
    let (fall, roll): (Vec<&Track>, Vec<&Track>) = tracks.iter().partition(|track| falls(track));
    let event = match (fall.len(), roll.len(), backdrop.wall) {
        (1, 0, None) => "bounce",
        (2, 0, None) => "pair",
        (0, 1, Some(_)) => "wall",
        (0, 2, None) => "collide",
        _ => "",
    };
    let mut contacts: Vec<Contact> = fall.iter().flat_map(|track| landings(track)).collect();
    match roll[..] {
        [one] => contacts.extend(rebound(one)),
        [a, b] => contacts.extend(meeting(a, b)),
        _ => {}
    }
    contacts.sort_by(|a, b| a.time.total_cmp(&b.time));
    Story { event, contacts }
}

fn falls(track: &Track) -> bool {
    let rows = || track.places.iter().flatten().map(|place| place.y);
    rows().fold(f64::MIN, f64::max) - rows().fold(f64::MAX, f64::min) > ROLLS
}

fn points(track: &Track, pick: impl Fn(Place) -> f64) -> Vec<(f64, f64)> {
    track.points().into_iter().map(|(frame, place)| (frame as f64 / FPS, pick(place))).collect()
}

/// The contact of a thing that rolls: what it has still to go turns round at a wall.
fn rebound(track: &Track) -> Option<Contact> {
    let start = track.points().first()?.1.x;
    turn(&points(track, |place| -(place.x - start).abs()), TURN)
}

/// The contact of two things that roll: their distance turns round where they touch.
fn meeting(a: &Track, b: &Track) -> Option<Contact> {
    let both = a.places.iter().zip(&b.places).enumerate();
    let apart = |(frame, (a, b)): (usize, (&Option<Place>, &Option<Place>))| {
        Some((frame as f64 / FPS, ((*a)?.x - (*b)?.x).abs()))
    };
    let points: Vec<(f64, f64)> = both.filter_map(apart).collect();
    let nearest = points.iter().map(|point| point.1).fold(f64::MAX, f64::min);
    turn(&points, TURN / 2.0).filter(|_| nearest < (a.width + b.width) / 2.0 + 3.0)
}

/// The contacts of something that falls: where it turns round at the floor, or goes through it, into water.
fn landings(track: &Track) -> Vec<Contact> {
    let points = points(track, |place| place.y);
    let floor = FLOOR - track.height / 2.0;
    let sinks = points.iter().position(|point| point.1 > floor + track.height * 0.25);
    if let Some(sunk) = sinks {
        // What comes after floats.
        let before: Vec<(f64, f64)> = points[..sunk].iter().copied().filter(|point| point.1 < floor - 0.3).collect();
        let fall = Motion::fit(&before[before.len().saturating_sub(SIDE)..], GRAVITY);
        return fall.and_then(|fall| landing(fall, fall.reaches(floor)?)).into_iter().collect();
    }
    let mut found: Vec<(f64, Contact)> = Vec::new();
    for at in 2..points.len() {
        let (before, after) = (&points[at.saturating_sub(SIDE)..at], &points[at..points.len().min(at + SIDE)]);
        let Some((off, contact)) = bounce(before, after, floor) else { continue };
        // One that happens at a picture is found before and after it.
        match found.last_mut().filter(|(_, last)| contact.time - last.time < 2.0 / FPS) {
            Some(last) if last.0 > off => *last = (off, contact),
            Some(_) => {}
            None => found.push((off, contact)),
        }
    }
    found.into_iter().map(|(_, contact)| contact).collect()
}

fn landing(fall: Motion, time: f64) -> Option<Contact> {
    let speed = fall.speed_at(time);
    (speed > TURN / 2.0).then_some(Contact { time, speed, loud: speed > 27.0 })
}

/// A contact between the last of the points before it and the first after it, and how far off these are from a fall and a
/// rise.
fn bounce(before: &[(f64, f64)], after: &[(f64, f64)], floor: f64) -> Option<(f64, Contact)> {
    let fall = Motion::fit(before, GRAVITY)?;
    let gap = before[before.len() - 1].0 - SLACK..=after[0].0 + SLACK;
    // Too near to the end to say how it rises, it has touched if it would be below the floor by now.
    let rise = Motion::fit(after, GRAVITY).filter(|_| after.len() > 2);
    let (time, off) = match rise {
        Some(rise) => ((rise.start - fall.start) / (fall.speed - rise.speed), fall.off.max(rise.off)),
        None => (fall.reaches(floor)?, fall.off),
    };
    let turns = rise.is_none_or(|rise| fall.speed - rise.speed > TURN && rise.speed_at(time) < 0.0);
    let low = fall.at(time) > floor - 5.0;
    (gap.contains(&time) && low && turns && off < OFF).then_some((off, landing(fall, time)?))
}

/// The contact in which a distance turns round, by more than `least` pixels per second: the sharpest turn where it is
/// shortest.
fn turn(points: &[(f64, f64)], least: f64) -> Option<Contact> {
    let shortest = (0..points.len()).min_by(|&a, &b| points[a].1.total_cmp(&points[b].1))?;
    let mut best: Option<(f64, Contact)> = None;
    for at in shortest.saturating_sub(1).max(2)..points.len().saturating_sub(1).min(shortest + 3) {
        let before = Motion::fit(&points[at.saturating_sub(SIDE + 1)..at], 0.0)?;
        let after = Motion::fit(&points[at..points.len().min(at + SIDE + 1)], 0.0)?;
        let time = (after.start - before.start) / (before.speed - after.speed);
        let change = after.speed - before.speed;
        let inside = (points[at - 1].0 - SLACK..=points[at].0 + SLACK).contains(&time);
        if inside && change > least && before.speed < 0.0 && after.speed > 0.0 {
            let contact = Contact { time, speed: -before.speed, loud: true };
            best = best.filter(|(most, _)| *most >= change).or(Some((change, contact)));
        }
    }
    best.map(|(_, contact)| contact)
}
