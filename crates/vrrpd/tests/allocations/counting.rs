//! An allocator that notices what the thread `vrrp` asks of it.
#![allow(
    unsafe_code,
    reason = "an allocator is unsafe to write; this one hands everything on to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Begins each note in the log.
pub(crate) const NOTE: &str = "the advertising thread asks the allocator";
/// Notes that say from where; the rest are only counted.
const TRACES: u64 = 12;

/// The system's allocator, with somebody who looks on.
pub(crate) struct Counting;

static WATCHED: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this is that thread, once that is known.
    static IS_IT: Cell<Option<bool>> = const { Cell::new(None) };
    /// A note is being written, which takes memory itself.
    static NOTING: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every call is handed on with what it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note("for memory");
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        note("to take some back");
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note("for more memory");
        // SAFETY: as the caller promises.
        unsafe { System.realloc(place, layout, size) }
    }
}

fn note(what: &str) {
    if !WATCHED.load(Ordering::Relaxed) || NOTING.replace(true) {
        return;
    }
    let is_it = IS_IT.get().unwrap_or_else(|| std::thread::current().name() == Some("vrrp"));
    IS_IT.set(Some(is_it));
    if is_it && COUNT.fetch_add(1, Ordering::Relaxed) < TRACES {
        eprintln!("{NOTE} {what}:\n{}", Backtrace::force_capture());
    }
    NOTING.set(false);
}

/// Watches from the moment on when there is a file of this name, which is removed then.
pub(crate) fn watch_when_asked(file: &Path) {
    let file = file.to_owned();
    let wait = move || {
        while !file.exists() {
            std::thread::sleep(Duration::from_millis(5)); // between two looks
        }
        WATCHED.store(true, Ordering::Relaxed);
        std::fs::remove_file(&file).expect("remove the file");
    };
    drop(std::thread::spawn(wait));
}
