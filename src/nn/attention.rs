//! Scaled dot-product attention (Vaswani et al., 2017), the one of every network.

use candle_core::{D, Result, Tensor};

/// The most scores that exist at one time: 64 Mi values, 256 MiB in f32. Beyond it, queries go through in blocks, so that
/// memory grows with the number of tokens and not with its square.
const SCORES: usize = 64 << 20;

/// Softmax of `q·kᵀ·scale + bias`, times `v`.
///
/// # Shapes
/// - `q`: (b, heads, n, d)
/// - `k`, `v`: (b, heads, m, d)
/// - `bias`: broadcast over (b, heads, n, m), added to the scores: a mask or relative positions
/// - output: (b, heads, n, d)
///
/// # Errors
/// Those of candle.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    let (b, heads, n, _) = q.dims4()?;
    let m = k.dim(2)?;
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

/// Attention of one block of queries, already scaled, against all keys.
fn attend_block(q: &Tensor, kt: &Tensor, v: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let scores = q.matmul(kt)?;
    let scores = match bias {
        Some(bias) => scores.broadcast_add(bias)?,
        None => scores,
    };
    candle_nn::ops::softmax_last_dim(&scores)?.matmul(v)
}
