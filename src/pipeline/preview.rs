//! A small picture of latents: a linear projection of their channels to red, green and blue.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::families::family::{Compute, Decoded, Family};
use crate::media::Rgb;
use crate::plan::{Plan, Settings};
use crate::progress::{Progress, quiet};

/// Side of a latent pixel in the picture.
const SCALE: usize = 8;

/// The projection, measured on the model's own decoder, so that it fits every autoencoder.
pub struct Projection {
    /// (3, C)
    matrix: Tensor,
    /// (3, 1)
    offset: Tensor,
}

impl Projection {
    /// Decodes one frame of each channel alone at half strength, and takes the mean colour for the channel's share.
    ///
    /// # Errors
    /// A decoder that does not load.
    pub fn measure(family: &dyn Family, plan: &Plan, compute: &Compute) -> Result<Self> {
        const STRENGTH: f32 = 0.5;
        let channels = plan.shape.latents[1];
        let probe = |channel: Option<usize>| {
            let mut values = vec![0f32; channels];
            if let Some(channel) = channel {
                values[channel] = STRENGTH;
            }
            Tensor::from_vec(values, (1, channels, 1, 1, 1), &compute.device)?.repeat((1, 1, 1, 2, 2))
        };
        let probes = std::iter::once(None).chain((0..channels).map(Some)).map(probe);
        let mut colours = Vec::with_capacity(channels + 1);
        let settings = Settings { tiling: None, ..plan.settings.clone() };
        let decoder = family.decoder(&settings, compute, &mut Progress::new(&mut quiet))?;
        decoder.decode(&probes.collect::<candle_core::Result<Vec<_>>>()?, &mut |made| {
            let Decoded::Frames(frames) = made else { return Ok(()) };
            let flat = frames.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.reshape((3, ()))?;
            colours.push(flat.mean_keepdim(1)?);
            Ok(())
        })?;
        let offset = colours.remove(0);
        let matrix = Tensor::cat(&colours, 1)?.broadcast_sub(&offset)?;
        Ok(Self { matrix: (matrix / f64::from(STRENGTH))?, offset })
    }

    /// The middle latent frame as a picture, each latent pixel as a square.
    ///
    /// # Shapes
    /// - `latents`: (1, C, T, H, W), normalised
    pub fn picture(&self, latents: &Tensor) -> Result<Rgb> {
        let (_, channels, frames, height, width) = latents.dims5()?;
        let frame = latents.narrow(2, frames / 2, 1)?.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let flat = frame.reshape((channels, height * width))?;
        let colours = self.matrix.matmul(&flat)?.broadcast_add(&self.offset)?.to_vec2::<f32>()?;
        let byte = |value: f32| ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8;
        let mut data = Vec::with_capacity(width * height * SCALE * SCALE * 3);
        for y in 0..height * SCALE {
            for x in 0..width * SCALE {
                let at = y / SCALE * width + x / SCALE;
                data.extend(colours.iter().map(|colour| byte(colour[at])));
            }
        }
        Ok(Rgb { width: (width * SCALE) as u32, height: (height * SCALE) as u32, data })
    }
}
