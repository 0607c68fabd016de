//! Devices and their number types.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{DType, Device};

use crate::error::{Context, Error, Result};

/// Opens a device by its name on the command line: `cpu`, `cuda`, `cuda:N` or `metal`.
///
/// # Errors
/// An unknown name, a device that this build does not support, or one that this machine does not have.
pub fn open(name: &str) -> Result<Device> {
    let (kind, index) = match name.split_once(':') {
        Some((kind, index)) => (kind, index.parse().map_err(|_| unknown(name))?),
        None => (name, 0),
    };
    match kind {
        "cpu" if name == "cpu" => Ok(Device::Cpu),
        #[cfg(feature = "cuda")]
        "cuda" => cuda::open(index).context(|| format!("opening device `{name}`")),
        #[cfg(not(feature = "cuda"))]
        "cuda" => Err(unbuilt(kind)),
        "metal" if cfg!(feature = "metal") => Device::new_metal(index).context(|| format!("opening device `{name}`")),
        "metal" => Err(unbuilt(kind)),
        _ => Err(unknown(name)),
    }
}

fn unbuilt(kind: &str) -> Error {
    Error::usage(format!("this build of talkie knows no `{kind}` device")).hint(format!(
        "build it in talkie's source with `cargo install --path . --features {kind}`, or use `--device cpu`"
    ))
}

fn unknown(name: &str) -> Error {
    Error::usage(format!("`{name}` is not a device")).hint("use `cpu`, `cuda`, `cuda:1` or `metal`")
}

/// The name of the best device of this build: the first that opens of CUDA, Metal, CPU.
pub fn best() -> &'static str {
    ["cuda", "metal"].into_iter().find(|name| open(name).is_ok()).unwrap_or("cpu")
}

/// Returns freed memory to the system. Allocators keep freed blocks of some megabytes, such as a network's
/// layers, and the next stage would need its memory besides.
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it touches nothing that is in use.
        #[expect(unsafe_code, reason = "a call of the C library that has no other name")]
        let _ = unsafe { libc::malloc_trim(0) };
    }
    #[cfg(feature = "cuda")]
    cuda::trim();
}

/// Free bytes of a device, by its name on the command line; `None` if the system does not report them.
pub fn free(name: &str) -> Option<u64> {
    match name.split(':').next() {
        Some("cpu") => {
            let text = std::fs::read_to_string("/proc/meminfo").ok()?;
            let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
            let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
            kib.checked_mul(1024)
        }
        #[cfg(feature = "cuda")]
        Some("cuda") => cuda::free(name.split_once(':').map_or(Ok(0), |(_, index)| index.parse()).ok()?).ok(),
        _ => None,
    }
}

/// Peak bytes of tensors on devices that count them, since [`reset_peak`].
pub(crate) fn peak_bytes() -> Option<u64> {
    #[cfg(feature = "cuda")]
    return cuda::peak_bytes();
    #[cfg(not(feature = "cuda"))]
    None
}

/// Resets the peak counter.
pub(crate) fn reset_peak() {
    #[cfg(feature = "cuda")]
    cuda::reset_peak();
}

/// A number type by its name on the command line: `f32`, `bf16` or `f16`.
///
/// # Errors
/// An unknown name, or a half type on a CPU, where candle cannot multiply matrices in it.
pub fn dtype(name: &str, device: &Device) -> Result<DType> {
    let dtype = match name {
        "f32" => DType::F32,
        "bf16" => DType::BF16,
        "f16" => DType::F16,
        _ => return Err(Error::usage(format!("`{name}` is not a number type")).hint("use `f32`, `bf16` or `f16`")),
    };
    if device.is_cpu() && dtype != DType::F32 {
        return Err(Error::usage(format!("a CPU computes in f32 only, not in {name}"))
            .hint("leave `--dtype` out: bf16 weights stay bf16 in memory and widen in use"));
    }
    Ok(dtype)
}
