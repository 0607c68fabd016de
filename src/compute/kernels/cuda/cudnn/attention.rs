//! Attention as one node of a cuDNN graph: kernels like FlashAttention (Dao, 2023), in which the scores never
//! exist.

use candle_core::cuda_backend::cudarc::cudnn::sys;
use candle_core::{DType, Result, Tensor};
use sys::cudnnBackendAttributeName_t as Name;
use sys::cudnnBackendDescriptorType_t as Kind;

use super::graph::{self, ALIGNMENT, Descriptor, Machine, Plan};
use super::{Library, here};
use crate::compute::kernels::cuda::{address, device, place};

/// The widest head that these kernels take on every card.
const WIDEST: usize = 256;

const Q: i64 = 1;
const K: i64 = 2;
const V: i64 = 3;
const OUT: i64 = 4;
const SCALE: i64 = 5;

/// Key of a plan for attention.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    dtype: DType,
    /// Shapes (b, heads, tokens, dim) and strides of queries, keys, values and output.
    sides: [[i64; 4]; 4],
    strides: [[i64; 4]; 4],
}

impl Shape {
    /// A batch of one, laid out as (tokens, heads, dim).
    pub(super) fn packed(dtype: DType, heads: usize, queries: usize, keys: usize, dim: usize) -> Self {
        let sides = [queries, keys, keys, queries].map(|tokens| [1, heads, tokens, dim].map(|side| side as i64));
        Self { dtype, sides, strides: sides.map(heads_last) }
    }

    pub(super) fn plan(&self, machine: &Machine) -> Result<Plan> {
        let part = |id: i64| {
            let at = id as usize - 1;
            graph::tensor(id, self.dtype, &self.sides[at], &self.strides[at])
        };
        let (q, k, v, out, scale) = (part(Q)?, part(K)?, part(V)?, part(OUT)?, graph::scalar(SCALE, 4)?);
        let attention = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR)?
            .refer(Name::CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, &[&q])?
            .refer(Name::CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, &[&k])?
            .refer(Name::CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, &[&v])?
            .refer(Name::CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, &[&out])?
            .refer(Name::CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, &[&scale])?
            .finish()?;
        Plan::new(machine, &[&attention], false)
    }
}

/// Strides of (b, heads, tokens, dim) in memory as (b, tokens, heads, dim).
fn heads_last([_, heads, tokens, dim]: [i64; 4]) -> [i64; 4] {
    [heads * tokens * dim, dim, heads * dim, 1]
}

/// Softmax of `q·kᵀ·scale`, times `v`. `None` if cuDNN does not take it: f32, or a head width that is not a
/// multiple of 8.
///
/// # Shapes
/// As in [`attend`](crate::nn::attention::attend); the output lies as (b, n, heads, d).
pub(crate) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> Result<Option<Tensor>> {
    let (b, heads, n, dim) = q.dims4()?;
    let width = v.dim(3)?;
    let fits = |dim: usize| dim.is_multiple_of(8) && dim <= WIDEST;
    if q.dtype() == DType::F32 || [k, v].iter().any(|part| part.dtype() != q.dtype()) || !fits(dim) || !fits(width) {
        return Ok(None);
    }
    let device_of = device(q)?;
    let library = Library::of(device_of)?;
    let (q, k, v) = (readable(q)?, readable(k)?, readable(v)?);
    let ys = place((b, n, heads, width), q.dtype(), q.device())?.transpose(1, 2)?;
    let parts = [&q, &k, &v, &ys];
    let shape = Shape {
        dtype: q.dtype(),
        sides: parts.map(|part| std::array::from_fn(|axis| part.dims()[axis] as i64)),
        strides: parts.map(|part| std::array::from_fn(|axis| part.stride()[axis] as i64)),
    };
    let Some(plan) = library.plan(super::Shape::Attention(shape)) else { return Ok(None) };
    let scale = scale as f32;
    let numbers =
        [(Q, address(&q)?), (K, address(&k)?), (V, address(&v)?), (OUT, address(&ys)?), (SCALE, here(&scale))];
    library.run(device_of, &plan, &numbers)?;
    Ok(Some(ys))
}

/// The tensor itself if cuDNN can read it, else a contiguous copy: each head contiguous, every row aligned.
fn readable(xs: &Tensor) -> Result<Tensor> {
    let whole = ALIGNMENT as usize / xs.dtype().size_in_bytes();
    let rows = xs.stride()[..3].iter().zip(xs.dims()).all(|(stride, side)| *side == 1 || stride % whole == 0);
    if xs.stride()[3] == 1 && rows && address(xs)? % ALIGNMENT == 0 { Ok(xs.clone()) } else { xs.force_contiguous() }
}
