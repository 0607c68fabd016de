//! Matrix products with an epilogue, bias and GELU, by cuBLASLt: candle's products have none.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::rc::Rc;

use candle_core::cuda_backend::cudarc::cublaslt::{result, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::cuda_backend::{CudaDevice, DeviceId, WrapErr};
use candle_core::{DType, Error, Result, Tensor};
use sys::cublasLtMatmulDescAttributes_t as Attribute;

use super::{address, device, kernels, place};

/// Bytes of scratch memory: what NVIDIA recommends for Hopper.
const SCRATCH: usize = 32 << 20;

/// Key of a prepared product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    /// The type of the result.
    dtype: DType,
    /// Whether both factors are e4m3, with one scale each.
    eight: bool,
    rows: usize,
    inputs: usize,
    outputs: usize,
    bias: bool,
    gelu: bool,
}

/// cuBLASLt with its scratch memory and prepared products. None of it leaves its thread.
struct Library {
    handle: sys::cublasLtHandle_t,
    scratch: CudaSlice<u8>,
    ready: RefCell<HashMap<Shape, Rc<Ready>>>,
}

thread_local! {
    static LIBRARIES: RefCell<HashMap<DeviceId, Rc<Library>>> = RefCell::default();
}

impl Library {
    fn of(device: &CudaDevice) -> Result<Rc<Self>> {
        if let Some(library) = LIBRARIES.with_borrow(|libraries| libraries.get(&device.id()).cloned()) {
            return Ok(library);
        }
        device.cuda_stream().context().bind_to_thread().w()?;
        // SAFETY: the library writes scratch memory before it reads it.
        #[expect(unsafe_code, reason = "zeros would be a pass over memory for nothing")]
        let scratch = unsafe { device.alloc::<u8>(SCRATCH)? };
        let handle = result::create_handle().map_err(Error::wrap)?;
        let library = Rc::new(Self { handle, scratch, ready: RefCell::default() });
        LIBRARIES.with_borrow_mut(|libraries| libraries.insert(device.id(), library.clone()));
        Ok(library)
    }

    fn ready(&self, shape: Shape) -> Result<Rc<Ready>> {
        if let Some(ready) = self.ready.borrow().get(&shape) {
            return Ok(ready.clone());
        }
        let ready = Rc::new(Ready::new(self.handle, shape)?);
        self.ready.borrow_mut().insert(shape, ready.clone());
        Ok(ready)
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        self.ready.borrow_mut().clear();
        // SAFETY: the handle was made once, and nobody else destroys it. There is nothing to do about a
        // refusal.
        #[expect(unsafe_code, reason = "a call of cuBLASLt")]
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// A prepared product of one shape: its descriptors and the chosen algorithm.
struct Ready {
    product: sys::cublasLtMatmulDesc_t,
    /// Layouts of the weight, `xs` and the result.
    sides: [sys::cublasLtMatrixLayout_t; 3],
    way: sys::cublasLtMatmulAlgo_t,
}

impl Ready {
    /// cuBLASLt is column-major: its result is ours transposed, and its first factor our second.
    #[expect(unsafe_code, reason = "calls of cuBLASLt")]
    fn new(handle: sys::cublasLtHandle_t, shape: Shape) -> Result<Self> {
        let Shape { rows, inputs, outputs, .. } = shape;
        let result_type = match shape.dtype {
            DType::BF16 => sys::cudaDataType_t::CUDA_R_16BF,
            DType::F16 => sys::cudaDataType_t::CUDA_R_16F,
            other => candle_core::bail!("no product of these has a result in {other:?}"),
        };
        let factor_type = if shape.eight { sys::cudaDataType_t::CUDA_R_8F_E4M3 } else { result_type };
        let float = sys::cudaDataType_t::CUDA_R_32F;
        let product = result::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, float);
        let side = |kind, columns: usize, rows: usize| {
            result::create_matrix_layout(kind, columns as u64, rows as u64, columns as i64).map_err(Error::wrap)
        };
        let sides =
            [side(factor_type, inputs, outputs)?, side(factor_type, inputs, rows)?, side(result_type, outputs, rows)?];
        let mut ready =
            Self { product: product.map_err(Error::wrap)?, sides, way: sys::cublasLtMatmulAlgo_t { data: [0; 8] } };
        let epilogue = match (shape.bias, shape.gelu) {
            (false, false) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT,
            (true, false) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            (false, true) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU,
            (true, true) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU_BIAS,
        };
        ready.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &1i32)?;
        ready.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
        if shape.bias {
            // The address is set for each product; that there is one influences the choice of the algorithm.
            ready.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &0u64)?;
        }
        let wish = result::create_matmul_pref().map_err(Error::wrap)?;
        let most = sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        let [weight, xs, ys] = ready.sides;
        // SAFETY: all descriptors are there; the attribute is a number of the size that is said.
        let found = unsafe {
            let bytes = std::ptr::from_ref(&SCRATCH).cast::<c_void>();
            let set = result::set_matmul_pref_attribute(wish, most, bytes, size_of::<usize>());
            let found =
                set.and_then(|()| result::get_matmul_algo_heuristic(handle, ready.product, weight, xs, ys, ys, wish));
            // There is nothing to do about a refusal.
            let _ = result::destroy_matmul_pref(wish);
            found
        };
        ready.way = found.map_err(Error::wrap)?.algo;
        Ok(ready)
    }

    fn set<T>(&self, attribute: Attribute, value: &T) -> Result<()> {
        let bytes = std::ptr::from_ref(value).cast::<c_void>();
        // SAFETY: the library reads as many bytes as `value` has.
        #[expect(unsafe_code, reason = "a call of cuBLASLt")]
        unsafe {
            result::set_matmul_desc_attribute(self.product, attribute, bytes, size_of::<T>()).map_err(Error::wrap)
        }
    }

    fn run(&self, library: &Library, device: &CudaDevice, [weight, xs, ys]: [u64; 3]) -> Result<()> {
        let (one, zero) = (1f32, 0f32);
        let stream = device.cuda_stream();
        let at = |address: u64| address as *const c_void;
        let [weight_side, xs_side, ys_side] = self.sides;
        // SAFETY: the matrices have the shapes that this was prepared for, and the result is new.
        #[expect(unsafe_code, reason = "a call of cuBLASLt")]
        unsafe {
            result::matmul(
                library.handle,
                self.product,
                std::ptr::from_ref(&one).cast(),
                std::ptr::from_ref(&zero).cast(),
                at(weight),
                weight_side,
                at(xs),
                xs_side,
                at(ys),
                ys_side,
                ys as *mut c_void,
                ys_side,
                &raw const self.way,
                library.scratch.device_ptr(&stream).0 as *mut c_void,
                SCRATCH,
                stream.cu_stream().cast(),
            )
            .map_err(Error::wrap)
        }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        // SAFETY: each was made once, and nobody else destroys it. There is nothing to do about a refusal.
        #[expect(unsafe_code, reason = "calls of cuBLASLt")]
        unsafe {
            let _ = result::destroy_matmul_desc(self.product);
            for side in self.sides {
                let _ = result::destroy_matrix_layout(side);
            }
        }
    }
}

/// `xs·weightᵀ + bias`, and GELU (tanh approximation) if `gelu`: summed in f32 and rounded once. `None` for
/// f32, which cuBLASLt would round to TF32.
///
/// # Shapes
/// - `xs`: (n, in), `weight`: (out, in), `bias`: (out), all of one type
/// - output: (n, out)
pub(crate) fn multiply(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>, gelu: bool) -> Result<Option<Tensor>> {
    let (rows, inputs) = xs.dims2()?;
    let (outputs, taken) = weight.dims2()?;
    let dtype = xs.dtype();
    let alike = [Some(weight), bias].into_iter().flatten().all(|part| part.dtype() == dtype);
    if inputs != taken || !alike || dtype == DType::F32 || bias.is_some_and(|bias| bias.elem_count() != outputs) {
        return Ok(None);
    }
    let shape = Shape { dtype, eight: false, rows, inputs, outputs, bias: bias.is_some(), gelu };
    compute(shape, xs, weight, bias, None).map(Some)
}

/// The same with a weight in e4m3, and `xs` rounded to e4m3 too: for Hopper and later. `None` if a side is
/// not a multiple of 16.
///
/// # Shapes
/// - `xs`: (n, in), `weight`: bytes (out, in), `scale`: one number, f32, `bias`: (out), in the type of `xs`
/// - output: (n, out)
pub(crate) fn multiply_eight(
    xs: &Tensor,
    weight: &Tensor,
    scale: Option<&Tensor>,
    bias: Option<&Tensor>,
    gelu: bool,
) -> Result<Option<Tensor>> {
    let (rows, inputs) = xs.dims2()?;
    let (outputs, taken) = weight.dims2()?;
    let dtype = xs.dtype();
    let whole = inputs == taken && inputs % 16 == 0 && outputs % 16 == 0 && rows > 0;
    let one = scale.is_none_or(|scale| scale.elem_count() == 1);
    if !whole || !one || dtype == DType::F32 || bias.is_some_and(|bias| bias.dtype() != dtype) {
        return Ok(None);
    }
    let (rounded, inverse) = kernels::to_e4m3(xs)?;
    let shape = Shape { dtype, eight: true, rows, inputs, outputs, bias: bias.is_some(), gelu };
    compute(shape, &rounded, weight, bias, Some((scale, &inverse))).map(Some)
}

/// `scales` are those of the weight and of `xs`, if both are e4m3.
fn compute(
    shape: Shape,
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    scales: Option<(Option<&Tensor>, &Tensor)>,
) -> Result<Tensor> {
    let device = device(xs)?;
    let library = Library::of(device)?;
    let ready = library.ready(shape)?;
    let (xs, weight, bias) = (whole(xs)?, whole(weight)?, bias.map(whole).transpose()?);
    if let Some(bias) = &bias {
        ready.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &address(bias)?)?;
    }
    if let Some((of_weight, of_xs)) = scales {
        let of_weight = of_weight.map_or(Ok(0), address)?;
        ready.set(Attribute::CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &of_weight)?;
        ready.set(Attribute::CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &address(of_xs)?)?;
    }
    let ys = place((shape.rows, shape.outputs), shape.dtype, xs.device())?;
    ready.run(&library, device, [address(&weight)?, address(&xs)?, address(&ys)?])?;
    Ok(ys)
}

/// The tensor, contiguous and aligned as the algorithms require.
fn whole(xs: &Tensor) -> Result<Tensor> {
    const ALIGNMENT: u64 = 256;
    if xs.is_contiguous() && address(xs)? % ALIGNMENT == 0 { Ok(xs.clone()) } else { xs.force_contiguous() }
}
