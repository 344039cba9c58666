//! The watch: read everything, follow the changes from the next revision on, and begin again when anything is odd.
//!
//! etcd's watch streams are ordered and without gaps, but they can fall silent, lag, or be cancelled because the
//! history they need was compacted. So each session begins with a linearizable read, the stream is asked for a sign of
//! life all the time (its answer counts as nothing more: its revision is not reliable before etcd 3.4.25 and 3.5.8),
//! and everything is read again now and then regardless.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use etcd_client as etcd;
use ha_core::Revision;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout, timeout_at};

use super::answer::{self, Failure};
use super::link::Doubt;
use super::{Inner, select::Candidate};
use crate::follow::Follower;
use crate::watch::{Change, WatchEvent};

/// First and longest pause between attempts to get the watch going again.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Why a session ended.
enum End {
    /// Nobody reads the watch any more.
    Unread,
    /// Something broke.
    Broken(String),
}

/// One watch from its first event until it is dropped.
struct Following {
    inner: Arc<Inner>,
    events: mpsc::Sender<WatchEvent>,
    follower: Follower,
    connected: bool,
    /// Whether the present session got as far as a standing stream.
    stood: bool,
}

pub(super) async fn follow(inner: Arc<Inner>, events: mpsc::Sender<WatchEvent>) {
    let mut following =
        Following { inner, events, follower: Follower::default(), connected: false, stood: false };
    let mut pause = RETRY_AFTER.0;
    loop {
        following.stood = false;
        let began = Instant::now();
        let reason = match following.session().await {
            Err(End::Unread) => return,
            Err(End::Broken(reason)) => reason,
        };
        tracing::debug!(reason, "watch interrupted");
        if following.stood && began.elapsed() > RETRY_AFTER.1 {
            // One attempt to go on elsewhere before anybody is alarmed.
            pause = RETRY_AFTER.0;
            continue;
        }
        if std::mem::replace(&mut following.connected, false)
            && following.events.send(WatchEvent::Disconnected { reason }).await.is_err()
        {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_AFTER.1);
    }
}

impl Following {
    /// Reads, then follows one stream until something breaks; that is the only way out.
    async fn session(&mut self) -> Result<Infallible, End> {
        self.begin().await?;
        let deadline = Instant::now() + self.inner.call_deadline;
        let candidate = self.inner.links.candidates(deadline).await.pop_front();
        let candidate = candidate.ok_or_else(|| End::Broken("no endpoint is connected".to_owned()))?;
        let index = candidate.index;
        let ended = self.stream(candidate, deadline).await;
        if let Err(End::Broken(reason)) = &ended {
            // Another endpoint's turn; whether this connection is at fault, a test will show.
            tracing::debug!(index, reason, "watch stream ended");
            self.inner.links.doubt(index, Doubt::Slow);
        }
        ended
    }

    /// Reads everything and tells it. Returns whether the store went back.
    async fn begin(&mut self) -> Result<bool, End> {
        let floor = self.follower.revision();
        let fresh = self.inner.snapshot().await.map_err(|error| End::Broken(error.to_string()))?;
        let announce = !std::mem::replace(&mut self.connected, true);
        if announce {
            self.tell(WatchEvent::Connected).await?;
        }
        let event = self.follower.on_read(fresh, floor, announce);
        let rolled_back = matches!(event, Some(WatchEvent::RolledBack { .. }));
        if let Some(event) = event {
            self.tell(event).await?;
        }
        Ok(rolled_back)
    }

    async fn tell(&self, event: WatchEvent) -> Result<(), End> {
        self.events.send(event).await.map_err(|_| End::Unread)
    }

    /// Follows one stream until it ends.
    async fn stream(&mut self, mut candidate: Candidate, deadline: Instant) -> Result<Infallible, End> {
        let from = self.follower.revision().next();
        let options = etcd::WatchOptions::new()
            .with_prefix()
            .with_start_revision(i64::try_from(from.0).unwrap_or(i64::MAX));
        let opening = candidate.client.watch(self.inner.prefix.as_str(), Some(options));
        let opened = timeout_at(deadline, opening).await.map_err(|_| silent(&candidate.endpoint))?;
        let (mut requests, mut messages) = opened.map_err(broken)?.split();

        let ping_every = self.inner.call_deadline;
        let silence_limit = ping_every.mul_f64(2.5);
        let mut ping = interval_at(Instant::now() + ping_every, ping_every);
        let mut reread = interval_at(Instant::now() + self.inner.resync_interval, self.inner.resync_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        reread.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                message = messages.message() => {
                    let message = message.map_err(broken)?;
                    let message = message.ok_or_else(|| End::Broken("the stream ended".to_owned()))?;
                    self.on_message(&message).await?;
                    // After telling: a slow reader of ours is no silence of etcd.
                    heard = Instant::now();
                    self.stood = true;
                }
                _ = ping.tick() => {
                    if heard.elapsed() > silence_limit {
                        return Err(silent(&candidate.endpoint));
                    }
                    timeout(ping_every, requests.request_progress())
                        .await
                        .map_err(|_| silent(&candidate.endpoint))?
                        .map_err(broken)?;
                }
                _ = reread.tick() => {
                    // A stream that waits for revisions of another past would never tell the new ones.
                    if self.begin().await? {
                        return Err(End::Broken("the store went back".to_owned()));
                    }
                    heard = Instant::now();
                }
            }
        }
    }

    async fn on_message(&mut self, message: &etcd::WatchResponse) -> Result<(), End> {
        if message.canceled() {
            let reason = match message.compact_revision() {
                0 => format!("the watch was cancelled: {}", message.cancel_reason()),
                revision => format!("revisions before {revision} have been compacted"),
            };
            return Err(End::Broken(reason));
        }
        if let Some(header) = message.header()
            && !self.follower.follows(header.cluster_id())
        {
            return Err(End::Broken("another etcd cluster answers now".to_owned()));
        }
        let changes: Vec<Change> = message.events().iter().filter_map(change).collect();
        for event in self.follower.on_changes(&changes) {
            self.tell(event).await?;
        }
        Ok(())
    }
}

fn change(event: &etcd::Event) -> Option<Change> {
    let entry = answer::entry(event.kv()?);
    let (key, revision): (String, Revision) = (entry.key.clone(), entry.mod_revision);
    let entry = match event.event_type() {
        etcd::EventType::Put => Some(entry),
        etcd::EventType::Delete => None,
    };
    Some(Change { revision, key, entry })
}

fn silent(endpoint: &str) -> End {
    End::Broken(format!("{endpoint} is silent"))
}

fn broken(error: etcd::Error) -> End {
    match Failure::of(error) {
        Failure::NotSent(reason) | Failure::Unclear { reason, .. } => End::Broken(reason),
        Failure::Refused(refusal) => End::Broken(refusal.to_string()),
    }
}
