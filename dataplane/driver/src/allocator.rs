//! An allocator that counts, for tests and benches: it proves that the packet path allocates
//! nothing. Products use the system's allocator; nothing in this crate calls this one.
//!
//! ```text
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator;
//! let ((), counted) = ironcast_driver::allocator::count(|| work());
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What one thread allocated while it counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allocations {
    /// Calls of alloc, alloc_zeroed and realloc.
    pub calls: u64,
    /// Bytes asked for by them.
    pub bytes: u64,
}

thread_local! {
    // `const` and without a destructor: touching them never allocates, not even the first time.
    static ENABLED: Cell<bool> = const { Cell::new(false) };
    static COUNTED: Cell<Allocations> = const { Cell::new(Allocations { calls: 0, bytes: 0 }) };
}

/// Starts counting on this thread, from zero.
pub fn start() {
    COUNTED.set(Allocations::default());
    ENABLED.set(true);
}

/// Ends counting on this thread and tells what was counted.
pub fn stop() -> Allocations {
    ENABLED.set(false);
    COUNTED.get()
}

/// What was counted up to now on this thread.
#[must_use]
pub fn counted() -> Allocations {
    COUNTED.get()
}

/// Counts what `work` allocates on this thread.
pub fn count<T>(work: impl FnOnce() -> T) -> (T, Allocations) {
    start();
    let result = work();
    (result, stop())
}

fn note(bytes: usize) {
    if ENABLED.get() {
        let mut counted = COUNTED.get();
        counted.calls += 1;
        counted.bytes += bytes as u64;
        COUNTED.set(counted);
    }
}

/// The system's allocator, with a count per thread while [`start`] is in force.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator;

// SAFETY: every call goes unchanged to `System`; counting touches thread-local cells only.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this `layout`, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}
