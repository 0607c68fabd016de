//! Fused kernels: one pass over memory instead of several. They are compiled from `kernels.cu`, where each is
//! defined, when a device first needs them.

use std::sync::OnceLock;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Result, Tensor};

use super::{address, device, place};

/// The oldest architecture with bf16.
const ARCHITECTURE: &str = "compute_80";
const SOURCE: &str = include_str!("kernels.cu");
const MODULE: &str = "talkie";

/// Threads of a block.
const THREADS: u32 = 256;
/// Most blocks of a grid-stride kernel: more than any card runs at a time.
const BLOCKS: u64 = 8192;

/// The kernels as PTX. This needs no device.
///
/// # Errors
/// The messages of the compiler.
pub fn program() -> Result<&'static str> {
    static PROGRAM: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let options = CompileOptions { arch: Some(ARCHITECTURE), ..CompileOptions::default() };
        compile_ptx_with_opts(SOURCE, options).map(|program| program.to_src()).map_err(|error| format!("{error:?}"))
    });
    program.as_deref().map_err(|error| candle_core::Error::Msg(format!("the kernels cannot be compiled: {error}")))
}

/// An argument of a kernel.
enum Argument {
    Address(u64),
    Count(u64),
    Whole(u32),
    Real(f32),
}

/// Launches a kernel on the stream of the device of `on`.
fn launch(on: &Tensor, name: &str, dtype: DType, blocks: [u32; 2], arguments: &[Argument]) -> Result<()> {
    let kind = match dtype {
        DType::F32 => "f32",
        DType::BF16 => "bf16",
        DType::F16 => "f16",
        other => candle_core::bail!("there is no kernel `{name}` for {other:?}"),
    };
    let function = device(on)?.get_or_load_custom_func(&format!("{name}_{kind}"), MODULE, program()?)?;
    let mut builder = function.builder();
    for argument in arguments {
        match argument {
            Argument::Address(value) | Argument::Count(value) => builder.arg(value),
            Argument::Whole(value) => builder.arg(value),
            Argument::Real(value) => builder.arg(value),
        };
    }
    let [across, down] = [THREADS / blocks[1], blocks[1]];
    let shape = LaunchConfig { grid_dim: (blocks[0], 1, 1), block_dim: (across, down, 1), shared_mem_bytes: 0 };
    // SAFETY: the functions below pass the arguments of the kernel of that name, and tensors of the sizes
    // that it touches.
    #[expect(unsafe_code, reason = "a kernel takes addresses")]
    unsafe {
        builder.launch(shape).w()?;
    }
    Ok(())
}

/// The grid of a grid-stride kernel over `count` elements.
fn walking(count: u64) -> [u32; 2] {
    [count.div_ceil(u64::from(THREADS)).clamp(1, BLOCKS) as u32, 1]
}

fn optional(xs: Option<&Tensor>) -> Result<Argument> {
    Ok(Argument::Address(xs.map_or(Ok(0), address)?))
}

/// Vectors of a modulation, and the run of each token.
#[derive(Clone, Copy)]
pub(crate) struct Vectors<'a> {
    /// (runs, k, dim), f32, contiguous.
    pub all: &'a Tensor,
    /// The run of each token, u32; `None` for a single run.
    pub runs: Option<&'a Tensor>,
}

impl Vectors<'_> {
    /// The address of one of the k, of the first run.
    fn of(&self, place: usize) -> Result<Argument> {
        let (_, _, dim) = self.all.dims3()?;
        Ok(Argument::Address(address(self.all)? + (place * dim * size_of::<f32>()) as u64))
    }

    /// Distance of one run's vector to that of the next, in values.
    fn stride(&self) -> Result<Argument> {
        let (_, vectors, dim) = self.all.dims3()?;
        Ok(Argument::Whole((vectors * dim) as u32))
    }
}

/// Layer (`centred`) or RMS normalisation, times `1 + scale`, plus shift.
///
/// # Shapes
/// - `xs` and output: (…, tokens, dim), the output in the type of `xs`
pub(crate) fn norm_modulate(
    xs: &Tensor,
    (eps, centred): (f64, bool),
    vectors: Vectors<'_>,
    [shift, scale]: [usize; 2],
) -> Result<Tensor> {
    let dim = xs.dim(candle_core::D::Minus1)?;
    let (scale, shift) = (vectors.of(scale)?, vectors.of(shift)?);
    let rest = [optional(vectors.runs)?, Argument::Whole(dim as u32), vectors.stride()?];
    normalise(xs, scale, shift, rest, (eps, centred), 1.0)
}

/// Layer (`centred`) or RMS normalisation, times a weight, plus a bias.
///
/// # Shapes
/// - `xs` and output: (…, dim), the output in the type of `xs`; `weight` and `bias`: (dim), f32, contiguous
pub(crate) fn norm(xs: &Tensor, (eps, centred): (f64, bool), weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let dim = xs.dim(candle_core::D::Minus1)?;
    let rest = [Argument::Address(0), Argument::Whole(dim as u32), Argument::Whole(0)];
    normalise(xs, Argument::Address(address(weight)?), optional(bias)?, rest, (eps, centred), 0.0)
}

fn normalise(
    xs: &Tensor,
    scale: Argument,
    shift: Argument,
    [runs, dim, stride]: [Argument; 3],
    (eps, centred): (f64, bool),
    one: f32,
) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let rows = xs.elem_count() / xs.dim(candle_core::D::Minus1)?;
    let ys = place(xs.shape(), xs.dtype(), xs.device())?;
    let arguments = [
        Argument::Address(address(&xs)?),
        Argument::Address(address(&ys)?),
        scale,
        shift,
        runs,
        dim,
        stride,
        Argument::Real(eps as f32),
        Argument::Real(one),
        Argument::Whole(u32::from(centred)),
    ];
    launch(&xs, "norm_modulate", xs.dtype(), [rows as u32, 1], &arguments)?;
    Ok(ys)
}

/// Cosines and sines of rotary positions, f32, contiguous.
#[derive(Clone, Copy)]
pub(crate) struct Turns<'a> {
    /// (tokens, dim / 2), or (tokens, heads, dim / 2) where each head has its own.
    pub cos: &'a Tensor,
    pub sin: &'a Tensor,
    /// Whether channel i is paired with channel i + dim / 2 instead of its neighbour.
    pub halves: bool,
}

/// RMS normalisation over all heads, times a weight, then rotary embedding.
///
/// # Shapes
/// - `xs` and output: (1, tokens, heads · dim), the output in the type of `xs`
/// - `weight`: (heads · dim), f32
///
/// # Errors
/// Positions of other tokens.
pub(crate) fn norm_rope(xs: &Tensor, (weight, eps): (&Tensor, f64), heads: usize, turns: Turns<'_>) -> Result<Tensor> {
    let (_, tokens, width) = xs.dims3()?;
    let dim = width / heads.max(1);
    let tables = turns.cos.elem_count() / (tokens * dim / 2).max(1);
    if turns.cos.dim(0)? != tokens || turns.cos.dims() != turns.sin.dims() || (tables != 1 && tables != heads) {
        candle_core::bail!("tokens of {:?} in {heads} heads on positions of {:?}", xs.shape(), turns.cos.shape());
    }
    let xs = xs.contiguous()?;
    let ys = place(xs.shape(), xs.dtype(), xs.device())?;
    let arguments = [
        Argument::Address(address(&xs)?),
        Argument::Address(address(&ys)?),
        Argument::Address(address(weight)?),
        Argument::Address(address(turns.cos)?),
        Argument::Address(address(turns.sin)?),
        Argument::Whole(heads as u32),
        Argument::Whole(dim as u32),
        Argument::Whole(tables as u32),
        Argument::Whole(u32::from(turns.halves)),
        Argument::Real(eps as f32),
    ];
    launch(&xs, "norm_rope", xs.dtype(), [tokens as u32, 1], &arguments)?;
    Ok(ys)
}

/// `xs + hs·gate`, summed in f32.
///
/// # Shapes
/// - `xs`, `hs` and output: (1, tokens, dim), all of one type
pub(crate) fn gate_add(xs: &Tensor, hs: &Tensor, vectors: Vectors<'_>, gate: usize) -> Result<Tensor> {
    let (xs, hs) = (xs.contiguous()?, hs.contiguous()?);
    let ys = place(xs.shape(), xs.dtype(), xs.device())?;
    let count = xs.elem_count() as u64;
    let arguments = [
        Argument::Address(address(&xs)?),
        Argument::Address(address(&hs)?),
        Argument::Address(address(&ys)?),
        vectors.of(gate)?,
        optional(vectors.runs)?,
        Argument::Whole(xs.dim(candle_core::D::Minus1)? as u32),
        vectors.stride()?,
        Argument::Count(count),
    ];
    launch(&xs, "gate_add", xs.dtype(), walking(count), &arguments)?;
    Ok(ys)
}

/// Each pixel's channels divided by their length, scaled, and SiLU if `silu`.
///
/// # Shapes
/// - `xs` and output: (1, channels, h, w), the output in the type of `xs`; `scale`: one number for each
///   channel, f32
pub(crate) fn channel_norm(xs: &Tensor, scale: &Tensor, (added, shortest): (f64, f32), silu: bool) -> Result<Tensor> {
    /// Groups of channels that a block sums in parallel.
    const GROUPS: u32 = 8;
    // Both have to live until the kernel is launched.
    let (xs, scale) = (xs.contiguous()?, scale.contiguous()?);
    let channels = xs.dim(1)?;
    let pixels = (xs.elem_count() / channels) as u64;
    let ys = place(xs.shape(), xs.dtype(), xs.device())?;
    let arguments = [
        Argument::Address(address(&xs)?),
        Argument::Address(address(&ys)?),
        Argument::Address(address(&scale)?),
        Argument::Whole(channels as u32),
        Argument::Count(pixels),
        Argument::Real(added as f32),
        Argument::Real(shortest),
        Argument::Whole(u32::from(silu)),
    ];
    let blocks = pixels.div_ceil(u64::from(THREADS / GROUPS)) as u32;
    launch(&xs, "channel_norm", xs.dtype(), [blocks, GROUPS], &arguments)?;
    Ok(ys)
}

/// Widens fp8 to `dtype`, times one scale for all values or one per row.
///
/// # Shapes
/// - `bytes` and output: (rows, columns); `scale`: one number or (rows), f32
pub(crate) fn widen_bytes(bytes: &Tensor, scale: Option<&Tensor>, e5m2: bool, dtype: DType) -> Result<Tensor> {
    let (rows, columns) = bytes.dims2()?;
    let by_row = scale.is_some_and(|scale| scale.elem_count() == rows && rows != 1);
    let ys = place((rows, columns), dtype, bytes.device())?;
    let count = bytes.elem_count() as u64;
    let arguments = [
        Argument::Address(address(bytes)?),
        Argument::Address(address(&ys)?),
        optional(scale)?,
        Argument::Whole(u32::from(by_row)),
        Argument::Count(columns as u64),
        Argument::Count(count),
        Argument::Whole(u32::from(e5m2)),
    ];
    launch(bytes, "widen_bytes", dtype, walking(count), &arguments)?;
    Ok(ys)
}

/// Whether [`widen_blocks`] takes blocks of this kind.
pub(crate) fn takes(kind: GgmlDType) -> bool {
    number_of(kind).is_some()
}

/// GGUF's number of a kind of blocks; `None` without a kernel.
fn number_of(kind: GgmlDType) -> Option<u32> {
    Some(match kind {
        GgmlDType::Q4_0 => 2,
        GgmlDType::Q4_1 => 3,
        GgmlDType::Q5_0 => 6,
        GgmlDType::Q5_1 => 7,
        GgmlDType::Q8_0 => 8,
        GgmlDType::Q2K => 10,
        GgmlDType::Q3K => 11,
        GgmlDType::Q4K => 12,
        GgmlDType::Q5K => 13,
        GgmlDType::Q6K => 14,
        _ => return None,
    })
}

/// Widens GGML's blocks to `dtype`.
///
/// # Shapes
/// - `blocks`: the bytes of all blocks of a matrix, one after another
/// - output: (rows, columns)
pub(crate) fn widen_blocks(
    blocks: &Tensor,
    (rows, columns): (usize, usize),
    kind: GgmlDType,
    dtype: DType,
) -> Result<Tensor> {
    let ys = place((rows, columns), dtype, blocks.device())?;
    let numbers = (rows * columns) as u64;
    let arguments = [
        Argument::Address(address(blocks)?),
        Argument::Address(address(&ys)?),
        Argument::Count(numbers / kind.block_size() as u64),
        Argument::Whole(number_of(kind).unwrap_or_default()),
    ];
    launch(blocks, "widen_blocks", dtype, walking(numbers), &arguments)?;
    Ok(ys)
}

/// Scales to the range of e4m3 and rounds to it. Returns the values and the inverse scale: one f32, on the
/// device.
pub(crate) fn to_e4m3(xs: &Tensor) -> Result<(Tensor, Tensor)> {
    let xs = xs.contiguous()?;
    let count = xs.elem_count() as u64;
    let largest = Tensor::zeros(1, DType::U32, xs.device())?;
    let inverse = place(1, DType::F32, xs.device())?;
    let ys = place(xs.shape(), DType::U8, xs.device())?;
    let [from, most] = [Argument::Address(address(&xs)?), Argument::Address(address(&largest)?)];
    launch(&xs, "largest", xs.dtype(), walking(count), &[from, most, Argument::Count(count)])?;
    let arguments = [
        Argument::Address(address(&xs)?),
        Argument::Address(address(&ys)?),
        Argument::Address(address(&largest)?),
        Argument::Address(address(&inverse)?),
        Argument::Count(count),
    ];
    launch(&xs, "to_e4m3", xs.dtype(), walking(count), &arguments)?;
    Ok((ys, inverse))
}
