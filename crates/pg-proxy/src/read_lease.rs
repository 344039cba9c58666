//! Until when nobody but a member can lead, as its agent said: what answers on the write port are checked by where
//! `routing.reads` is "linearizable".
//!
//! The agent says for how long from the receipt of the question; two hosts have two clocks, so that counts from before the
//! question was asked, by the own clock, less a hundredth. Bytes of a server are passed on only if that time has not come
//! *after* they were read: then they were said while nobody else led, however late they arrive.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ha_core::{Epoch, MonoTime};
use ha_daemon::boottime;
use ha_rpc::proto::ReadLeaseQuestion;
use ha_rpc::proto::roles_client::RolesClient;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, timeout, timeout_at};
use tonic::transport::Channel;

/// Questions within one detection time, which a lease lasts at most.
const QUESTIONS_PER_DETECTION: u32 = 16;
/// Not more often, however short it is.
const ASK_AT_MOST_EVERY: Duration = Duration::from_millis(20);
/// At least as often, however long it is.
const ASK_AT_LEAST_EVERY: Duration = Duration::from_millis(100);

/// What one agent said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    epoch: Epoch,
    /// By the clock of this host.
    until: MonoTime,
}

/// The leases of all members.
#[derive(Debug)]
pub struct ReadLeases {
    members: Vec<Member>,
    ask_every: Duration,
}

#[derive(Debug, Default)]
struct Member {
    lease: ArcSwapOption<Lease>,
    renewed: Notify,
}

impl ReadLeases {
    /// For so many members, in the order of the file; none has a lease yet.
    pub fn new(members: usize, detection: Duration) -> Self {
        let ask_every = (detection / QUESTIONS_PER_DETECTION).clamp(ASK_AT_MOST_EVERY, ASK_AT_LEAST_EVERY);
        Self { members: (0..members).map(|_| Member::default()).collect(), ask_every }
    }

    /// The agent of this member was asked at `asked`, and said that nobody else can lead for so long.
    pub fn told(&self, member: usize, epoch: Epoch, asked: MonoTime, lasts: Duration) {
        let lease = Lease { epoch, until: asked + lasts / 100 * 99 };
        let slot = &self.members[member];
        let known = slot.lease.load();
        let news = known.as_ref().is_none_or(|known| (known.epoch, known.until) < (lease.epoch, lease.until));
        if news {
            slot.lease.store(Some(Arc::new(lease)));
            slot.renewed.notify_waiters();
        }
    }

    /// Waits until the member has a lease; its epoch. None when that takes longer than `limit`.
    pub async fn granted(&self, member: usize, limit: Duration) -> Option<Epoch> {
        let slot = &self.members[member];
        let deadline = Instant::now() + limit;
        loop {
            // Before the look: what comes between the two is not missed.
            let mut renewed = std::pin::pin!(slot.renewed.notified());
            renewed.as_mut().enable();
            if let Some(lease) = slot.lease.load().as_ref()
                && boottime() < lease.until
            {
                return Some(lease.epoch);
            }
            timeout_at(deadline, renewed).await.ok()?;
        }
    }

    /// Whether at this moment nobody but this member leads, and it still leads this epoch.
    pub fn holds(&self, member: usize, epoch: Epoch) -> bool {
        self.members[member]
            .lease
            .load()
            .as_ref()
            .is_some_and(|lease| lease.epoch == epoch && boottime() < lease.until)
    }

    /// Asks the agent of a member again and again while it says that it leads. Never ends by itself.
    pub(crate) async fn ask(
        &self,
        member: usize,
        channel: Channel,
        leads: &tokio::sync::watch::Receiver<bool>,
    ) {
        let mut client = RolesClient::new(channel);
        let mut leads = leads.clone();
        let mut turns = tokio::time::interval(self.ask_every);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = String::new();
        loop {
            if leads.wait_for(|leads| *leads).await.is_err() {
                return std::future::pending().await;
            }
            turns.tick().await;
            let asked = boottime();
            // An answer that takes longer is worth nothing any more.
            let limit = self.ask_every * QUESTIONS_PER_DETECTION;
            let Ok(answer) = timeout(limit, client.read_lease(ReadLeaseQuestion {})).await else { continue };
            match answer {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    let lasts = Duration::from_nanos(answer.lasts_ns);
                    if answer.epoch > 0 && !lasts.is_zero() {
                        told.clear();
                        self.told(member, Epoch(answer.epoch), asked, lasts);
                    }
                }
                Err(status) => {
                    let why = crate::causes::ended(&status);
                    if told != why {
                        tracing::warn!(reason = %why, "the leader's agent gives no read lease");
                        told = why;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lease_counts_from_the_question_and_ends() {
        let leases = ReadLeases::new(2, SECOND);
        assert!(!leases.holds(0, Epoch(1)));
        let asked = boottime();
        leases.told(0, Epoch(1), asked, SECOND * 100);
        assert!(leases.holds(0, Epoch(1)));
        assert!(!leases.holds(1, Epoch(1)), "of another member");
        assert!(!leases.holds(0, Epoch(2)), "of another epoch");
        let ends = ReadLeases::new(1, SECOND);
        ends.told(0, Epoch(1), asked.minus(SECOND), SECOND);
        assert!(!ends.holds(0, Epoch(1)), "asked a second ago, for a second");
    }

    #[test]
    fn an_older_answer_takes_nothing_back_and_an_older_epoch_never_returns() {
        let leases = ReadLeases::new(1, SECOND);
        let asked = boottime();
        leases.told(0, Epoch(2), asked, SECOND * 100);
        leases.told(0, Epoch(2), asked.minus(SECOND), SECOND);
        assert!(leases.holds(0, Epoch(2)));
        leases.told(0, Epoch(1), asked, SECOND * 500);
        assert!(leases.holds(0, Epoch(2)) && !leases.holds(0, Epoch(1)));
        leases.told(0, Epoch(3), asked, SECOND * 50);
        assert!(leases.holds(0, Epoch(3)) && !leases.holds(0, Epoch(2)));
    }

    #[tokio::test]
    async fn who_waits_for_a_lease_gets_the_first_one() {
        let leases = Arc::new(ReadLeases::new(1, SECOND));
        assert_eq!(leases.granted(0, Duration::from_millis(1)).await, None);
        let waiting = tokio::spawn({
            let leases = Arc::clone(&leases);
            async move { leases.granted(0, SECOND * 20).await }
        });
        tokio::task::yield_now().await;
        leases.told(0, Epoch(4), boottime(), SECOND * 100);
        assert_eq!(waiting.await.unwrap(), Some(Epoch(4)));
    }
}
