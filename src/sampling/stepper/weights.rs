//! The coefficients of an exponential multistep integrator of a flow, in f64.

/// The coefficients of a step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Weights {
    /// The weight of the latent where the step starts.
    pub sample: f64,
    /// The weight of the prediction of x₀ there.
    pub x0: f64,
    /// The weights of the predictions at the other points.
    pub others: Vec<f64>,
}

impl Weights {
    /// A step between sigmas, `from > to`, with predictions at `others`: earlier points for a predictor, and
    /// `to` too for a corrector. Without others it is the first-order step of both papers. A `to` of 0 allows
    /// no others.
    ///
    /// With λ = ln((1 − σ)/σ), h = λ(to) − λ(from) and r = (λ(other) − λ(from))/h, the step is x′ = σ′/σ·x −
    /// α′·(e⁻ʰ − 1)·(m + Σ ρ·(m_other − m)/r): equations (5) and (8) of UniPC (Zhao et al. 2023) for the
    /// prediction of data, where B(h) = e⁻ʰ − 1. The ρ solve Σ ρ·rⁱ = b with b of the φ functions; the paper
    /// takes ½ for a single point, which is `simplified`. With one earlier point that is DPM-Solver++ 2M (Lu
    /// et al. 2022) in its midpoint variant, and not simplified in Heun's.
    pub(super) fn new(to: f64, from: f64, others: &[f64], simplified: bool) -> Self {
        let log_snr = |sigma: f64| (1.0 - sigma).ln() - sigma.ln();
        let h = log_snr(to) - log_snr(from);
        let ratios: Vec<f64> = others.iter().map(|&sigma| (log_snr(sigma) - log_snr(from)) / h).collect();
        let rho = if simplified && ratios.len() == 1 { vec![0.5] } else { solve(&ratios, phis(h, ratios.len())) };
        let scale = -(1.0 - to) * (-h).exp_m1();
        let others: Vec<f64> = rho.iter().zip(&ratios).map(|(rho, ratio)| scale * rho / ratio).collect();
        Self { sample: to / from, x0: scale - others.iter().sum::<f64>(), others }
    }
}

/// i!·φᵢ₊₁(−h)·(−h)/(e⁻ʰ − 1) for i = 1 to `count`, with φ₁(z) = (eᶻ − 1)/z and φᵢ₊₁(z) = (φᵢ(z) − 1/i!)/z.
fn phis(h: f64, count: usize) -> Vec<f64> {
    let z = -h;
    let base = z.exp_m1();
    let (mut phi, mut factorial) = (base / z - 1.0, 1.0);
    let mut values = Vec::with_capacity(count);
    for i in 1..=count {
        values.push(phi * factorial / base);
        factorial *= (i + 1) as f64;
        phi = phi / z - 1.0 / factorial;
    }
    values
}

/// The ρ for which Σ ρₖ·rₖⁱ is `b[i]`, from i = 0, by elimination. No pivoting: a Vandermonde matrix of
/// distinct ratios has no singular leading block.
fn solve(ratios: &[f64], mut b: Vec<f64>) -> Vec<f64> {
    let n = ratios.len();
    let mut rows: Vec<Vec<f64>> = (0..n).map(|i| ratios.iter().map(|r| r.powi(i as i32)).collect()).collect();
    for pivot in 0..n {
        let (above, below) = rows.split_at_mut(pivot + 1);
        for (i, row) in below.iter_mut().enumerate() {
            let factor = row[pivot] / above[pivot][pivot];
            row.iter_mut().zip(&above[pivot]).for_each(|(value, above)| *value -= factor * above);
            b[pivot + 1 + i] -= factor * b[pivot];
        }
    }
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|column| rows[row][column] * b[column]).sum();
        b[row] = (b[row] - known) / rows[row][row];
    }
    b
}
