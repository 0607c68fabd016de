//! Two-dimensional convolutions with a bias, summed in f32.

use candle_core::cuda_backend::cudarc::cudnn::sys;
use candle_core::{DType, Result, Tensor};
use sys::cudnnBackendAttributeName_t as Name;
use sys::cudnnBackendDescriptorType_t as Kind;

use super::Library;
use super::graph::{self, Descriptor, Machine, Plan};
use crate::compute::kernels::cuda::{address, device, place};

const X: i64 = 1;
const WEIGHT: i64 = 2;
const SUM: i64 = 3;
const BIAS: i64 = 4;
const OUT: i64 = 5;

/// Key of a plan for a convolution of one image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub dtype: DType,
    /// In and out.
    pub channels: [usize; 2],
    /// Rows and columns of the image.
    pub size: [usize; 2],
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    pub stride: usize,
    /// Zeros on every side.
    pub padding: usize,
}

impl Shape {
    /// Rows and columns of the output; `None` if the kernel is larger than the image.
    fn out(&self) -> Option<[usize; 2]> {
        let side = |axis: usize| {
            let room = (self.size[axis] + 2 * self.padding).checked_sub(self.kernel[axis])?;
            Some(room / self.stride + 1)
        };
        Some([side(0)?, side(1)?])
    }

    pub(super) fn plan(&self, machine: &Machine) -> Result<Plan> {
        let Some(out) = self.out() else { candle_core::bail!("a kernel that is larger than its image") };
        let [inputs, outputs] = self.channels;
        let image = |channels: usize, [rows, columns]: [usize; 2]| [1, channels, rows, columns];
        let tensor = |id: i64, sides: [usize; 4]| graph::tensor(id, self.dtype, &numbers(sides), &strides(sides));
        let x = tensor(X, image(inputs, self.size))?;
        let weight = tensor(WEIGHT, [outputs, inputs, self.kernel[0], self.kernel[1]])?;
        let ys = image(outputs, out);
        let sum = graph::between(SUM, DType::F32, &numbers(ys), &strides(ys))?;
        let bias = tensor(BIAS, image(outputs, [1, 1]))?;
        let output = tensor(OUT, ys)?;

        let float = graph::number(DType::F32)?;
        let way = Descriptor::new(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?
            .set(Name::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, &[float])?
            .set(Name::CUDNN_ATTR_CONVOLUTION_CONV_MODE, &[sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION])?
            .set(Name::CUDNN_ATTR_CONVOLUTION_DILATIONS, &[1i64; 2])?
            .set(Name::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, &[self.stride as i64; 2])?
            .set(Name::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, &[self.padding as i64; 2])?
            .set(Name::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, &[self.padding as i64; 2])?
            .set(Name::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, &[2i64])?
            .finish()?;
        let convolution = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)?
            .refer(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, &[&way])?
            .refer(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, &[&x])?
            .refer(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, &[&weight])?
            .refer(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, &[&sum])?
            .set(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, &[1f32])?
            .set(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, &[0f32])?
            .finish()?;
        let add = Descriptor::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?
            .set(Name::CUDNN_ATTR_POINTWISE_MODE, &[sys::cudnnPointwiseMode_t::CUDNN_POINTWISE_ADD])?
            .set(Name::CUDNN_ATTR_POINTWISE_MATH_PREC, &[float])?
            .finish()?;
        let biased = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?
            .refer(Name::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &[&add])?
            .refer(Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, &[&sum])?
            .refer(Name::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, &[&bias])?
            .refer(Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, &[&output])?
            .finish()?;
        Plan::new(machine, &[&convolution, &biased], self.dtype == DType::F32)
    }
}

fn numbers(sides: [usize; 4]) -> [i64; 4] {
    sides.map(|side| side as i64)
}

/// Strides of a contiguous tensor.
fn strides([_, channels, rows, columns]: [usize; 4]) -> [i64; 4] {
    numbers([channels * rows * columns, rows * columns, columns, 1])
}

/// A convolution of one image, plus a bias. `None` if cuDNN does not take it.
///
/// # Shapes
/// - `xs`: (1, in, h, w)
/// - `weight`: (out, in, rows, columns), `bias`: out numbers, both in the type of `xs`
/// - output: (1, out, h', w'), as in [`Conv2d::forward`](crate::nn::conv::Conv2d::forward)
pub(crate) fn convolve(
    xs: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    stride: usize,
    padding: usize,
) -> Result<Option<Tensor>> {
    let (films, inputs, rows, columns) = xs.dims4()?;
    let (outputs, taken, kernel_rows, kernel_columns) = weight.dims4()?;
    let dtype = xs.dtype();
    if films != 1
        || taken != inputs
        || bias.elem_count() != outputs
        || [weight, bias].iter().any(|t| t.dtype() != dtype)
    {
        return Ok(None);
    }
    let shape = Shape {
        dtype,
        channels: [inputs, outputs],
        size: [rows, columns],
        kernel: [kernel_rows, kernel_columns],
        stride,
        padding,
    };
    let Some([out_rows, out_columns]) = shape.out() else { return Ok(None) };
    let device_of = device(xs)?;
    let library = Library::of(device_of)?;
    let Some(plan) = library.plan(super::Shape::Convolution(shape)) else { return Ok(None) };
    let (xs, weight, bias) = (whole(xs)?, whole(weight)?, whole(bias)?);
    let ys = place((1, outputs, out_rows, out_columns), dtype, xs.device())?;
    let numbers = [(X, address(&xs)?), (WEIGHT, address(&weight)?), (BIAS, address(&bias)?), (OUT, address(&ys)?)];
    library.run(device_of, &plan, &numbers)?;
    Ok(Some(ys))
}

/// The tensor, contiguous and aligned as the plan requires.
fn whole(xs: &Tensor) -> Result<Tensor> {
    if xs.is_contiguous() && address(xs)? % graph::ALIGNMENT == 0 { Ok(xs.clone()) } else { xs.force_contiguous() }
}
