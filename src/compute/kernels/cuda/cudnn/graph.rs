//! cuDNN's graph interface, as far as attention and convolutions need it: descriptors, a graph of operations,
//! and the plan that runs it.
//!
//! Attributes and their types:
//! <https://docs.nvidia.com/deeplearning/cudnn/backend/latest/api/cudnn-graph-library.html>.

use std::ffi::{CStr, c_void};

use candle_core::cuda_backend::cudarc::cudnn::sys;
use candle_core::{DType, Result};
use sys::cudnnBackendAttributeName_t as Name;
use sys::cudnnBackendAttributeType_t as Type;
use sys::cudnnBackendDescriptorType_t as Kind;

/// Plans to ask for at a time, the best first.
const PLANS: usize = 16;

/// Alignment of tensors, in bytes.
pub(super) const ALIGNMENT: u64 = 16;

/// A descriptor of cuDNN: set, then finalised, then only read.
#[derive(Debug)]
pub(super) struct Descriptor(sys::cudnnBackendDescriptor_t);

/// The value of an attribute, in cuDNN's layout.
pub(super) trait Value: Copy {
    const TYPE: Type;
}

/// Another descriptor.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Other(sys::cudnnBackendDescriptor_t);

/// An address.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Address(pub u64);

/// A library's handle.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Handle(pub sys::cudnnHandle_t);

macro_rules! values {
    ($($kind:ty: $name:ident),* $(,)?) => {
        $(impl Value for $kind {
            const TYPE: Type = Type::$name;
        })*
    };
}

values! {
    Other: CUDNN_TYPE_BACKEND_DESCRIPTOR,
    Address: CUDNN_TYPE_VOID_PTR,
    Handle: CUDNN_TYPE_HANDLE,
    bool: CUDNN_TYPE_BOOLEAN,
    f32: CUDNN_TYPE_FLOAT,
    i32: CUDNN_TYPE_INT32,
    i64: CUDNN_TYPE_INT64,
    u8: CUDNN_TYPE_CHAR,
    sys::cudnnDataType_t: CUDNN_TYPE_DATA_TYPE,
    sys::cudnnConvolutionMode_t: CUDNN_TYPE_CONVOLUTION_MODE,
    sys::cudnnPointwiseMode_t: CUDNN_TYPE_POINTWISE_MODE,
    sys::cudnnBackendHeurMode_t: CUDNN_TYPE_HEUR_MODE,
    sys::cudnnBackendNumericalNote_t: CUDNN_TYPE_NUMERICAL_NOTE,
}

impl Descriptor {
    pub(super) fn new(kind: Kind) -> Result<Self> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: cuDNN writes one pointer.
        #[expect(unsafe_code, reason = "a call of cuDNN")]
        let status = unsafe { sys::cudnnBackendCreateDescriptor(kind, &raw mut raw) };
        done(status, "making a descriptor")?;
        Ok(Self(raw))
    }

    /// Sets an attribute to values, which cuDNN copies.
    pub(super) fn set<T: Value>(self, name: Name, values: &[T]) -> Result<Self> {
        // SAFETY: cuDNN reads `values.len()` values of the type that is passed.
        #[expect(unsafe_code, reason = "a call of cuDNN")]
        let status = unsafe {
            sys::cudnnBackendSetAttribute(self.0, name, T::TYPE, values.len() as i64, values.as_ptr().cast::<c_void>())
        };
        done(status, &format!("{name:?}"))?;
        Ok(self)
    }

    /// Sets an attribute to other descriptors, which have to live as long.
    pub(super) fn refer(self, name: Name, others: &[&Self]) -> Result<Self> {
        let others: Vec<Other> = others.iter().map(|other| Other(other.0)).collect();
        self.set(name, &others)
    }

    /// No attribute changes after this.
    pub(super) fn finish(self) -> Result<Self> {
        // SAFETY: the descriptor is there.
        #[expect(unsafe_code, reason = "a call of cuDNN")]
        done(unsafe { sys::cudnnBackendFinalize(self.0) }, "finishing a descriptor")?;
        Ok(self)
    }

    /// Reads an attribute into `values` and returns the count.
    fn read<T: Value>(&self, name: Name, values: &mut [T]) -> Result<usize> {
        let mut count = 0;
        // SAFETY: cuDNN writes at most `values.len()` values of the type that is passed.
        #[expect(unsafe_code, reason = "a call of cuDNN")]
        let status = unsafe {
            let room = values.as_mut_ptr().cast::<c_void>();
            sys::cudnnBackendGetAttribute(self.0, name, T::TYPE, values.len() as i64, &raw mut count, room)
        };
        done(status, &format!("{name:?}"))?;
        Ok((count.max(0) as usize).min(values.len()))
    }

    pub(super) fn raw(&self) -> sys::cudnnBackendDescriptor_t {
        self.0
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: it was made once, and nobody else drops it. There is nothing to do about a refusal.
        #[expect(unsafe_code, reason = "a call of cuDNN")]
        let _ = unsafe { sys::cudnnBackendDestroyDescriptor(self.0) };
    }
}

/// A status as a result, with cuDNN's message.
pub(super) fn done(status: sys::cudnnStatus_t, what: &str) -> Result<()> {
    if status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS {
        return Ok(());
    }
    let mut words = [0u8; 512];
    // SAFETY: cuDNN writes a string that ends within the room given.
    #[expect(unsafe_code, reason = "a call of cuDNN")]
    unsafe {
        sys::cudnnGetLastErrorString(words.as_mut_ptr().cast(), words.len());
    }
    let words = CStr::from_bytes_until_nul(&words).unwrap_or_default().to_string_lossy();
    candle_core::bail!("cuDNN answers {status:?} ({words}): {what}")
}

/// The device that plans are made for.
#[derive(Debug)]
pub(super) enum Machine {
    /// The device of a handle.
    Here(sys::cudnnHandle_t),
    /// A description: plans can be made for it, but not run.
    Described(Descriptor),
}

impl Machine {
    /// A device by its properties, in cuDNN's JSON.
    pub(super) fn described(json: &str) -> Result<Self> {
        let device = Descriptor::new(Kind::CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)?
            .set(Name::CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, json.as_bytes())?;
        Ok(Self::Described(device.finish()?))
    }
}

/// cuDNN's name of a number type.
pub(super) fn number(dtype: DType) -> Result<sys::cudnnDataType_t> {
    Ok(match dtype {
        DType::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
        DType::F16 => sys::cudnnDataType_t::CUDNN_DATA_HALF,
        DType::BF16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        other => candle_core::bail!("cuDNN computes in f32, f16 and bf16 here, not in {other:?}"),
    })
}

/// A tensor of a graph. `id` names it when the plan runs.
pub(super) fn tensor(id: i64, dtype: DType, dims: &[i64], strides: &[i64]) -> Result<Descriptor> {
    described(id, dtype, dims, strides)?.finish()
}

/// A tensor that only exists between two operations.
pub(super) fn between(id: i64, dtype: DType, dims: &[i64], strides: &[i64]) -> Result<Descriptor> {
    described(id, dtype, dims, strides)?.set(Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL, &[true])?.finish()
}

/// One f32 on the host.
pub(super) fn scalar(id: i64, axes: usize) -> Result<Descriptor> {
    let ones = vec![1; axes];
    described(id, DType::F32, &ones, &ones)?.set(Name::CUDNN_ATTR_TENSOR_IS_BY_VALUE, &[true])?.finish()
}

fn described(id: i64, dtype: DType, dims: &[i64], strides: &[i64]) -> Result<Descriptor> {
    Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?
        .set(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[ALIGNMENT as i64])?
        .set(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, &[number(dtype)?])?
        .set(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, dims)?
        .set(Name::CUDNN_ATTR_TENSOR_STRIDES, strides)?
        .set(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[id])
}

/// A graph of operations, ready to run.
#[derive(Debug)]
pub(super) struct Plan {
    plan: Descriptor,
    /// Bytes of scratch memory on the device.
    pub workspace: usize,
}

impl Plan {
    /// The first of cuDNN's choices that can be made. With `exact`, none that multiplies f32 in fewer bits.
    ///
    /// # Errors
    /// No plan can be made: the last refusal.
    pub(super) fn new(machine: &Machine, operations: &[&Descriptor], exact: bool) -> Result<Self> {
        let graph = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?
            .refer(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, operations)?;
        let graph = match machine {
            Machine::Here(handle) => graph.set(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, &[Handle(*handle)])?,
            Machine::Described(_) => graph,
        };
        let graph = graph.finish()?;
        let mut refused = None;
        for mode in
            [sys::cudnnBackendHeurMode_t::CUDNN_HEUR_MODE_A, sys::cudnnBackendHeurMode_t::CUDNN_HEUR_MODE_FALLBACK]
        {
            for choice in choices(machine, &graph, mode)? {
                if exact && rounds(&choice)? {
                    continue;
                }
                match Self::of(machine, &choice) {
                    Ok(plan) => return Ok(plan),
                    Err(error) => refused = Some(error),
                }
            }
        }
        Err(refused.unwrap_or_else(|| candle_core::Error::msg("cuDNN has no plan for this")))
    }

    fn of(machine: &Machine, choice: &Descriptor) -> Result<Self> {
        let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?
            .refer(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &[choice])?;
        let plan = match machine {
            Machine::Here(handle) => plan.set(Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, &[Handle(*handle)])?,
            Machine::Described(device) => plan.refer(Name::CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, &[device])?,
        };
        let plan = plan.finish()?;
        let mut bytes = [0i64];
        plan.read(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, &mut bytes)?;
        Ok(Self { plan, workspace: bytes[0].max(0) as usize })
    }

    /// Runs the plan on the handle's stream. `numbers` are the addresses of the tensors by id.
    ///
    /// # Errors
    /// Those of cuDNN.
    pub(super) fn run(&self, handle: sys::cudnnHandle_t, numbers: &[(i64, u64)], workspace: u64) -> Result<()> {
        let ids: Vec<i64> = numbers.iter().map(|(id, _)| *id).collect();
        let addresses: Vec<Address> = numbers.iter().map(|(_, address)| Address(*address)).collect();
        let pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?
            .set(Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &ids)?
            .set(Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, &addresses)?
            .set(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &[Address(workspace)])?
            .finish()?;
        // SAFETY: the callers pass tensors of the shapes that the plan was made for, which live until the
        // stream is past it.
        #[expect(unsafe_code, reason = "a call of cuDNN")]
        done(unsafe { sys::cudnnBackendExecute(handle, self.plan.raw(), pack.raw()) }, "running a plan")
    }
}

/// Engine configurations for a graph, the best first.
fn choices(machine: &Machine, graph: &Descriptor, mode: sys::cudnnBackendHeurMode_t) -> Result<Vec<Descriptor>> {
    let asked = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?
        .refer(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &[graph])?
        .set(Name::CUDNN_ATTR_ENGINEHEUR_MODE, &[mode])?;
    let asked = match machine {
        Machine::Here(_) => asked,
        Machine::Described(device) => asked.refer(Name::CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, &[device])?,
    };
    let asked = asked.finish()?;
    let room =
        (0..PLANS).map(|_| Descriptor::new(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)).collect::<Result<Vec<_>>>()?;
    let mut raw: Vec<Other> = room.iter().map(|choice| Other(choice.raw())).collect();
    let count = asked.read(Name::CUDNN_ATTR_ENGINEHEUR_RESULTS, &mut raw)?;
    Ok(room.into_iter().take(count).collect())
}

/// Whether a configuration multiplies f32 in fewer bits: on tensor cores (TF32), or after rounding its input.
fn rounds(choice: &Descriptor) -> Result<bool> {
    use sys::cudnnBackendNumericalNote_t as Note;
    let engine = Descriptor::new(Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?;
    choice.read(Name::CUDNN_ATTR_ENGINECFG_ENGINE, &mut [Other(engine.raw())])?;
    let mut notes = [Note::CUDNN_NUMERICAL_NOTE_TENSOR_CORE; PLANS];
    let count = engine.read(Name::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, &mut notes)?;
    Ok(notes[..count].iter().any(|note| {
        matches!(note, Note::CUDNN_NUMERICAL_NOTE_TENSOR_CORE | Note::CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS)
    }))
}
