//! Attention and convolutions by cuDNN, with one plan per shape.

pub(crate) mod attention;
pub(crate) mod convolution;
mod graph;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::rc::Rc;

use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::cuda_backend::{CudaDevice, DeviceId};
use candle_core::{DType, Result};

use graph::{Machine, Plan};

/// Key of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Shape {
    Attention(attention::Shape),
    Convolution(convolution::Shape),
}

impl Shape {
    fn plan(&self, machine: &Machine) -> Result<Plan> {
        match self {
            Self::Attention(shape) => shape.plan(machine),
            Self::Convolution(shape) => shape.plan(machine),
        }
    }
}

/// A handle and its plans. Neither leaves its thread.
struct Library {
    machine: Machine,
    handle: sys::cudnnHandle_t,
    /// `None` if cuDNN has no plan for a shape.
    plans: RefCell<HashMap<Shape, Option<Rc<Plan>>>>,
}

thread_local! {
    static LIBRARIES: RefCell<HashMap<DeviceId, Rc<Library>>> = RefCell::default();
}

impl Library {
    fn of(device: &CudaDevice) -> Result<Rc<Self>> {
        if let Some(library) = LIBRARIES.with_borrow(|libraries| libraries.get(&device.id()).cloned()) {
            return Ok(library);
        }
        let stream = device.cuda_stream();
        stream.context().bind_to_thread()?;
        let handle = result::create_handle()?;
        let library = Self { machine: Machine::Here(handle), handle, plans: RefCell::default() };
        // SAFETY: the handle is there, and the stream is the device's own, which outlives it.
        #[expect(unsafe_code, reason = "a call of cuDNN")]
        unsafe {
            result::set_stream(handle, stream.cu_stream().cast())?;
        }
        let library = Rc::new(library);
        LIBRARIES.with_borrow_mut(|libraries| libraries.insert(device.id(), library.clone()));
        Ok(library)
    }

    /// The plan for a shape, made on first use. `None` if cuDNN has none, which depends on the card and the
    /// library's version; candle's operations do the same.
    fn plan(&self, shape: Shape) -> Option<Rc<Plan>> {
        let known = self.plans.borrow().get(&shape).cloned();
        known.unwrap_or_else(|| {
            let plan = shape.plan(&self.machine).ok().map(Rc::new);
            self.plans.borrow_mut().insert(shape, plan.clone());
            plan
        })
    }

    fn run(&self, device: &CudaDevice, plan: &Plan, numbers: &[(i64, u64)]) -> Result<()> {
        // SAFETY: cuDNN writes scratch memory before it reads it.
        #[expect(unsafe_code, reason = "zeros would be a pass over memory for nothing")]
        let workspace = unsafe { device.alloc::<u8>(plan.workspace.max(1))? };
        let stream = device.cuda_stream();
        plan.run(self.handle, numbers, workspace.device_ptr(&stream).0)
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        self.plans.borrow_mut().clear();
        // SAFETY: the handle was made once, and nobody else destroys it. There is nothing to do about a
        // refusal.
        #[expect(unsafe_code, reason = "a call of cuDNN")]
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// The version of the loaded cuDNN: 91900 is 9.19.0.
pub fn version() -> usize {
    result::get_version()
}

/// Makes cuDNN's plans for the shapes of real films, for a device given by cuDNN's JSON description of it.
/// Returns the workspace of each plan, or why there is none. Kernels are compiled but not run: this needs no
/// device.
///
/// # Errors
/// A description that cuDNN does not understand.
pub fn rehearse(device: &str) -> Result<Vec<(String, Result<usize>)>> {
    let machine = Machine::described(device)?;
    let attention = [
        ("Wan 2.1 1.3B, 832x480x81", 12, 32_760, 32_760, 128),
        ("Wan 2.1 14B, 832x480x81", 40, 32_760, 32_760, 128),
        ("Wan 2.1 14B to its text", 40, 32_760, 512, 128),
        ("Wan 2.2 5B, 1280x704x121", 24, 27_280, 27_280, 128),
        ("LTX-2, video", 32, 12_288, 12_288, 128),
        ("LTX-2, video to audio", 32, 12_288, 126, 64),
    ];
    let attention = attention.map(|(name, heads, queries, keys, dim)| {
        (name, Shape::Attention(attention::Shape::packed(DType::BF16, heads, queries, keys, dim)))
    });
    let convolutions = [
        ("Wan 2.1 decoder, 480x832, three frames", DType::BF16, [288, 96], [480, 832], 3, 1),
        ("the same in f32", DType::F32, [288, 96], [480, 832], 3, 1),
        ("Wan 2.2 decoder, 352x640, one frame", DType::BF16, [512, 512], [352, 640], 3, 1),
        ("Wan 2.1 encoder, half the size", DType::BF16, [96, 96], [481, 833], 3, 2),
        ("LTX-2 decoder, 192x320", DType::BF16, [768, 256], [192, 320], 3, 1),
    ];
    let convolutions = convolutions.map(|(name, dtype, channels, size, kernel, stride)| {
        let padding = if stride == 1 { kernel / 2 } else { 0 };
        (name, Shape::Convolution(convolution::Shape { dtype, channels, size, kernel: [kernel; 2], stride, padding }))
    });
    let shapes = attention.into_iter().chain(convolutions);
    Ok(shapes.map(|(name, shape)| (name.to_owned(), shape.plan(&machine).map(|plan| plan.workspace))).collect())
}

/// The address of a value on the host, for a plan.
fn here(number: &f32) -> u64 {
    std::ptr::from_ref(number).cast::<c_void>() as u64
}
