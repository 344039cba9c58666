//! Making the guard hard to starve: real-time priority and locked memory, where the host permits them.

use ha_core::guard_link::{Degraded, Layers};
use nix::sys::mman::{MlockAllFlags, mlockall};

use crate::log_line::{Level, Log};
use crate::system_call::set_real_time;

/// In the middle: above all ordinary work, below the kernel's own urgent threads.
const PRIORITY: i32 = 50;

/// Asks for both; what is refused makes the guard weaker, not useless.
pub(crate) fn prepare(log: &Log) -> (Layers, Degraded) {
    let mut degraded = Degraded::default();
    if let Err(error) = lock_memory() {
        log.line(
            Level::Warn,
            &format!("memory is not locked (mlockall: {error}): may be slow under memory pressure"),
        );
        degraded = degraded.with(Degraded::NOT_LOCKED);
    }
    if let Err(error) = set_real_time(PRIORITY) {
        let text =
            format!("no real-time priority (sched_setscheduler: {error}): may be late on a starved host");
        log.line(Level::Warn, &text);
        degraded = degraded.with(Degraded::NOT_REAL_TIME);
    }
    let layers = if degraded == Degraded::default() {
        Layers::PROCESS.with(Layers::REAL_TIME)
    } else {
        Layers::PROCESS
    };
    (layers, degraded)
}

/// Asks for both without a word: for processes whose being late has no other effect than an early end.
pub(crate) fn prepare_quietly() {
    let _ = lock_memory();
    raise_quietly();
}

/// Asks for the priority alone.
pub(crate) fn raise_quietly() {
    drop(set_real_time(PRIORITY));
}

/// All of the program is in memory from now on, the code of a fence before anything: a fence must not wait for a disk that
/// hangs. What is allocated later is locked as it is touched, also where not all could be read in.
fn lock_memory() -> nix::Result<()> {
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    let all = mlockall(MlockAllFlags::MCL_CURRENT);
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault).and(all)
}
