//! FIR filters shared by all channels, over signals (time, channels).

/// One tap of a filter: the offset of an input value, in values, and its weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tap {
    pub(super) offset: usize,
    pub(super) weight: f32,
}

/// Values per turn of the inner loop: what fits the registers of a CPU.
const LANES: usize = 16;

/// Adds to each of `ys` the sum over `taps` of `xs[place + offset]·weight`.
pub(super) fn filter(ys: &mut [f32], xs: &[f32], taps: &[Tap]) {
    let (whole, rest) = ys.as_chunks_mut::<LANES>();
    let done = whole.len() * LANES;
    for (i, ys) in whole.iter_mut().enumerate() {
        let mut sum = *ys;
        for tap in taps {
            let xs = &xs[i * LANES + tap.offset..][..LANES];
            for (sum, x) in sum.iter_mut().zip(xs) {
                *sum += x * tap.weight;
            }
        }
        *ys = sum;
    }
    for (i, y) in rest.iter_mut().enumerate() {
        *y += taps.iter().map(|tap| xs[done + i + tap.offset] * tap.weight).sum::<f32>();
    }
}
