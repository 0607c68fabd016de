//! Scaled dot-product attention (Vaswani et al., 2017), for all networks.

mod blocked;

#[cfg(feature = "flash-attn")]
use candle_core::DType;
use candle_core::{D, Result, Tensor};

use crate::compute::kernels::cpu;
#[cfg(feature = "cudnn")]
use crate::compute::kernels::cuda::{self, cudnn};

/// Most scores at one time: 64 Mi values, 256 MiB in f32. Beyond it, queries go in blocks, so that memory
/// grows with the number of tokens and not its square.
const SCORES: usize = 64 << 20;

/// Most bytes of scores at one time in the self-attention of `tokens`, in f32.
pub fn scores(heads: usize, tokens: usize) -> usize {
    SCORES.min(heads.saturating_mul(tokens).saturating_mul(tokens)) * size_of::<f32>()
}

/// Softmax of `q·kᵀ·scale + bias`, times `v`.
///
/// # Shapes
/// - `q`: (b, heads, n, d)
/// - `k`, `v`: (b, heads, m, d)
/// - `bias`: broadcast over (b, heads, n, m), added to the scores: a mask or relative positions
/// - output: (b, heads, n, d)
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    #[cfg(feature = "flash-attn")]
    if bias.is_none() && q.device().is_cuda() && q.dtype() != DType::F32 {
        return flash(q, k, v, scale);
    }
    #[cfg(feature = "cudnn")]
    if bias.is_none()
        && cuda::takes(q)
        && let Some(ys) = cudnn::attention::attend(q, k, v, scale)?
    {
        return Ok(ys);
    }
    let (b, heads, n, d) = q.dims4()?;
    let m = k.dim(2)?;
    let fits = k.dims() == [b, heads, m, d] && v.dims()[..3] == [b, heads, m];
    if [q, k, v].into_iter().chain(bias).all(cpu::takes) && fits {
        return blocked::attend(q, k, v, scale, bias);
    }
    let block = (SCORES / (b * heads * m).max(1)).clamp(1, n.max(1));
    let q = (q * scale)?.contiguous()?;
    let kt = k.transpose(D::Minus2, D::Minus1)?.contiguous()?;
    let v = v.contiguous()?;
    if block >= n {
        return attend_block(&q, &kt, &v, bias);
    }
    let rows = (0..n).step_by(block).map(|start| {
        let len = block.min(n - start);
        let bias = bias
            .map(|bias| if bias.dim(D::Minus2)? == 1 { Ok(bias.clone()) } else { bias.narrow(D::Minus2, start, len) });
        attend_block(&q.narrow(2, start, len)?.contiguous()?, &kt, &v, bias.transpose()?.as_ref())
    });
    Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 2)
}

/// FlashAttention-2 (Dao, 2023): half types, no bias, heads after tokens.
#[cfg(feature = "flash-attn")]
fn flash(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> Result<Tensor> {
    let [q, k, v] = [q.transpose(1, 2)?, k.transpose(1, 2)?, v.transpose(1, 2)?];
    candle_flash_attn::flash_attn(&q, &k, &v, scale as f32, false)?.transpose(1, 2)
}

/// Attention of one block of scaled queries to all keys.
fn attend_block(q: &Tensor, kt: &Tensor, v: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let scores = q.matmul(kt)?;
    let scores = match bias {
        Some(bias) => scores.broadcast_add(bias)?,
        None => scores,
    };
    candle_nn::ops::softmax_last_dim(&scores)?.matmul(v)
}
