//! Virtual time: one global queue of things to come, and a clock per host that starts at its boot and drifts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ha_core::MonoTime;

/// A microsecond in nanoseconds.
pub const US: u64 = 1_000;
/// A millisecond in nanoseconds.
pub const MS: u64 = 1_000_000;
/// A second in nanoseconds.
pub const SECOND: u64 = 1_000_000_000;

#[derive(Debug)]
struct Entry<E> {
    at: u64,
    seq: u64,
    what: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}
impl<E> Eq for Entry<E> {}
impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

/// Things to come, in order of time; what was scheduled first comes first at equal times.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    seq: u64,
    now: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), seq: 0, now: 0 }
    }
}

impl<E> Queue<E> {
    /// Global time, nanoseconds.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Schedules something; a time that is past means now.
    pub fn at(&mut self, at: u64, what: E) {
        self.seq += 1;
        self.heap.push(Reverse(Entry { at: at.max(self.now), seq: self.seq, what }));
    }

    /// Schedules something `delay` from now.
    pub fn after(&mut self, delay: u64, what: E) {
        self.at(self.now.saturating_add(delay), what);
    }

    /// Takes the next thing; time moves there.
    pub fn take(&mut self) -> Option<E> {
        let Reverse(entry) = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.what)
    }
}

/// `CLOCK_BOOTTIME` of one host.
#[derive(Debug, Clone, Copy)]
pub struct HostClock {
    booted: u64,
    /// Rate against global time, parts per million.
    drift_ppm: i64,
}

impl HostClock {
    /// A clock that starts now.
    pub fn booted(now: u64, drift_ppm: i64) -> Self {
        // The machine has been up for a while when its daemons start.
        Self { booted: now, drift_ppm }
    }

    /// Reads it.
    pub fn read(&self, global: u64) -> MonoTime {
        let elapsed = i128::from(global.saturating_sub(self.booted));
        let shown = elapsed + elapsed * i128::from(self.drift_ppm) / 1_000_000 + i128::from(SECOND);
        MonoTime(u64::try_from(shown).unwrap_or(0))
    }

    /// The first global time at which it shows `time` or later.
    pub fn global(&self, time: MonoTime) -> u64 {
        let shown = i128::from(time.0.saturating_sub(SECOND));
        let elapsed = shown * 1_000_000 / i128::from(1_000_000 + self.drift_ppm) + 1;
        self.booted.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_order_of_time_then_of_scheduling() {
        let mut queue = Queue::default();
        queue.at(5, "b");
        queue.at(3, "a");
        queue.at(5, "c");
        assert_eq!(
            [queue.take(), queue.take(), queue.take(), queue.take()],
            [Some("a"), Some("b"), Some("c"), None]
        );
        queue.at(1, "late");
        assert_eq!(queue.take(), Some("late"));
        assert_eq!(queue.now(), 5, "time never goes back");
    }

    #[test]
    fn a_drifting_clock_is_inverted_so_that_no_timer_fires_early() {
        for ppm in [-2000, 0, 2000] {
            let clock = HostClock::booted(7 * SECOND, ppm);
            for at in [7 * SECOND, 8 * SECOND + 1, 107 * SECOND] {
                let shown = clock.read(at);
                let back = clock.global(shown);
                assert!(clock.read(back) >= shown && back <= at + 2000, "{ppm} ppm at {at}: {back}");
            }
        }
    }
}
