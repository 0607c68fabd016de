//! Globals allowed in a pickle: only those of a plain state dict.

use safetensors::tensor::Dtype;

use super::TAKE_SAFETENSORS;
use crate::error::{Error, Result};

/// An allowed global.
#[derive(Clone, Copy)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    /// A storage class, with its type if it has one.
    Storage(Option<Dtype>),
    Dtype(Dtype),
}

impl Global {
    /// The global of a name, or an error if a plain state dict does not have it.
    pub(super) fn named(module: &str, name: &str) -> Result<Self> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "DoubleStorage") => Self::Storage(Some(Dtype::F64)),
            ("torch", "FloatStorage") => Self::Storage(Some(Dtype::F32)),
            ("torch", "HalfStorage") => Self::Storage(Some(Dtype::F16)),
            ("torch", "BFloat16Storage") => Self::Storage(Some(Dtype::BF16)),
            ("torch", "LongStorage") => Self::Storage(Some(Dtype::I64)),
            ("torch", "IntStorage") => Self::Storage(Some(Dtype::I32)),
            ("torch", "ShortStorage") => Self::Storage(Some(Dtype::I16)),
            ("torch", "CharStorage") => Self::Storage(Some(Dtype::I8)),
            ("torch", "ByteStorage") => Self::Storage(Some(Dtype::U8)),
            ("torch", "BoolStorage") => Self::Storage(Some(Dtype::BOOL)),
            // Newer types have no storage class: the tensor has the type.
            ("torch.storage", "UntypedStorage") => Self::Storage(None),
            ("torch", "float8_e4m3fn") => Self::Dtype(Dtype::F8_E4M3),
            ("torch", "float8_e5m2") => Self::Dtype(Dtype::F8_E5M2),
            _ => {
                let asked = format!("it asks for `{module:.60}.{name:.60}`; talkie never runs code from a checkpoint");
                return Err(
                    Error::failed(format!("this .pth is not a plain state dict: {asked}")).hint(TAKE_SAFETENSORS)
                );
            }
        })
    }
}
