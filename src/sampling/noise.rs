//! Noise on the host, the same as `torch.Generator("cpu")` makes: a seed means the same film on every device, and the
//! same noise as in the reference.

use candle_core::{Device, Result, Shape, Tensor};

/// Length of the generator's state, in words.
const N: usize = 624;
/// Distance between the words that a new word is made of.
const M: usize = 397;
/// Values that torch transforms together: eight radii and eight angles.
const BLOCK: usize = 16;

/// Standard normal noise of `shape` on the CPU, in f32: `torch.randn(shape, generator)` of a generator just seeded.
///
/// # Errors
/// A shape that candle cannot make a tensor of.
pub fn randn(shape: impl Into<Shape>, seed: u64) -> Result<Tensor> {
    let shape = shape.into();
    let values = Generator::seed(seed).normal(shape.elem_count());
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// `torch.Generator("cpu")`: the Mersenne twister MT19937 (Matsumoto & Nishimura 1998) and torch's normal transform.
#[derive(Clone)]
pub struct Generator {
    state: [u32; N],
    next: usize,
    /// The second of a pair that a draw of fewer than 16 values made and did not use.
    spare: Option<f64>,
}

impl Generator {
    /// A generator as after `manual_seed(seed)`. Like torch's, it takes the low 32 bits of the seed only: seeds that
    /// differ by a multiple of 2³² make the same noise.
    pub fn seed(seed: u64) -> Self {
        let mut state = [0; N];
        state[0] = seed as u32;
        for i in 1..N {
            let previous = state[i - 1];
            state[i] = (previous ^ (previous >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, next: N, spare: None }
    }

    /// The next `count` standard normal values, as one call of `torch.randn` for `count` values draws them.
    ///
    /// How the values are made depends on `count`, so two draws of 8 are not one of 16: torch draws fewer than 16 values
    /// one by one in f64, and more in blocks of 16 in f32.
    /// <https://github.com/pytorch/pytorch/blob/003dc3e14b/aten/src/ATen/native/cpu/DistributionTemplates.h#L173-L195>
    pub fn normal(&mut self, count: usize) -> Vec<f32> {
        if count < BLOCK {
            return (0..count).map(|_| self.next_normal() as f32).collect();
        }
        let mut values: Vec<f32> = (0..count).map(|_| self.uniform_f32()).collect();
        values.chunks_exact_mut(BLOCK).for_each(box_muller);
        if !count.is_multiple_of(BLOCK) {
            // torch fills an incomplete block by drawing the last 16 values anew, over some that it has already made.
            // https://github.com/pytorch/pytorch/blob/003dc3e14b/aten/src/ATen/native/cpu/DistributionTemplates.h#L162-L170
            let last = &mut values[count - BLOCK..];
            last.fill_with(|| self.uniform_f32());
            box_muller(last);
        }
        values
    }

    /// One value by Box and Muller (1958), in f64; its twin waits in `spare`.
    fn next_normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let angle = std::f64::consts::TAU * self.uniform_f64();
        let radius = (-2.0 * (-self.uniform_f64()).ln_1p()).sqrt();
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }

    /// Uniform in [0, 1), of 24 bits.
    fn uniform_f32(&mut self) -> f32 {
        (self.next_word() & 0x00ff_ffff) as f32 / (1 << 24) as f32
    }

    /// Uniform in [0, 1), of 53 bits: the high word is drawn first.
    fn uniform_f64(&mut self) -> f64 {
        let word = (u64::from(self.next_word()) << 32) | u64::from(self.next_word());
        (word & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }

    fn next_word(&mut self) -> u32 {
        if self.next == N {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for i in 0..N {
            let mixed = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (mixed >> 1) ^ odd;
        }
        self.next = 0;
    }
}

/// Turns 16 uniform values into normal ones in place: radii from the first eight, angles from the last eight.
///
/// torch works in f32 here. The angle is rounded to f32 as torch rounds it, because at a large radius that rounding is
/// the larger part of an error; the functions themselves are taken in f64, where every platform agrees.
fn box_muller(block: &mut [f32]) {
    let (radii, angles) = block.split_at_mut(BLOCK / 2);
    for (first, second) in radii.iter_mut().zip(angles) {
        let radius = (-2.0 * f64::from(1.0 - *first).ln()).sqrt();
        let angle = f64::from(std::f32::consts::TAU * *second);
        *first = (radius * angle.cos()) as f32;
        *second = (radius * angle.sin()) as f32;
    }
}
