//! Fuzz targets for every parser of foreign files, and an allocator that makes a finding of a request for too
//! much.

pub mod seeds;
pub mod targets;

use std::alloc::{GlobalAlloc, Layout, System};

/// No file of a few kilobytes is a reason to ask for more at once: the largest that talkie allows is a
/// picture's buffer.
const MOST: usize = 1 << 30;

/// The system's allocator, which refuses what is too much: the process then ends, and libFuzzer keeps the
/// input.
struct Bounded;

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

// SAFETY: everything is the system's allocator's, but for null, which is how a request is refused.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        if layout.size() > MOST { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        if layout.size() > MOST { std::ptr::null_mut() } else { unsafe { System.alloc_zeroed(layout) } }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        if size > MOST { std::ptr::null_mut() } else { unsafe { System.realloc(memory, layout, size) } }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// The crate of the tokenizers panics on tables that contradict each other, and talkie makes an error of it.
/// libFuzzer takes the message for a crash, so there is none here; a panic that nobody catches is found all
/// the same.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let done = work();
    std::panic::set_hook(hook);
    done
}
