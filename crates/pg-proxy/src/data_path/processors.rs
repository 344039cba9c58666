//! One processor for each thread that relays.
//!
//! A thread that stays where it is is woken there: the kernel need not look for an idle processor, and the session's data are in
//! that processor's caches. Measured with one client this is a tenth of the latency.

use std::thread::available_parallelism;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The processors of `workers` threads, or none where threads had better stay free: with more or fewer threads than processors
/// some would share one while another is idle. Fewer than it may use is what the process gets where its time is limited (cgroups).
pub(super) fn of(workers: usize) -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    let allowed: Vec<usize> =
        (0..CpuSet::count()).filter(|&number| allowed.is_set(number).unwrap_or(false)).collect();
    let usable = available_parallelism().map_or(1, std::num::NonZero::get);
    let one_each = workers > 1 && workers == allowed.len() && workers == usable;
    if one_each { allowed } else { Vec::new() }
}

/// Keeps the calling thread on this processor. Where that is not permitted, it goes on as before.
pub(super) fn stay_on(number: usize) {
    let mut set = CpuSet::new();
    let stayed = set.set(number).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    if let Err(error) = stayed {
        tracing::warn!(%error, processor = number, "a thread cannot be kept on one processor");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_gets_a_processor_of_its_own_or_none_does() {
        let usable = available_parallelism().unwrap().get();
        assert!(of(usable + 1).is_empty() && of(1).is_empty());
        let processors = of(usable);
        assert!(processors.is_empty() || processors.len() == usable, "{processors:?}");
    }

    #[test]
    fn a_thread_stays_where_it_was_told_to() {
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let number = (0..CpuSet::count()).rfind(|&number| allowed.is_set(number).unwrap()).unwrap();
        std::thread::spawn(move || {
            stay_on(number);
            let mut expected = CpuSet::new();
            expected.set(number).unwrap();
            assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), expected);
        })
        .join()
        .unwrap();
    }
}
