//! Looks at both hosts every 20 ms and remembers who had the address.

use std::fs::File;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use super::{World, ms};

/// One look.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    ha1: bool,
    ha2: bool,
}

/// Looks until it is asked what it saw.
pub(crate) struct Observer {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Look>>>,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Seen(Vec<Look>);

impl Observer {
    pub(crate) fn begin(world: &World) -> Self {
        let open = |host: &super::Host| File::open(host.namespace.path()).expect("the namespace");
        let (ha1, ha2, vip) = (open(&world.ha1), open(&world.ha2), world.ha1.vip);
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            let has = |namespace: &File| {
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
                // Only an own address can be bound.
                UdpSocket::bind((vip, 0)).is_ok()
            };
            let mut looks = Vec::new();
            loop {
                // One more look after the end was asked for, so that what the test has just waited for is seen.
                let last = ended.load(Ordering::SeqCst);
                looks.push(Look { at: Instant::now(), ha1: has(&ha1), ha2: has(&ha2) });
                if last {
                    return looks;
                }
                std::thread::sleep(ms(20)); // the pace of looking
            }
        });
        Self { end, thread: Some(thread) }
    }

    pub(crate) fn end(mut self) -> Seen {
        self.end.store(true, Ordering::SeqCst);
        let thread = self.thread.take().expect("ended once");
        Seen(thread.join().expect("the observer"))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
    }
}

impl Seen {
    /// How long both had it, from the first such look to the last.
    pub(crate) fn overlap(&self) -> Duration {
        let both = || self.0.iter().filter(|look| look.ha1 && look.ha2);
        match (both().next(), both().next_back()) {
            (Some(first), Some(last)) => last.at - first.at,
            _ => Duration::ZERO,
        }
    }

    /// The longest time for which each look found it on both.
    pub(crate) fn longest_overlap(&self) -> Duration {
        let runs = self.0.split(|look| !(look.ha1 && look.ha2));
        let lengths = runs.filter_map(|run| Some(run.last()?.at - run.first()?.at));
        lengths.max().unwrap_or_default()
    }

    /// From `event` until ha1 had it no more.
    pub(crate) fn gone_from_ha1(&self, event: Instant) -> Duration {
        let last = self.0.iter().rev().find(|look| look.ha1);
        last.map_or(Duration::ZERO, |look| look.at.saturating_duration_since(event))
    }

    /// From `event` until ha2 had it for the first time after that.
    pub(crate) fn taken_by_ha2(&self, event: Instant) -> Option<Duration> {
        let first = self.0.iter().find(|look| look.at >= event && look.ha2)?;
        Some(first.at - event)
    }

    /// Whether ha1 had it all the time and ha2 never.
    pub(crate) fn nothing_moved(&self) -> bool {
        self.0.iter().all(|look| look.ha1 && !look.ha2)
    }
}
