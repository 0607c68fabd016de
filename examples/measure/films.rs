//! Films to measure, and the scenes that they should show.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use talkie::audio::resample::{Ends, resample};
use talkie::error::{Context, Error, Result};

/// The side of a picture of the little world, in pixels.
pub(crate) const SIDE: usize = 64;
/// Frames per second of the little world.
pub(crate) const FPS: f64 = 16.0;
/// Samples per second of its sound.
pub(crate) const RATE: u32 = 16_000;

/// One ball or block of a scene.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Thing {
    pub(crate) colour: String,
    pub(crate) shape: String,
    pub(crate) size: String,
}

/// One touch that is heard.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Touch {
    /// What it sounds of: a material, or `glass` for two things that collide.
    pub(crate) sound: String,
}

/// What a film should show: an entry of `scenes.json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Scene {
    /// The file of the rendered clip, beside `scenes.json`; also that of a film of this prompt in another folder.
    pub(crate) file: String,
    pub(crate) prompt: String,
    /// Whether the combination was kept from training.
    pub(crate) held_out: bool,
    /// `bounce`, `pair`, `wall` or `collide`.
    pub(crate) event: String,
    pub(crate) wall: Option<String>,
    pub(crate) things: Vec<Thing>,
    pub(crate) contacts: Vec<Touch>,
}

impl Scene {
    /// What its touches sound of.
    pub(crate) fn sound(&self) -> &str {
        self.contacts.first().map_or("", |touch| &touch.sound)
    }

    /// Whether the prompt says how big a thing is: a word of size right before the colour.
    pub(crate) fn names_size(&self, thing: &Thing) -> bool {
        let prompt = self.prompt.to_lowercase();
        let words: Vec<&str> = prompt.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).collect();
        let sizes = ["small", "little", "tiny", "big", "large", "huge"];
        words.windows(2).any(|pair| sizes.contains(&pair[0]) && pair[1] == thing.colour)
    }
}

/// Pictures and sound in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Film {
    /// Each picture row by row, red, green and blue from 0 to 255.
    pub(crate) frames: Vec<Vec<[f32; 3]>>,
    /// Both ears together, at [`RATE`].
    pub(crate) sound: Vec<f32>,
}

/// The scenes of a folder.
pub(crate) fn scenes(folder: &Path) -> Result<Vec<Scene>> {
    let path = folder.join("scenes.json");
    let hint = "make it with `python models/toybox/recipe/render.py FOLDER`";
    let text = std::fs::read(&path).context(|| format!("cannot read the scenes of {}", path.display()));
    let text = text.map_err(|error| error.hint(hint))?;
    let scenes: Vec<Scene> = serde_json::from_slice(&text)
        .context(|| format!("these are no scenes: {}", path.display()))
        .map_err(|error| error.hint(hint))?;
    // A name from a file must not lead out of the folders that were given.
    let plain = |scene: &Scene| Path::new(&scene.file).file_name() == Some(scene.file.as_ref());
    match scenes.iter().find(|scene| !plain(scene)) {
        Some(scene) => Err(Error::failed(format!("`{}` is no name of a clip, in {}", scene.file, path.display()))),
        None => Ok(scenes),
    }
}

/// `count` scenes, two of three of combinations that were trained on, in the order of the file; all of them for none.
pub(crate) fn choose(scenes: &[Scene], count: Option<usize>) -> Vec<Scene> {
    let Some(count) = count else { return scenes.to_vec() };
    let held = count / 3;
    let take = |held_out, most| scenes.iter().filter(move |scene| scene.held_out == held_out).take(most);
    take(false, count - held).chain(take(true, held)).cloned().collect()
}

impl Film {
    /// Reads `frames` (frames, 64, 64, 3), bytes or floats from 0 to 1, and `sound` (channels, samples) at 16 kHz.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let failed = || format!("cannot read the film {}", path.display());
        let tensors = candle_core::safetensors::load(path, &Device::Cpu).context(failed)?;
        Self::of(&tensors).context(failed)
    }

    fn of(tensors: &HashMap<String, Tensor>) -> Result<Self> {
        let find = |name: &str| tensors.get(name).ok_or_else(|| Error::failed(format!("there is no `{name}` in it")));
        let (frames, sound) = (find("frames")?, find("sound")?);
        let shape = frames.dims();
        if shape.len() != 4 || shape[0] < 2 || shape[1..] != [SIDE, SIDE, 3] {
            return Err(Error::failed(format!("its frames are {shape:?}, not (frames, {SIDE}, {SIDE}, 3)")));
        }
        if sound.rank() != 2 || sound.dim(0)? == 0 {
            return Err(Error::failed(format!("its sound is {:?}, not (channels, samples)", sound.dims())));
        }
        let scale = if frames.dtype() == DType::U8 { 1.0 } else { 255.0 };
        let values = (frames.to_dtype(DType::F32)? * scale)?.flatten_all()?.to_vec1::<f32>()?;
        let picture = |values: &[f32]| values.as_chunks::<3>().0.to_vec();
        Ok(Self {
            frames: values.chunks(SIDE * SIDE * 3).map(picture).collect(),
            sound: sound.to_dtype(DType::F32)?.mean(0)?.to_vec1()?,
        })
    }

    /// The same of a film that was generated.
    pub(crate) fn generated(film: &talkie::Film) -> Result<Self> {
        let fits = |frame: &talkie::media::Rgb| (frame.width as usize, frame.height as usize) == (SIDE, SIDE);
        if film.frames.len() < 2 || !film.frames.iter().all(fits) {
            return Err(Error::failed(format!("the model makes no films of {SIDE}x{SIDE} pixels"))
                .hint("the instruments know the little world only: use the model in the box"));
        }
        let picture = |frame: &talkie::media::Rgb| {
            frame.data.as_chunks::<3>().0.iter().map(|pixel| pixel.map(f32::from)).collect()
        };
        let mut sound = Vec::new();
        if let Some(waveform) = &film.waveform {
            let channels = waveform.channels.len() as f32;
            let mean = |i: usize| waveform.channels.iter().map(|channel| channel[i]).sum::<f32>() / channels;
            let samples: Vec<f32> = (0..waveform.len()).map(mean).collect();
            sound = match waveform.rate {
                RATE => samples,
                rate => resample(&samples, rate, RATE, Ends::Silent),
            };
        }
        Ok(Self { frames: film.frames.iter().map(picture).collect(), sound })
    }

    /// Writes it as [`Film::read`] reads it.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let bytes: Vec<u8> = self.frames.iter().flatten().flatten().map(|&value| value.round() as u8).collect();
        let frames = Tensor::from_vec(bytes, (self.frames.len(), SIDE, SIDE, 3), &Device::Cpu)?;
        let sound = Tensor::from_slice(&self.sound, (1, self.sound.len()), &Device::Cpu)?;
        let tensors = HashMap::from([("frames".to_owned(), frames), ("sound".to_owned(), sound)]);
        candle_core::safetensors::save(&tensors, path).context(|| format!("cannot write {}", path.display()))
    }

    /// The pictures of the first half of `self` and the second of `other`, with the sound of `other`: what a film would be
    /// whose halves, and whose pictures and sound, had nothing to do with each other.
    #[must_use]
    pub(crate) fn spliced(&self, other: &Self) -> Self {
        let half = self.frames.len() / 2;
        let frames = self.frames.iter().take(half).chain(other.frames.iter().skip(half)).cloned().collect();
        Self { frames, sound: other.sound.clone() }
    }
}
