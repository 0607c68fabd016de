//! Things that are followed through a film.

use crate::films::{FPS, Film};
use crate::segment::{Backdrop, Blob, COLOURS, FLOOR};

/// A blob further from where a thing was than this, in pixels, is another thing.
const REACH: f64 = 16.0;
/// Pictures that a thing may be lost for and still be the same.
const LOST: usize = 6;
/// The least area that a thing begins with, in pixels.
const BEGIN: f64 = 20.0;
/// The area between small and big things: 79 and 201 are those of balls, 85 and 217 of blocks.
const BIG: f64 = 130.0;
/// The fill between balls (0.785) and blocks (1).
const BLOCK: f64 = 0.885;
/// How much of a thing that has sunk must show through the water.
const SHOWS: f64 = 0.1;

/// The largest step from one picture to the next, in pixels across and down. Nothing in this world rolls faster than 60
/// pixels a second, nor falls faster than 105 (from row 10 with 24 pixels a second under a gravity of 140, until its middle
/// is 5 above the floor); that is 3.75 and 6.6 a picture, and 1.5 more is left to the instrument.
pub(crate) const STEP: (f64, f64) = (60.0 / FPS + 1.5, 105.0 / FPS + 1.5);

/// Where a thing is in a picture, in pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) x: f64,
    pub(crate) y: f64,
}

/// One thing through a film.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) colour: &'static str,
    pub(crate) shape: &'static str,
    pub(crate) size: &'static str,
    /// From its upper to its lower edge, in pixels.
    pub(crate) height: f64,
    pub(crate) width: f64,
    /// Where it is in each picture; none where it was not found.
    pub(crate) places: Vec<Option<Place>>,
}

impl Track {
    /// The pictures in which it was found, with their numbers.
    pub(crate) fn points(&self) -> Vec<(usize, Place)> {
        self.places.iter().enumerate().filter_map(|(frame, place)| Some((frame, (*place)?))).collect()
    }

    /// Whether it is in every picture and no step is larger than [`STEP`].
    pub(crate) fn lasts(&self) -> bool {
        let near = |pair: &[Option<Place>]| match pair {
            [Some(a), Some(b)] => (a.x - b.x).abs() <= STEP.0 && (a.y - b.y).abs() <= STEP.1,
            _ => false,
        };
        self.places.windows(2).all(near)
    }
}

/// The things of a film: what is seen in at least half of its pictures.
pub(crate) fn tracks(film: &Film, backdrop: &Backdrop) -> Vec<Track> {
    let mut trails: Vec<Trail> = Vec::new();
    for (frame, picture) in film.frames.iter().enumerate() {
        let mut blobs = backdrop.blobs(picture);
        for trail in &mut trails {
            trail.follow(frame, &mut blobs);
        }
        blobs.retain(|blob| blob.area >= BEGIN);
        trails.extend(blobs.into_iter().map(|blob| Trail { blobs: vec![(frame, blob)] }));
    }
    trails.retain(|trail| trail.blobs.len() * 2 >= film.frames.len());
    trails.iter().map(|trail| trail.track(film, backdrop)).collect()
}

/// Blobs of one thing, with the numbers of their pictures.
struct Trail {
    blobs: Vec<(usize, Blob)>,
}

impl Trail {
    /// Takes the nearest blob of its colour, if any is near.
    fn follow(&mut self, frame: usize, blobs: &mut Vec<Blob>) {
        let (last, from) = self.blobs[self.blobs.len() - 1];
        if frame - last > LOST {
            return;
        }
        let away = |blob: &Blob| (blob.x - from.x).hypot(blob.y - from.y);
        let near = |blob: &Blob| blob.colour == from.colour && away(blob) <= REACH;
        let found = (0..blobs.len()).filter(|&i| near(&blobs[i]));
        if let Some(i) = found.min_by(|&a, &b| away(&blobs[a]).total_cmp(&away(&blobs[b]))) {
            self.blobs.push((frame, blobs.remove(i)));
        }
    }

    fn track(&self, film: &Film, backdrop: &Backdrop) -> Track {
        let colour = self.blobs[0].1.colour;
        let of = |pick: fn(&Blob) -> f64, blobs: &[Blob]| median(blobs.iter().map(pick).collect());
        let all: Vec<Blob> = self.blobs.iter().map(|(_, blob)| *blob).collect();
        // Under water a thing is cut off: its form is that of the pictures in which it is tall.
        let tall = all.iter().map(|blob| blob.height).fold(0.0, f64::max) * 0.85;
        let whole: Vec<Blob> = all.iter().filter(|blob| blob.height >= tall).copied().collect();
        let height = of(|blob| blob.height, &whole);
        let mut places = vec![None; film.frames.len()];
        for (frame, blob) in &self.blobs {
            places[*frame] = Some(Place { x: blob.x, y: middle(blob, height) });
        }
        self.dive(&mut places, film, backdrop);
        Track {
            colour: COLOURS[colour].0,
            shape: if of(Blob::fill, &whole) < BLOCK { "ball" } else { "block" },
            size: if of(|blob| blob.area, &whole) < BIG { "small" } else { "big" },
            width: of(|blob| blob.width, &whole),
            height,
            places,
        }
    }

    /// Places for the pictures in which it is wholly under water and shows through it.
    fn dive(&self, places: &mut [Option<Place>], film: &Film, backdrop: &Backdrop) {
        let colour = self.blobs[0].1.colour;
        for frame in 1..places.len() {
            let Some(last) = places[frame - 1].filter(|last| last.y > FLOOR - 8.0) else { continue };
            if places[frame].is_none() && backdrop.sunk(&film.frames[frame], colour, last.x) > SHOWS {
                places[frame] = Some(last);
            }
        }
    }
}

/// The row of the middle of a thing of that height: from its upper edge where the rest is under water.
fn middle(blob: &Blob, height: f64) -> f64 {
    if blob.height < height * 0.9 { blob.y - blob.height / 2.0 + height / 2.0 } else { blob.y }
}

/// The upper one of the middle values; 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
