//! What predictions are conditioned on: embeddings of the prompts, and what the conditions of a request became.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use super::latents::Latents;
use crate::error::{Error, Result};

/// What a text encoder made of a prompt: tensors (1, length, width).
#[derive(Debug, Clone)]
pub struct Embedding {
    /// What the video attends to.
    pub video: Tensor,
    /// What the audio attends to, where the model makes sound.
    pub audio: Option<Tensor>,
}

/// Which latent cells of the video are given: 1 for a given one, 0 for one that is denoised.
///
/// Noise, pinning and the timestep of each token follow from it: a given cell begins as it is, stays so after every step, and
/// its token is at timestep 0.
#[derive(Debug, Clone)]
pub struct Mask {
    /// (1, 1, T, H, W), u8
    given: Tensor,
}

impl Mask {
    /// The first `frames` latent frames of `shape`, (T, H, W).
    ///
    /// # Errors
    /// More frames than there are.
    pub fn first_frames(frames: usize, [t, h, w]: [usize; 3], device: &Device) -> Result<Self> {
        let cell = |index: usize| u8::from(index < frames * h * w);
        let cells: Vec<u8> = (0..t * h * w).map(cell).collect();
        Ok(Self { given: Tensor::from_vec(cells, (1, 1, t, h, w), device)? })
    }

    /// `latents` with the given cells of `source`.
    ///
    /// # Shapes
    /// - `latents`, `source`: (1, C, T, H, W), on one device
    ///
    /// # Errors
    /// Latents of another shape.
    pub fn pin(&self, latents: &Latents, source: &Tensor) -> Result<Latents> {
        let given = self.given.broadcast_as(latents.video.shape())?;
        Ok(Latents { video: given.where_cond(source, &latents.video)?, ..latents.clone() })
    }

    /// The timestep of each token, of patches of `patch` cells: frames first, then rows, then columns.
    ///
    /// # Errors
    /// A patch that does not divide the latents.
    pub fn timesteps(&self, timestep: f64, patch: [usize; 3]) -> Result<Vec<f64>> {
        let (_, _, t, h, w) = self.given.dims5()?;
        let [pt, ph, pw] = patch;
        let patches = self.given.reshape((t / pt, pt, h / ph, ph, w / pw * pw))?.permute((0, 2, 4, 1, 3))?;
        let patches = patches.reshape((t / pt * (h / ph) * (w / pw), pw, pt * ph))?.flatten_from(1)?;
        let given = patches.to_device(&Device::Cpu)?.min(1)?.to_vec1::<u8>()?;
        Ok(given.into_iter().map(|given| if given > 0 { 0.0 } else { timestep }).collect())
    }

    /// The mask of a phase on latents of another size: each cell as its nearest one here.
    ///
    /// # Errors
    /// Another number of frames.
    pub fn resized(&self, [t, h, w]: [usize; 3]) -> Result<Self> {
        let frames = self.given.reshape((t, 1, (), self.given.dim(4)?))?.to_dtype(DType::F32)?;
        let resized = frames.upsample_nearest2d(h, w)?.to_dtype(DType::U8)?;
        Ok(Self { given: resized.reshape((1, 1, t, h, w))? })
    }
}

/// What a family made of the conditions of a request.
#[derive(Debug, Clone, Default)]
pub struct Conditioned {
    /// The latents of what is given, (1, C, T, H, W), of the shape that the denoising begins with.
    pub init: Option<Tensor>,
    /// Which of their cells are given.
    pub pin: Option<Mask>,
    /// What the transformer reads besides, by a name that the family chooses: extra channels, extra tokens.
    pub extra: HashMap<String, Tensor>,
}

impl Conditioned {
    /// A video that begins with `latents` (1, C, t, H, W), where the denoising works on (T, H, W) `cells`.
    ///
    /// # Errors
    /// More frames than the film has.
    pub fn beginning(latents: &Tensor, cells: [usize; 3]) -> Result<Self> {
        let frames = latents.dim(2)?;
        let pin = Mask::first_frames(frames, cells, latents.device())?;
        let init = latents.pad_with_zeros(2, 0, cells[0].saturating_sub(frames))?;
        Ok(Self { init: Some(init), pin: Some(pin), extra: HashMap::new() })
    }
}

/// Everything that predictions are conditioned on.
#[derive(Debug, Clone)]
pub struct Conditioning {
    /// The embedding of the prompt.
    pub text: Embedding,
    /// The embedding of the negative prompt, where there is guidance.
    pub negative: Option<Embedding>,
    /// What the conditions of the request became.
    pub given: Conditioned,
}

/// What the names of extra tensors begin with in a file.
const EXTRA: &str = "extra.";

impl Conditioning {
    /// By name, as a run's folder keeps it.
    pub fn pack(&self) -> Vec<(String, Tensor)> {
        let negative = self.negative.as_ref();
        // Files of tensors hold numbers to compute with.
        let pin = self.given.pin.as_ref().and_then(|pin| pin.given.to_dtype(DType::F32).ok());
        let named = [
            ("text", Some(&self.text.video)),
            ("text_audio", self.text.audio.as_ref()),
            ("negative", negative.map(|negative| &negative.video)),
            ("negative_audio", negative.and_then(|negative| negative.audio.as_ref())),
            ("init", self.given.init.as_ref()),
            ("pin", pin.as_ref()),
        ];
        let named = named.into_iter().filter_map(|(name, tensor)| Some((name.to_owned(), tensor?.clone())));
        let extra = self.given.extra.iter().map(|(name, tensor)| (format!("{EXTRA}{name}"), tensor.clone()));
        named.chain(extra).collect()
    }

    /// The way back from [`Conditioning::pack`].
    ///
    /// # Errors
    /// No embedding of the prompt.
    pub fn unpack(mut tensors: HashMap<String, Tensor>) -> Result<Self> {
        let mut embedding = |video: &str, audio: &str| {
            let audio = tensors.remove(audio);
            tensors.remove(video).map(|video| Embedding { video, audio })
        };
        let text = embedding("text", "text_audio").ok_or_else(|| {
            Error::failed("the run's folder holds no embedding of the prompt")
                .hint("start the run again with `talkie generate`")
        })?;
        let negative = embedding("negative", "negative_audio");
        let pin = tensors.remove("pin").map(|given| given.to_dtype(DType::U8)).transpose()?;
        let (init, pin) = (tensors.remove("init"), pin.map(|given| Mask { given }));
        let extra =
            tensors.into_iter().filter_map(|(name, tensor)| Some((name.strip_prefix(EXTRA)?.to_owned(), tensor)));
        Ok(Self { text, negative, given: Conditioned { init, pin, extra: extra.collect() } })
    }
}
