//! The largest resident set of this process, as Linux counts it, and the most that tensors took on a GPU. Other systems tell nothing
//! of the first.

use std::fs;

use crate::compute::device;

/// The most bytes since the counts were set back, or since the process began; none where nobody counts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Peak {
    /// Resident in memory.
    pub process: Option<u64>,
    /// Of tensors on a device that counts them itself.
    pub device: Option<u64>,
}

impl Peak {
    pub(super) fn now() -> Self {
        Self { process: peak_resident(), device: device::peak_bytes() }
    }

    pub(super) fn max(self, other: Self) -> Self {
        Self { process: self.process.max(other.process), device: self.device.max(other.device) }
    }
}

/// Sets the counts back to what is in use now, and answers whether that worked for the process.
pub(super) fn reset_peak() -> bool {
    device::reset_peak();
    cfg!(target_os = "linux") && fs::write("/proc/self/clear_refs", "5").is_ok()
}

fn peak_resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
