//! When gratuitous ARP is sent. Spread out instead of in one burst: a single dropped burst, or a former Active whose
//! last announcement comes late, would leave clients with the wrong hardware address for minutes.

use std::time::Duration;

use ha_core::MonoTime;

/// Milliseconds after the start of a series.
const SERIES: [u64; 7] = [0, 50, 150, 400, 1000, 2500, 5000];

/// Afterwards, for caches that went stale unseen.
const REFRESH: Duration = Duration::from_secs(30);

/// A series that is younger than this is not begun again: its later announcements serve as well.
const YOUNG: Duration = Duration::from_secs(1);

/// One series of announcements.
#[derive(Debug, Default)]
pub(crate) struct Announcing {
    began: MonoTime,
    sent: usize,
}

impl Announcing {
    /// Begins a series; the first announcement is due at once.
    pub(crate) fn begin(&mut self, now: MonoTime) {
        *self = Self { began: now, sent: 0 };
    }

    pub(crate) fn is_young(&self, now: MonoTime) -> bool {
        now.since(self.began) < YOUNG
    }

    /// One was sent; when the next is due.
    pub(crate) fn announced(&mut self, now: MonoTime) -> MonoTime {
        self.sent = self.sent.saturating_add(1);
        match SERIES.get(self.sent) {
            Some(offset) => self.began + Duration::from_millis(*offset),
            None => now + REFRESH,
        }
    }
}
