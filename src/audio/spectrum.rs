//! Logarithmic mel spectra of sound.
//!
//! The Fourier transform is a matrix, not an FFT: LTX-2's checkpoint brings the matrix of its bandwidth
//! extension, and its product runs on any device.

use std::f64::consts::PI;

use candle_core::{D, DType, Device, Result, Tensor};

/// Least magnitude of a band before the logarithm, so that silence has one.
const FLOOR: f32 = 1e-5;

/// Where Slaney's scale (1998) turns from straight to logarithmic, in hertz.
const KNEE: f64 = 1000.0;
/// Mels per hertz below.
const LINEAR: f64 = 3.0 / 200.0;
/// Mels above, for each factor of [`FACTOR`].
const STEPS: f64 = 27.0;
const FACTOR: f64 = 6.4;

/// Samples cut into windows at once: 32 MiB.
const WINDOWS: usize = 8 << 20;

/// Short windows of sound, their Fourier transform as a matrix, and the bands of the mel scale as another.
#[derive(Debug, Clone)]
pub struct Spectrum {
    /// (window, 2·frequencies), f32: cosines first, then sines, under the window's own shape.
    basis: Tensor,
    /// (frequencies, bins), f32
    bands: Tensor,
    /// Samples from one window to the next.
    hop: usize,
}

impl Spectrum {
    /// A spectrum from its matrices: `basis` (2·frequencies, window), `bands` (bins, frequencies).
    ///
    /// # Errors
    /// Matrices that do not fit.
    pub fn new(basis: &Tensor, bands: &Tensor, hop: usize) -> Result<Self> {
        if basis.dim(0)? != 2 * bands.dim(1)? || basis.dim(1)? == 0 || hop == 0 {
            let (basis, bands) = (basis.dims(), bands.dims());
            candle_core::bail!("a spectrum cannot be made with {basis:?} and {bands:?}, every {hop} samples");
        }
        let turned = |matrix: &Tensor| matrix.to_dtype(DType::F32)?.t()?.contiguous();
        Ok(Self { basis: turned(basis)?, bands: turned(bands)?, hop })
    }

    /// The spectrum of sound at `rate` in `bins` bands of Slaney's mel scale (1998), from silence to half the rate, each of
    /// the same area, in Hann windows of `window` samples, an even number: torchaudio's `MelSpectrogram` with
    /// `mel_scale="slaney"`, `norm="slaney"` and `power=1`.
    pub fn slaney(rate: u32, bins: usize, window: usize, hop: usize, device: &Device) -> Result<Self> {
        let frequencies = window / 2 + 1;
        let wave = |i: usize| {
            let (part, frequency) = (i / (frequencies * window), i / window % frequencies);
            // Reduced before the division, so that the angle stays exact.
            let angle = 2.0 * PI * (frequency * (i % window) % window) as f64 / window as f64;
            let hann = (PI * (i % window) as f64 / window as f64).sin().powi(2);
            (hann * if part == 0 { angle.cos() } else { -angle.sin() }) as f32
        };
        let basis: Vec<f32> = (0..2 * frequencies * window).map(wave).collect();
        let top = mels(f64::from(rate) / 2.0);
        let edges: Vec<f64> = (0..bins + 2).map(|i| hertz(top * i as f64 / (bins + 1) as f64)).collect();
        let band = |i: usize| {
            let [low, middle, high] = [0, 1, 2].map(|edge| edges[i / frequencies + edge]);
            let hertz = f64::from(rate) / 2.0 * (i % frequencies) as f64 / (frequencies - 1) as f64;
            let slope = ((hertz - low) / (middle - low)).min((high - hertz) / (high - middle));
            (slope.max(0.0) * 2.0 / (high - low)) as f32
        };
        let bands: Vec<f32> = (0..bins * frequencies).map(band).collect();
        let basis = Tensor::from_vec(basis, (2 * frequencies, window), device)?;
        Self::new(&basis, &Tensor::from_vec(bands, (bins, frequencies), device)?, hop)
    }

    /// [`Self::of`], in windows centred on every `hop`-th sample from the first on. `samples` are mirrored
    /// beyond their ends, and must be more than half a window.
    ///
    /// # Shapes
    /// - output: (samples / hop + 1, bins), f32
    ///
    /// # Errors
    /// Too few samples.
    pub fn centred(&self, samples: &[f32]) -> Result<Tensor> {
        let half = self.basis.dim(0)? / 2;
        if samples.len() <= half {
            candle_core::bail!("{} samples are too few to mirror {half}", samples.len());
        }
        let before = samples[1..=half].iter().rev();
        let after = samples[samples.len() - 1 - half..samples.len() - 1].iter().rev();
        self.of(&before.chain(samples).chain(after).copied().collect::<Vec<_>>())
    }

    /// Log-magnitudes of the bands in each window within `samples`.
    ///
    /// # Shapes
    /// - output: (windows, bins), f32, windows = (samples − window) / hop + 1
    ///
    /// # Errors
    /// Fewer samples than a window has.
    pub fn of(&self, samples: &[f32]) -> Result<Tensor> {
        let window = self.basis.dim(0)?;
        if samples.len() < window {
            candle_core::bail!("{} samples are less than a window of {window}", samples.len());
        }
        let windows: Vec<&[f32]> = samples.windows(window).step_by(self.hop).collect();
        let blocks = windows.chunks((WINDOWS / window).max(1)).map(|windows| {
            let values = Tensor::from_vec(windows.concat(), (windows.len(), window), self.basis.device())?;
            let waves = values.matmul(&self.basis)?;
            let frequencies = waves.dim(D::Minus1)? / 2;
            let (real, imaginary) = (waves.narrow(1, 0, frequencies)?, waves.narrow(1, frequencies, frequencies)?);
            let magnitude = (real.sqr()? + imaginary.sqr()?)?.sqrt()?;
            magnitude.matmul(&self.bands)?.maximum(FLOOR)?.log()
        });
        Tensor::cat(&blocks.collect::<Result<Vec<_>>>()?, 0)
    }
}

/// Slaney's mel scale.
fn mels(hertz: f64) -> f64 {
    if hertz < KNEE { hertz * LINEAR } else { KNEE * LINEAR + (hertz / KNEE).ln() / FACTOR.ln() * STEPS }
}

/// Inverse of [`mels`].
fn hertz(mels: f64) -> f64 {
    let above = mels - KNEE * LINEAR;
    if above < 0.0 { mels / LINEAR } else { KNEE * (above / STEPS * FACTOR.ln()).exp() }
}
