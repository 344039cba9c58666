//! Many runs on all cores. The runs share nothing, and their results are handed on in the order in which they were asked
//! for, so what is printed does not depend on the number of threads.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

/// Threads that a sweep uses: one per core.
pub fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Does `work` for each number from `first` to below `end`, and gives the results to `each` in order of the numbers
/// until it answers false. What other threads have begun by then is thrown away.
pub fn sweep<R: Send>(
    first: u64,
    end: u64,
    work: impl Fn(u64) -> R + Sync,
    mut each: impl FnMut(u64, R) -> bool,
) {
    let (next, over) = (AtomicU64::new(first), AtomicBool::new(false));
    thread::scope(|scope| {
        // Bounded: a slow first run must not pile up the results of all the others.
        let (results, done) = mpsc::sync_channel(4 * threads());
        for _ in 0..threads() {
            let (results, next, over, work) = (results.clone(), &next, &over, &work);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end
                        || over.load(Ordering::Relaxed)
                        || results.send((number, work(number))).is_err()
                    {
                        return;
                    }
                }
            });
        }
        drop(results);
        let (mut waiting, mut wanted) = (BTreeMap::new(), first);
        for (number, result) in done {
            waiting.insert(number, result);
            while let Some(result) = waiting.remove(&wanted) {
                if !each(wanted, result) {
                    over.store(true, Ordering::Relaxed);
                    return;
                }
                wanted += 1;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_whoever_is_ready_first() {
        let mut seen = Vec::new();
        let slow_first = |n: u64| {
            let rounds = if n.is_multiple_of(7) { 200_000 } else { 10 };
            (0..rounds).fold(n, |a, b| std::hint::black_box(a ^ b));
            n * n
        };
        sweep(3, 60, slow_first, |number, square| {
            seen.push((number, square));
            true
        });
        assert_eq!(seen, (3..60).map(|n| (n, n * n)).collect::<Vec<_>>());
    }

    #[test]
    fn a_sweep_ends_when_nobody_wants_more() {
        let mut seen = Vec::new();
        sweep(
            0,
            1_000_000,
            |n| n,
            |number, _| {
                seen.push(number);
                number < 9
            },
        );
        assert_eq!(seen, (0..=9).collect::<Vec<_>>());
    }
}
