//! How much arithmetic layers are: floating-point operations by their definition, from shapes alone.
//!
//! A multiplication with its addition counts as two. Matrix products, attention and convolutions are counted; norms,
//! activations, biases, softmax and rotary positions are not, which together are a few in a hundred at real widths. What is
//! counted is the definition: zeros beyond an edge are numbers, and a convolution that is computed with fewer operations (Winograd)
//! is not counted as less. So counts PyTorch's `FlopCounterMode`. What is not done at all, such as attention to rows of a text that
//! are equal to others, is not counted. In f64, because a long film's operations do not fit whole numbers.

/// A linear layer from `inputs` to `outputs` channels.
pub fn linear(rows: usize, inputs: usize, outputs: usize) -> f64 {
    2.0 * rows as f64 * inputs as f64 * outputs as f64
}

/// The two products of an attention whose heads are `width` channels together: scores, and the values that they weigh. Scores
/// that a mask hides are counted.
pub fn attention(queries: usize, keys: usize, width: usize) -> f64 {
    4.0 * queries as f64 * keys as f64 * width as f64
}

/// A convolution that makes `places` pixels, of all frames, each from `taps` of its input.
pub fn convolution(places: usize, taps: usize, inputs: usize, outputs: usize) -> f64 {
    taps as f64 * linear(places, inputs, outputs)
}
