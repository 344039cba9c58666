//! Who may have a link now: times are measured on it, on few CPUs.

use std::sync::{Condvar, Mutex, PoisonError};

/// Links at a time; their programs mostly wait.
const AT_A_TIME: usize = 2;

static FREE: Mutex<usize> = Mutex::new(AT_A_TIME);
static GIVEN_BACK: Condvar = Condvar::new();

/// A right to have a link, given back when dropped, also by a test that failed.
pub(crate) struct Turn(usize);

impl Turn {
    /// Waits for it. A test of the module `strain` takes all CPUs and so all turns; the harness names threads like tests.
    pub(crate) fn take() -> Self {
        let strains = std::thread::current().name().is_some_and(|name| name.starts_with("strain::"));
        let needed = if strains { AT_A_TIME } else { 1 };
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        while *free < needed {
            free = GIVEN_BACK.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= needed;
        Self(needed)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += self.0;
        GIVEN_BACK.notify_all();
    }
}
