//! How many bytes of the heap are in use: readers of strangers' bytes must keep no more than they promise.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: everything is the system's allocator; beside it a number is counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Bytes of the heap in use by Rust code now. The fuzzer itself, which is C++, does not count.
pub fn in_use() -> usize {
    IN_USE.load(Relaxed)
}

/// Measures what is kept from here on.
#[derive(Debug, Clone, Copy)]
pub struct Since(usize);

impl Since {
    /// Begins.
    pub fn now() -> Self {
        Self(in_use())
    }

    /// Fails when more bytes are kept than may be. What grows by doubling has up to twice its content.
    pub fn assert_at_most(self, limit: usize) {
        let kept = in_use().saturating_sub(self.0);
        assert!(kept <= limit, "{kept} bytes are kept, more than {limit}");
    }
}
