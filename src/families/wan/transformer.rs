//! The Wan transformer: noisy latents, a timestep and a text in, a velocity out (Wan Team, 2025,
//! arXiv:2503.20314).

use candle_core::{DType, Result, Tensor};

use super::block::Block;
use super::config::Config;
use crate::error::Error;
use crate::nn::Linear;
use crate::nn::activation::silu;
use crate::nn::blocks::Blocks;
use crate::nn::embed::sinusoid;
use crate::nn::modulation::{Modulation, Runs};
use crate::nn::norm::{LayerNorm, Plain};
use crate::nn::rope::Rope;
use crate::weights::Weights;

/// Base of the rotary wavelengths.
const ROPE_THETA: f64 = 10_000.0;

/// diffusers' `WanTransformer3DModel`.
pub struct Transformer {
    config: Config,
    patch_embedding: Linear,
    time_embedder: [Linear; 2],
    time_proj: Linear,
    text_embedder: [Linear; 2],
    blocks: Blocks<Block>,
    norm_out: LayerNorm,
    proj_out: Linear,
    scale_shift_table: Tensor,
    dtype: DType,
}

impl Transformer {
    /// Loads the network, which must use every tensor of `weights`.
    ///
    /// # Errors
    /// The refusals of [`Config::check`]; a tensor that is missing, of another shape, or left over.
    pub fn load(weights: &Weights, config: &Config) -> crate::error::Result<Self> {
        config.check()?;
        let dim = config.dim();
        let patch: usize = config.patch_size.iter().product();
        let embedder = weights.pp("condition_embedder");
        let linear = |name: &str, inputs, outputs| Linear::load(&embedder.pp(name), inputs, outputs);
        let network = Self {
            patch_embedding: patch_embedding(&weights.pp("patch_embedding"), config)?,
            time_embedder: [
                linear("time_embedder.linear_1", config.freq_dim, dim)?,
                linear("time_embedder.linear_2", dim, dim)?,
            ],
            time_proj: linear("time_proj", dim, 6 * dim)?,
            text_embedder: [
                linear("text_embedder.linear_1", config.text_dim, dim)?,
                linear("text_embedder.linear_2", dim, dim)?,
            ],
            blocks: Blocks::load(&weights.pp("blocks"), config.num_layers, {
                let config = config.clone();
                move |weights| Block::load(weights, &config)
            })?,
            norm_out: LayerNorm::plain(weights, dim, config.eps)?,
            proj_out: Linear::load(&weights.pp("proj_out"), dim, config.out_channels * patch)?,
            scale_shift_table: weights.f32("scale_shift_table", (1, 2, dim))?,
            dtype: weights.dtype(),
            config: config.clone(),
        };
        weights.finish(&["norm_added_q"])?;
        Ok(network)
    }

    /// The network's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The predicted velocity.
    ///
    /// # Shapes
    /// - `latents`: (1, in_channels, frames, height, width), height and width divisible by the patch
    /// - `timesteps`: in [0, 1000], one for all tokens or one per token: frames first, then rows, then columns
    /// - `text`: (1, m, text_dim)
    /// - output: (1, out_channels, frames, height, width), f32
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, latents: &Tensor, timesteps: &[f64], text: &Tensor) -> crate::error::Result<Tensor> {
        let grid = self.grid(latents, timesteps.len())?;
        let rope = Rope::grid3(grid, self.config.rope_dims(), ROPE_THETA, latents.device())?;
        let (temb, time) = self.embed_time(timesteps, grid.iter().product(), latents)?;
        let text = self.text_embedder[0].forward_gelu(&text.to_dtype(self.dtype)?)?;
        let text = self.text_embedder[1].forward(&text)?;

        let mut xs = self.patch_embedding.forward(&self.patchify(latents, grid)?)?;
        self.blocks.each(|_, block| {
            xs = block.forward(&xs, &text, &time, &rope)?;
            Ok(())
        })?;

        let out = temb.with(&self.scale_shift_table)?.shift_scale_norm(&xs, Plain::Layer(&self.norm_out), 0, 1)?;
        let out = self.proj_out.forward(&out)?;
        Ok(self.unpatchify(&out.to_dtype(DType::F32)?, grid)?)
    }

    /// The token grid: frames, rows and columns.
    fn grid(&self, latents: &Tensor, timesteps: usize) -> crate::error::Result<[usize; 3]> {
        let (_, channels, frames, height, width) = latents.dims5()?;
        let [_, ph, pw] = self.config.patch_size;
        let grid = [frames, height / ph, width / pw];
        let tokens: usize = grid.iter().product();
        let fits = channels == self.config.in_channels && height % ph == 0 && width % pw == 0 && tokens > 0;
        if !fits || (timesteps != 1 && timesteps != tokens) {
            return Err(Error::failed(format!(
                "latents of shape {:?} with {timesteps} timesteps do not fit this transformer: it takes {} channels, sides \
                 divisible by {ph} and {pw}, and one timestep or {tokens}",
                latents.dims(),
                self.config.in_channels
            )));
        }
        if let Some(side) = grid.iter().find(|&&side| side > self.config.rope_max_seq_len) {
            return Err(Error::failed(format!(
                "a side of {side} tokens is more than the {} that this transformer has positions for",
                self.config.rope_max_seq_len
            ))
            .hint("ask for a smaller `--size` or fewer `--frames`"));
        }
        Ok(grid)
    }

    /// The timestep embeddings for the output layer, (runs, 1, dim), and for the blocks, (runs, 6, dim).
    fn embed_time(&self, timesteps: &[f64], tokens: usize, like: &Tensor) -> Result<(Modulation, Modulation)> {
        let runs = Runs::new(timesteps, tokens);
        let dim = self.config.dim();
        let temb = sinusoid(&runs.values, self.config.freq_dim, like.device())?;
        let temb = self.time_embedder[1].forward(&silu(&self.time_embedder[0].forward(&temb)?)?)?; // (runs, dim)
        let vectors = self.time_proj.forward(&silu(&temb)?)?.reshape((runs.values.len(), 6, dim))?;
        Ok((Modulation::new(&runs, temb.unsqueeze(1)?), Modulation::new(&runs, vectors)))
    }

    /// (1, c, t, h, w) → (1, tokens, c · patch), in the compute type. A convolution whose stride is its
    /// kernel is a matrix product over such rows.
    fn patchify(&self, latents: &Tensor, [t, h, w]: [usize; 3]) -> Result<Tensor> {
        let [pt, ph, pw] = self.config.patch_size;
        let c = self.config.in_channels;
        latents
            .reshape(vec![c, t, pt, h, ph, w, pw])?
            .permute(vec![1, 3, 5, 0, 2, 4, 6])?
            .reshape((1, t * h * w, c * pt * ph * pw))?
            .to_dtype(self.dtype)
    }

    /// (1, tokens, patch · c) → (1, c, t, h, w)
    fn unpatchify(&self, xs: &Tensor, [t, h, w]: [usize; 3]) -> Result<Tensor> {
        let [pt, ph, pw] = self.config.patch_size;
        let c = self.config.out_channels;
        xs.reshape(vec![t, h, w, pt, ph, pw, c])?.permute(vec![6, 0, 3, 1, 4, 2, 5])?.reshape((
            1,
            c,
            t * pt,
            h * ph,
            w * pw,
        ))
    }
}

/// The patch embedding is stored as a 3-D convolution (dim, in, pt, ph, pw).
fn patch_embedding(weights: &Weights, config: &Config) -> crate::error::Result<Linear> {
    let [pt, ph, pw] = config.patch_size;
    let weight = weights.stored("weight", (config.dim(), config.in_channels, pt, ph, pw))?;
    Ok(Linear::new(weight.flatten_from(1)?, Some(weights.stored("bias", config.dim())?)))
}
