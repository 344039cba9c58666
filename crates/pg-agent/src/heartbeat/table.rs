//! What the thread and the driver share: single words that are written by one side and read by the other. Nobody waits
//! for a lock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ha_core::heartbeat::{HeardHeartbeat, Heartbeats};
use ha_core::{Epoch, MemberName, MonoTime};

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    peers: Vec<(MemberName, Peer)>,
    /// When the thread last found that it had stood still; 0 = never.
    stalled_at: AtomicU64,
    leads: AtomicU64,
    detection_ms: AtomicU64,
    ended: AtomicBool,
}

/// One peer; 0 = never or none.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Written last, so that who sees a time sees at least what came with it.
    heard_at: AtomicU64,
    leads: AtomicU64,
    detection_ms: AtomicU64,
    received: AtomicU64,
    missed: AtomicU64,
    rejected: AtomicU64,
    round_trip_ns: AtomicU64,
}

/// Numbers about the heartbeats of one member since this agent started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatFigures {
    /// The member.
    pub member: MemberName,
    /// When it was heard last, by the clock of this host.
    pub heard_at: Option<MonoTime>,
    /// Heard.
    pub received: u64,
    /// Sent by it, as its numbering shows, and never heard.
    pub missed: u64,
    /// From its address, but with a wrong authentication code, old or not readable.
    pub rejected: u64,
    /// The last measured time from here to it and back, nanoseconds, without the time that it held the answer back; 0
    /// before the first.
    pub round_trip_ns: u64,
}

impl Table {
    pub(super) fn new(names: impl Iterator<Item = MemberName>) -> Self {
        Self {
            peers: names.map(|name| (name, Peer::default())).collect(),
            stalled_at: AtomicU64::new(0),
            leads: AtomicU64::new(0),
            detection_ms: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }
    }

    pub(super) fn peer(&self, index: usize) -> &Peer {
        &self.peers[index].1
    }

    pub(super) fn say(&self, leads: Option<Epoch>, detection: Duration) {
        self.leads.store(leads.map_or(0, |epoch| epoch.0), Ordering::Relaxed);
        let detection = u64::try_from(detection.as_millis()).unwrap_or(u64::MAX);
        self.detection_ms.store(detection, Ordering::Relaxed);
    }

    /// What is to be said.
    pub(super) fn said(&self) -> (Option<Epoch>, u64) {
        let epoch = self.leads.load(Ordering::Relaxed);
        ((epoch > 0).then_some(Epoch(epoch)), self.detection_ms.load(Ordering::Relaxed))
    }

    pub(super) fn stalled(&self, now: MonoTime) {
        self.stalled_at.store(now.0, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    pub(super) fn heard(&self) -> Heartbeats {
        // Before the peers: a standstill that comes later than a picture is in the next one.
        let stalled_at = self.stalled_at.load(Ordering::Acquire);
        let heard = self.peers.iter().filter_map(|(name, peer)| {
            let at = peer.heard_at.load(Ordering::Acquire);
            let leads = peer.leads.load(Ordering::Relaxed);
            (at > 0).then(|| {
                let heard = HeardHeartbeat {
                    at: MonoTime(at),
                    leads: (leads > 0).then_some(Epoch(leads)),
                    detection_ms: peer.detection_ms.load(Ordering::Relaxed),
                };
                (name.clone(), heard)
            })
        });
        Heartbeats { heard: heard.collect(), stalled_at: (stalled_at > 0).then_some(MonoTime(stalled_at)) }
    }

    pub(super) fn figures(&self) -> Vec<HeartbeatFigures> {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        self.peers
            .iter()
            .map(|(name, peer)| {
                let heard_at = read(&peer.heard_at);
                HeartbeatFigures {
                    member: name.clone(),
                    heard_at: (heard_at > 0).then_some(MonoTime(heard_at)),
                    received: read(&peer.received),
                    missed: read(&peer.missed),
                    rejected: read(&peer.rejected),
                    round_trip_ns: read(&peer.round_trip_ns),
                }
            })
            .collect()
    }
}

impl Peer {
    pub(super) fn hear(&self, heard: HeardHeartbeat, missed: u64) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.missed.fetch_add(missed, Ordering::Relaxed);
        self.leads.store(heard.leads.map_or(0, |epoch| epoch.0), Ordering::Relaxed);
        self.detection_ms.store(heard.detection_ms, Ordering::Relaxed);
        self.heard_at.store(heard.at.0, Ordering::Release);
    }

    pub(super) fn reject(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn round_trip(&self, time: Duration) {
        self.round_trip_ns.store(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
