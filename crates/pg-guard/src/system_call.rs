//! The system calls for which no safe wrapper is at hand: the only unsafe code of this program.
#![allow(unsafe_code, reason = "system calls without a safe wrapper; each block says why it is sound")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use ha_core::MonoTime;
use nix::unistd::{ForkResult, Pid};

/// A descriptor that stands for this very process, not for a later one with the same number, and becomes readable when
/// it ends.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: takes two integers, touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor (close-on-exec) and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the process that the descriptor stands for.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open while borrowed; a null siginfo is allowed and means "as kill(2)".
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling thread real-time priority; children do not inherit it.
pub(crate) fn set_real_time(priority: i32) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameter` lives through the call, which only reads it; 0 means the calling thread.
    let done = unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Forks. Only for processes with one thread, where the child may go on like any program.
pub(crate) fn fork() -> nix::Result<ForkResult> {
    // SAFETY: the callers (`fuse.rs`) are processes that have never started a thread, so no lock can be held by one that
    // does not exist in the child.
    unsafe { nix::unistd::fork() }
}

/// Forks like [`fork`], with a chosen number in the caller's PID namespace and the same number in its parent.
/// `None` is the child.
pub(crate) fn clone_with_number(number: i32) -> io::Result<Option<Pid>> {
    let numbers = [number, number];
    // SAFETY: the structure consists of integers only, for which zero is a value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD.cast_unsigned().into();
    arguments.set_tid = numbers.as_ptr() as u64;
    arguments.set_tid_size = numbers.len() as u64;
    // SAFETY: both structures live through the call, which only reads them. No memory is shared and no stack given: this is
    // a fork, in a process with one thread (see `fork`).
    let done =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    match i32::try_from(done) {
        Ok(0) => Ok(None),
        Ok(pid) if pid > 0 => Ok(Some(Pid::from_raw(pid))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A timer of the boot clock that kills this very process when it expires, also while it is stopped.
#[derive(Debug)]
pub(crate) struct DeathTimer(libc::timer_t);

impl DeathTimer {
    /// Makes it; it is not set.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: integers and pointers only, for which zero is a value; no pointer is used with SIGEV_SIGNAL.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = libc::SIGKILL;
        let mut timer: libc::timer_t = std::ptr::null_mut();
        // SAFETY: both structures live through the call.
        let done = unsafe { libc::timer_create(libc::CLOCK_BOOTTIME, &raw mut event, &raw mut timer) };
        if done == 0 { Ok(Self(timer)) } else { Err(io::Error::last_os_error()) }
    }

    /// Sets it to a time of the boot clock, or unsets it. A time that is past kills at once.
    pub(crate) fn set(&self, at: Option<MonoTime>) -> io::Result<()> {
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = at.map_or(zero, |at| libc::timespec {
            tv_sec: (at.0 / 1_000_000_000).try_into().unwrap_or(libc::time_t::MAX),
            // Zero altogether would unset it.
            tv_nsec: (at.0 % 1_000_000_000).max(1).try_into().unwrap_or(1),
        });
        let value = libc::itimerspec { it_interval: zero, it_value };
        let no_old = std::ptr::null_mut();
        // SAFETY: the timer is this process's own and exists until it is dropped; `value` lives through the call.
        let done = unsafe { libc::timer_settime(self.0, libc::TIMER_ABSTIME, &raw const value, no_old) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for DeathTimer {
    fn drop(&mut self) {
        // SAFETY: made by `new`, deleted nowhere else. A forked child does not inherit it: there this fails, without effect.
        let _ = unsafe { libc::timer_delete(self.0) };
    }
}

/// `_LINUX_CAPABILITY_VERSION_3`, for the calling thread.
const CAPABILITY_HEADER: [u32; 2] = [0x2008_0522, 0];

/// The capabilities that the calling thread may have, as a bit set (capget(2)).
pub(crate) fn permitted_capabilities() -> io::Result<u64> {
    let mut header = CAPABILITY_HEADER;
    let mut data = [0_u32; 6];
    // SAFETY: header and data have the layout of `cap_user_header_t` and two `cap_user_data_t`, and live through the call,
    // which writes into them.
    let done = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) };
    if done == 0 {
        Ok(u64::from(data[1]) | u64::from(data[4]) << 32)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Leaves the calling thread these capabilities only (capset(2)); threads and processes that it starts inherit them.
pub(crate) fn set_capabilities(kept: u64) -> io::Result<()> {
    let low = u32::try_from(kept & u64::from(u32::MAX)).unwrap_or_default();
    let high = u32::try_from(kept >> 32).unwrap_or_default();
    // Effective, permitted, inheritable; lower half first.
    let data: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: header and data have the layout of `cap_user_header_t` and two `cap_user_data_t`, and live through the call.
    let done = unsafe { libc::syscall(libc::SYS_capset, CAPABILITY_HEADER.as_ptr(), data.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a capability unattainable for the calling thread and whatever it starts, root's programs included.
pub(crate) fn drop_from_bounding_set(number: u32) -> io::Result<()> {
    // SAFETY: integers only.
    let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
