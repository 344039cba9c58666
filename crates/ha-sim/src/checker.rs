//! The judge. It sees the ground truth (what stands in the store, on disks and in processes), never what a decider
//! believes, and knows these rules:
//!
//! | Rule | What holds |
//! |---|---|
//! | S1 | every acknowledged commit is in the WAL of every later leader |
//! | S2 | nobody acknowledges what the leader of a higher epoch lacks |
//! | S3 | I0 to I7 hold after every step (`succession.rs`, `lists.rs`) |
//! | S4 | a timeline id has one owner and one history (called TL here) |
//! | S5 | a read that a proxy passes on shows every commit acknowledged before it began (`readers.rs`) |
//! | S6 | a promise ends only with its revision (I3, I4) |
//! | S7 | an epoch has one leader (I0) |
//! | C2, G, 1P | when clients are let in, and until when a leader may live (`openness.rs`, `job.rs`) |
//! | E2 | a leader keeps its data |
//! | L1, L3 | once all works again, writes work and every member comes back, or somebody says what he waits for (`run.rs`) |
//! | L2 | once all works again, leadership settles after a few changes |
//!
//! A commit that a deposed server acknowledges late is legal when the new history contains it: the rule is "acknowledged
//! and not in the new history", not "acknowledged afterwards".

mod lists;
mod openness;
mod succession;

use std::collections::{BTreeMap, BTreeSet};

use ha_core::peer_message::PeerMessage;
use ha_core::record::{PolicyKind, SyncRecord, Versioned};
use ha_core::{Epoch, Incarnation, MemberId, Revision, SystemId, Timeline};

use crate::host::Host;
use crate::postgres_model::Data;

/// A rule was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: &'static str,
    /// How, in words.
    pub story: String,
}

/// What the judge has seen.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    dirty: bool,
    violation: Option<Violation>,
    /// Acknowledged commits by LSN.
    acked: BTreeMap<usize, u64>,
    /// The same in asynchronous mode, where they may be lost.
    unguarded: BTreeMap<usize, u64>,
    leaders: BTreeMap<Epoch, MemberId>,
    /// Every record ever written, by database, timeline and LSN.
    written: BTreeMap<(SystemId, Timeline, usize), u64>,
    promoted: BTreeMap<Timeline, (usize, Epoch)>,
    /// Given promises that were carried out, by host.
    revocations: BTreeMap<usize, Revocation>,
    /// Lives of directories that were thrown away.
    burned: BTreeSet<(usize, Incarnation)>,
    pub(crate) promises: u64,
    pub(crate) late_but_safe: u64,
    pub(crate) listed_replaced: u64,
    pub(crate) lost_asynchronously: u64,
    /// Epoch of the latest takeover for which an operator accepted loss, or from an asynchronous leader.
    forced_at: Option<Epoch>,
    /// Epochs whose leader may be read from beside its successor: a human who accepted loss waited for no read lease of it.
    reads_given_up: BTreeSet<Epoch>,
    /// Who may have promises, given at this revision, that no read lease bound: hosts that asked for them with accepted loss,
    /// and those that were handed them.
    unbound: BTreeSet<(usize, Revision)>,
    pub(crate) given_up_by_operators: u64,
    leases: openness::LeaseTimes,
}

#[derive(Debug, Clone)]
struct Revocation {
    epoch: Epoch,
    revision: Revision,
    id: Option<MemberId>,
}

type Sync = Option<Versioned<SyncRecord>>;

impl Violation {
    /// Whether a promise to users was broken, not only progress lost.
    pub fn is_unsafe(&self) -> bool {
        !matches!(self.rule.split(' ').next(), Some("L1" | "L2" | "L3" | "spin" | "storm"))
    }
}

impl Checker {
    fn broken(&mut self, rule: &'static str, story: String) {
        self.violation.get_or_insert(Violation { rule, story });
    }

    pub(crate) fn take_violation(&mut self) -> Option<Violation> {
        self.violation.take()
    }

    /// Something changed that the lists depend on.
    pub(crate) fn look_again(&mut self) {
        self.dirty = true;
    }

    /// A primary wrote a record.
    pub(crate) fn written(&mut self, host: usize, system: SystemId, end: usize, id: u64, timeline: Timeline) {
        if let Some(other) = self.written.insert((system, timeline, end), id)
            && other != id
        {
            let story = format!(
                "pg{} wrote record {id} at {end} of timeline {timeline}, where record {other} stands",
                host + 1
            );
            self.broken("TL one history per timeline", story);
        }
    }

    /// A server told a client that its commit is safe.
    pub(crate) fn acknowledged(&mut self, host: usize, lsn: usize, id: u64, sync: &Sync, hosts: &[Host]) {
        self.dirty = true;
        let Some(sync) = sync else { return };
        if sync.record.policy.kind == PolicyKind::Asynchronous {
            self.unguarded.insert(lsn, id);
            return;
        }
        let leader = sync.record.leader.id();
        let by = hosts[host].id();
        if by.as_ref() != Some(&leader) && self.is_given_up(&hosts[host]) && !held(hosts, &leader, lsn, id) {
            self.given_up_by_operators += 1;
            return;
        }
        if let Some(other) = self.acked.insert(lsn, id)
            && other != id
        {
            self.broken(
                "S1 acknowledged commits survive",
                format!("records {other} and {id} were both acknowledged at {lsn}"),
            );
        }
        if by.as_ref() == Some(&leader) {
            if !sync.record.is_established() {
                self.broken(
                    "I1 an unestablished leader acknowledges nothing",
                    format!("{leader} acknowledged record {id} at {lsn} in epoch {}", sync.record.epoch),
                );
            }
            return;
        }
        if held(hosts, &leader, lsn, id) {
            self.late_but_safe += 1;
        } else {
            self.broken(
                "S2 nobody acknowledges what a higher epoch lacks",
                format!(
                    "pg{} acknowledged record {id} at {lsn}; {leader}, leader of epoch {}, lacks it",
                    host + 1,
                    sync.record.epoch
                ),
            );
        }
    }

    /// Whether a read from the leader of `epoch` must show this acknowledged commit: nobody gave it up, and no human who
    /// accepted loss has put another leader beside that one.
    pub(crate) fn must_be_seen(&self, lsn: usize, id: u64, epoch: Epoch) -> bool {
        self.acked.get(&lsn) == Some(&id) && !self.reads_given_up.contains(&epoch)
    }

    /// A member says something to another: notes how far promises go that were asked for with accepted loss.
    pub(crate) fn said(&mut self, from: usize, to: usize, message: &PeerMessage) {
        match message {
            PeerMessage::PromiseRequest(request) if request.accepts_loss => {
                self.unbound.insert((from, request.revision));
            }
            PeerMessage::TakeOver(takeover) if self.unbound.contains(&(from, takeover.revision)) => {
                self.unbound.insert((to, takeover.revision));
            }
            _ => {}
        }
    }

    /// Every acknowledged commit must be in the log of this member.
    fn leader_holds_all(&mut self, leader: &MemberId, epoch: Epoch, hosts: &[Host]) {
        let missing = self.acked.iter().rev().find(|(lsn, id)| !held(hosts, leader, **lsn, **id));
        if let Some((lsn, id)) = missing.map(|(l, i)| (*l, *i)) {
            self.broken(
                "S1 acknowledged commits survive",
                format!("{leader} leads epoch {epoch} without the acknowledged record {id} at {lsn}"),
            );
        }
    }

    /// A revocation was carried out. It counts if the promise for it is durable by then.
    pub(crate) fn revoked(&mut self, host: usize, epoch: Epoch, at: &Host) {
        let durable = at.disk.before_promise.is_none();
        if let Some(promise) = at.disk.node_state.promise.as_ref().filter(|p| durable && p.epoch == epoch) {
            self.promises += 1;
            let revocation = Revocation { epoch, revision: promise.revision, id: at.id() };
            self.revocations.insert(host, revocation);
        }
    }

    /// A standby confirms to the leader of `epoch`.
    pub(crate) fn confirming(&mut self, host: usize, epoch: Epoch, sync: &Sync) {
        let (Some(revocation), Some(sync)) = (self.revocations.get(&host), sync) else { return };
        if sync.revision == revocation.revision && epoch <= revocation.epoch {
            let story = format!(
                "pg{} confirms to epoch {epoch}, though it has promised at revision {} not to, and nothing has changed since",
                host + 1,
                revocation.revision
            );
            self.broken("I3 a promise holds", story);
        }
    }

    /// The node state changes on disk.
    pub(crate) fn persisted(
        &mut self,
        host: usize,
        old: &ha_core::node_state::NodeState,
        new: &ha_core::node_state::NodeState,
        sync: &Sync,
    ) {
        if let Some(promise) = &old.promise
            && new.promise.as_ref() != Some(promise)
            && let Some(sync) = sync
            // A higher one was given to a store that an old backup was put into, which is not the authority.
            && sync.revision == promise.revision
            && sync.record.epoch <= promise.epoch
            && new.promise.as_ref().is_none_or(|p| p.revision < promise.revision || p.epoch < promise.epoch)
        {
            self.broken(
                "I4 a promise ends only with its revision",
                format!("pg{} forgets {promise:?}; the store is at revision {}", host + 1, sync.revision),
            );
        }
    }

    /// A directory was replaced by another.
    pub(crate) fn data_replaced(&mut self, host: usize, sync: &Sync, old: &Host, new: &Data) {
        self.dirty = true;
        if let Some(incarnation) = new.present().and_then(|d| d.incarnation)
            && (self.burned.contains(&(host, incarnation))
                || old.id().is_some_and(|id| id.incarnation == incarnation))
        {
            let story =
                format!("pg{} gives incarnation {incarnation} to a directory that lost WAL", host + 1);
            self.broken("I6 lost WAL means a new incarnation", story);
        }
        let Some(id) = old.id() else { return };
        if let Some(sync) = sync
            && sync.record.leader.id() == id
            && sync.record.is_established()
            && sync.record.policy.kind != PolicyKind::Asynchronous
        {
            let story = format!("{id} throws away its data, though it leads epoch {}", sync.record.epoch);
            self.broken("E2 a leader keeps its data", story);
        }
        if let Some(sync) = sync
            && sync.record.is_established()
            && sync.record.policy.lists(&id)
        {
            self.listed_replaced += 1;
        }
        self.burned.insert((host, id.incarnation));
    }

    /// Whether the directory that had this incarnation was thrown away.
    fn is_burned(&self, hosts: &[Host], member: &MemberId) -> bool {
        let host = hosts.iter().position(|h| h.name == member.name);
        host.is_some_and(|host| self.burned.contains(&(host, member.incarnation)))
    }
}

/// Whether the member's log, in this life of its directory, holds the record.
fn held(hosts: &[Host], member: &MemberId, lsn: usize, id: u64) -> bool {
    hosts.iter().find(|h| h.name == member.name).is_some_and(|h| {
        let Data::Present(directory) = &h.disk.data else { return false };
        directory.incarnation == Some(member.incarnation)
            && directory.flushed >= lsn
            && directory.wal.holds(lsn, id)
    })
}
