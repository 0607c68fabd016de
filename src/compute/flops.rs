//! FLOP counts of layers, from shapes alone.
//!
//! A multiply-add counts as two. Matrix products, attention and convolutions are counted by their definition,
//! as in PyTorch's `FlopCounterMode`: zeros of the padding count, and Winograd convolution counts in full.
//! Norms, activations, biases, softmax and rotary embedding do not count: a few per cent at real widths.
//! Skipped work, such as attention to equal rows of a text, does not count. In f64, because the operations of
//! a long film overflow u64.

/// A linear layer from `inputs` to `outputs` channels.
pub fn linear(rows: usize, inputs: usize, outputs: usize) -> f64 {
    2.0 * rows as f64 * inputs as f64 * outputs as f64
}

/// The two products of attention, scores and weighted values; `width` is that of all heads together. Masked
/// scores count.
pub fn attention(queries: usize, keys: usize, width: usize) -> f64 {
    4.0 * queries as f64 * keys as f64 * width as f64
}

/// A convolution with `places` output pixels over all frames, and `taps` kernel positions.
pub fn convolution(places: usize, taps: usize, inputs: usize, outputs: usize) -> f64 {
    taps as f64 * linear(places, inputs, outputs)
}
