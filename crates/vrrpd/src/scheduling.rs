//! Making the thread of the virtual routers hard to starve: real-time priority and locked memory, where the host permits
//! them.

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{Resource, setrlimit};

use crate::system_call::set_real_time;

/// Above all ordinary work, below the guard and the kernel's own urgent threads.
const PRIORITY: i32 = 20;

/// Microseconds that a real-time thread may compute without once waiting; a loop gone wild must not take a CPU away from
/// PostgreSQL for ever. Then the kernel ends the process, and the leased address with it.
const RUNAWAY_LIMIT_MICROS: u64 = 1_000_000;

/// Gives the calling thread real-time priority.
///
/// # Errors
/// What the kernel refuses, in words. Without it advertisements may be late on a starved host.
pub fn become_real_time() -> Result<(), String> {
    set_real_time(PRIORITY)
        .map_err(|error| format!("no real-time priority (sched_setscheduler: {error}): may be late"))?;
    setrlimit(Resource::RLIMIT_RTTIME, RUNAWAY_LIMIT_MICROS, RUNAWAY_LIMIT_MICROS)
        .map_err(|error| format!("no limit on real-time computing (setrlimit: {error})"))
}

/// Keeps the program's memory from being paged out.
///
/// # Errors
/// What the kernel refuses, in words. Without it advertisements may be late under memory pressure.
pub fn lock_memory() -> Result<(), String> {
    // Lock what is touched, as it is touched: locking the whole of a program that mostly waits would only waste memory.
    let locked = MlockAllFlags::MCL_CURRENT
        | MlockAllFlags::MCL_FUTURE
        | MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(locked).map_err(|error| format!("memory is not locked (mlockall: {error}): may be late"))
}
