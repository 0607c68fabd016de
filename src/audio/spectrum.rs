//! Logarithmic mel spectra of sound.

use candle_core::{D, DType, Result, Tensor};

/// What a band's magnitude is raised to before the logarithm, so that silence has one.
const FLOOR: f32 = 1e-5;

/// Samples that are cut into windows at one time: 32 MiB.
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
    /// Matrices that do not fit, or those of candle.
    pub fn new(basis: &Tensor, bands: &Tensor, hop: usize) -> Result<Self> {
        if basis.dim(0)? != 2 * bands.dim(1)? || basis.dim(1)? == 0 || hop == 0 {
            let (basis, bands) = (basis.dims(), bands.dims());
            candle_core::bail!("a spectrum cannot be made with {basis:?} and {bands:?}, every {hop} samples");
        }
        let turned = |matrix: &Tensor| matrix.to_dtype(DType::F32)?.t()?.contiguous();
        Ok(Self { basis: turned(basis)?, bands: turned(bands)?, hop })
    }

    /// The logarithm of each band's magnitude in each window that lies within `samples`.
    ///
    /// # Shapes
    /// - output: (windows, bins), f32, windows = (samples − window) / hop + 1
    ///
    /// # Errors
    /// Fewer samples than a window has, or those of candle.
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
