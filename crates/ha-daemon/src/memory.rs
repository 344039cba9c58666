//! Giving memory back that the allocator keeps after a peak.
#![allow(
    unsafe_code,
    reason = "one call of the C library has no safe wrapper; its block says why it is sound"
)]

/// Gives the pages on which nothing lies any more back to the kernel; whether there were any. The C library keeps what a burst
/// of sessions or messages needed until the end of the process, save what happens to lie at the end of its heap
/// (malloc_trim(3)). Every thread that allocates meanwhile waits: milliseconds after a large peak, so not on a busy process.
///
/// With another C library than glibc nothing happens.
pub fn give_back() -> bool {
    #[cfg(target_env = "gnu")]
    // SAFETY: a thread-safe function (malloc_trim(3)) that takes no pointer and touches only what is not allocated.
    let given = unsafe { libc::malloc_trim(0) } == 1;
    #[cfg(not(target_env = "gnu"))]
    let given = false;
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resident data of this process, in KiB (proc_pid_status(5)).
    fn anonymous() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("has memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_a_peak_left_between_living_memory_goes_back() {
        const KIB: usize = 64 << 10;
        let peak: Vec<Box<[u8]>> = (0..KIB).map(|_| vec![1; 1024].into_boxed_slice()).collect();
        // Every sixteenth stays, so that the heap's end does not move.
        let kept: Vec<Box<[u8]>> = peak
            .into_iter()
            .enumerate()
            .filter(|(number, _)| number % 16 == 0)
            .map(|(_, some)| some)
            .collect();
        let before = anonymous();
        assert!(give_back());
        let after = anonymous();
        assert!(after + (KIB as u64) / 2 < before, "{before} KiB before, {after} after");
        assert_eq!(kept.len(), KIB / 16);
    }
}
