//! Gemma 3, the language model whose hidden states are the text encoding of LTX-2 (Gemma Team, 2025,
//! arXiv:2503.19786).

mod config;
mod layer;

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::families::text::check_ids;
use crate::nn::blocks::Blocks;
use crate::nn::embed::Embedding;
use crate::nn::norm::RmsNorm;
use crate::nn::rope::Rope;
use crate::weights::Weights;
pub use config::{Config, LayerType, Positions};
use layer::{Layer, View};

/// Prefixes of the text model's tensors: as Google released it and transformers writes it, as transformers
/// names it in memory, and the text-only classes.
const PREFIXES: [&str; 4] = ["language_model.model", "model.language_model", "model", ""];

/// The vision tower and the output head, which the hidden states do not need.
const UNUSED: [&str; 3] = ["vision_tower.", "multi_modal_projector.", "lm_head."];

/// The model without its head. Weights stay in memory in their stored type.
pub struct Gemma3 {
    config: Config,
    embedding: Embedding,
    layers: Blocks<Layer>,
    norm: RmsNorm,
    device: Device,
    dtype: DType,
}

/// Receives the hidden states of one prompt: the index, from 0 (the embeddings) to the number of layers, and
/// the state.
pub type StateSink<'a> = &'a mut dyn FnMut(usize, Tensor) -> Result<()>;

/// Receives the hidden states of several prompts: the index of the prompt, that of the state, and the state.
pub type StatesSink<'a> = &'a mut dyn FnMut(usize, usize, Tensor) -> Result<()>;

/// A prompt between two layers.
struct Reading {
    /// (1, n, hidden_size)
    xs: Tensor,
    local: View,
    global: View,
}

impl Gemma3 {
    /// Loads the text model, under the names of `Gemma3ForConditionalGeneration`, `Gemma3ForCausalLM` or
    /// `Gemma3TextModel` in transformers. The vision tensors stay in their file.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape, or left over.
    pub fn load(weights: &Weights, config: &Config) -> Result<Self> {
        let prefix = PREFIXES.into_iter().find(|prefix| weights.pp(prefix).contains("embed_tokens.weight"));
        let model = weights.pp(prefix.unwrap_or(PREFIXES[0]));
        let embedding = Embedding::load(&model.pp("embed_tokens"), config.vocab_size, config.hidden_size)?;
        let layers = Blocks::load(&model.pp("layers"), config.layer_types.len(), {
            let config = config.clone();
            move |weights| Layer::load(weights, &config)
        })?;
        let norm = RmsNorm::centred(&model.pp("norm"), config.hidden_size, config.rms_norm_eps)?;
        weights.finish(&UNUSED)?;
        let (device, dtype) = (weights.device().clone(), weights.dtype());
        Ok(Self { config: config.clone(), embedding, layers, norm, device, dtype })
    }

    /// Encodes one prompt: see [`Self::encode_all`].
    ///
    /// # Errors
    /// As there.
    pub fn encode(&self, ids: &[u32], length: usize, on_state: StateSink<'_>) -> Result<()> {
        self.encode_all(&[ids], length, &mut |_, number, state| on_state(number, state))
    }

    /// Encodes prompts, all of them layer by layer, and passes every hidden state to `on_state` as soon as it
    /// is made: the embeddings, the output of each layer but the last, and the last output after the final
    /// norm. An error of `on_state` stops the work and is returned.
    ///
    /// The reference pads the ids on the left to `length`, masks the padding, and does not use its rows. So
    /// only the prompt's tokens are computed here, at their positions after the padding.
    ///
    /// # Shapes
    /// - `prompts`: each at most `length` token ids, each less than `vocab_size`
    /// - each state: (1, ids, hidden_size), in the weights' compute type
    ///
    /// # Errors
    /// No ids or more than `length`, an id that the model has no embedding for, or an error from `on_state`.
    pub fn encode_all(&self, prompts: &[impl AsRef<[u32]>], length: usize, on_state: StatesSink<'_>) -> Result<()> {
        let begin = |ids: &_| self.begin(AsRef::as_ref(ids), length);
        let mut all = prompts.iter().map(begin).collect::<Result<Vec<_>>>()?;
        self.layers.each(|index, layer| {
            for (prompt, reading) in all.iter_mut().enumerate() {
                on_state(prompt, index, reading.xs.clone())?;
                let view = match self.config.layer_types[index] {
                    LayerType::Local => &reading.local,
                    LayerType::Global => &reading.global,
                };
                reading.xs = layer.forward(&reading.xs, view)?;
            }
            Ok(())
        })?;
        let finish = |(prompt, reading): (usize, Reading)| {
            on_state(prompt, self.layers.count(), self.norm.forward(&reading.xs)?)
        };
        all.into_iter().enumerate().try_for_each(finish)
    }

    fn begin(&self, ids: &[u32], length: usize) -> Result<Reading> {
        check_ids(ids, length, self.config.vocab_size)?;
        let (n, before) = (ids.len(), length - ids.len());
        let rows = self.embedding.forward(&Tensor::new(ids, &self.device)?, self.dtype)?;
        Ok(Reading {
            // https://github.com/huggingface/transformers/blob/f14d0cbc82/src/transformers/models/gemma3/modeling_gemma3.py#L106-L107
            xs: (rows * (self.config.hidden_size as f64).sqrt())?.unsqueeze(0)?,
            local: self.view(n, before, self.config.sliding_window, self.config.local)?,
            global: self.view(n, before, n, self.config.global)?,
        })
    }

    /// Rotary embedding and mask for layers of one kind: `n` tokens after `before` of padding, each attending
    /// to the last `window` tokens, itself included.
    fn view(&self, n: usize, before: usize, window: usize, positions: Positions) -> Result<View> {
        let frequencies = frequencies(self.config.head_dim, positions);
        // Angles are rounded to f32 as in the reference, which matters at such positions:
        // https://github.com/huggingface/transformers/blob/f14d0cbc82/src/transformers/models/gemma3/modeling_gemma3.py#L168-L179
        let angles = (before..before + n)
            .flat_map(|position| frequencies.iter().map(move |frequency| f64::from(position as f32 * frequency)));
        let rope = Rope::from_angles(&angles.collect::<Vec<_>>(), (n, self.config.head_dim / 2), &self.device)?;
        let sees = |query: usize, key: usize| key <= query && query - key < window;
        let mask =
            (0..n).flat_map(|query| (0..n).map(move |key| if sees(query, key) { 0.0 } else { f32::NEG_INFINITY }));
        let mask = Tensor::from_vec(mask.collect::<Vec<_>>(), (n, n), &self.device)?.to_dtype(self.dtype)?;
        Ok(View { rope, mask })
    }
}

/// Angle per position of each pair of channels, in f32 as in the reference.
fn frequencies(dim: usize, positions: Positions) -> Vec<f32> {
    let frequency = |i: usize| {
        let exponent = (2 * i) as f32 / dim as f32;
        let power = positions.theta.powf(f64::from(exponent)) as f32;
        power.recip() / positions.factor as f32
    };
    (0..dim / 2).map(frequency).collect()
}
