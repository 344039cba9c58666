//! Making a thread hard to starve: real-time priority and locked memory, where the host permits them.
#![allow(unsafe_code, reason = "one system call has no safe wrapper; its block says why it is sound")]

use std::io;

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Microseconds that a real-time thread may compute without once waiting; a loop gone wild must not take a CPU away from
/// PostgreSQL for ever. Then the kernel ends the process.
const RUNAWAY_LIMIT_MICROS: u64 = 1_000_000;

/// How threads of one priority share a CPU (sched(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RealTime {
    /// The first one runs until it waits.
    Fifo,
    /// In turns.
    RoundRobin,
}

/// Gives the calling thread a real-time priority; threads and processes that it starts do not inherit it.
///
/// # Errors
/// What the kernel refuses, in words. Without it the thread may be late on a starved host.
pub fn become_real_time(policy: RealTime, priority: i32) -> Result<(), String> {
    set_real_time(policy, priority)
        .map_err(|error| format!("no real-time priority (sched_setscheduler: {error}): may be late"))?;
    setrlimit(Resource::RLIMIT_RTTIME, RUNAWAY_LIMIT_MICROS, RUNAWAY_LIMIT_MICROS)
        .map_err(|error| format!("no limit on real-time computing (setrlimit: {error})"))
}

fn set_real_time(policy: RealTime, priority: i32) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority };
    let policy = match policy {
        RealTime::Fifo => libc::SCHED_FIFO,
        RealTime::RoundRobin => libc::SCHED_RR,
    };
    // SAFETY: `parameter` lives through the call, which only reads it; 0 means the calling thread.
    let done =
        unsafe { libc::sched_setscheduler(0, policy | libc::SCHED_RESET_ON_FORK, &raw const parameter) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What is to be in memory although nobody has touched it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// Nothing: what is touched stays. For a program that mostly waits more would be waste.
    Touched,
    /// All that the program has now, its code before anything. What it does once in a year then waits neither for a disk that
    /// hangs nor for memory. Allocations that follow are as with [`Self::Touched`].
    All,
}

/// Keeps the program's memory from being paged out.
///
/// # Errors
/// What the kernel refuses, in words. Without it the program may be late under memory pressure.
pub fn lock_memory(locked: Locked) -> Result<(), String> {
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK)
        .map_err(|error| format!("memory is not locked (getrlimit: {error}): may be late"))?;
    if limit != RLIM_INFINITY && !nix::unistd::geteuid().is_root() {
        // Under a finite limit later allocations would fail instead of being unlocked.
        return Err(format!("memory is not locked (LimitMEMLOCK is {limit}, not infinity): may be late"));
    }
    let lock = |flags| {
        mlockall(flags).map_err(|error| format!("memory is not locked (mlockall: {error}): may be late"))
    };
    let all = if locked == Locked::All { lock(MlockAllFlags::MCL_CURRENT) } else { Ok(()) };
    // What comes is locked as it is touched; what is there already stays. Also where not all could be read in.
    lock(
        MlockAllFlags::MCL_CURRENT
            | MlockAllFlags::MCL_FUTURE
            | MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT),
    )
    .and(all)
}
