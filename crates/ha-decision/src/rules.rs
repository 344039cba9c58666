//! The rules that durability rests on, as functions of records, promises and positions alone. The decider asks them, and
//! so does the model checker (`ha-model`): a change here changes the protocol that is checked.

use std::collections::BTreeSet;

use ha_core::node_state::Promise;
use ha_core::peer_message::PromiseRefusal;
use ha_core::record::{Policy, PolicyKind, SyncRecord, Versioned};
use ha_core::standby_names::StandbyName;
use ha_core::{Epoch, Lsn, MemberId, Position, ReplicationMode, Revision};

/// The present leader is unestablished, so nothing was acknowledged in its epoch; and the life of the data that led
/// `led` led the epoch of the policy, so it holds everything that was acknowledged before. It needs nobody's promise.
/// The caller knows that the directory is whole.
pub fn covers_policy(record: &SyncRecord, led: Option<Epoch>) -> bool {
    !record.is_established() && record.policy.kind == PolicyKind::Quorum && led == Some(record.policy.epoch)
}

/// How many promises a takeover of this record needs; `covers` as in [`covers_policy`].
pub fn promises_needed(record: &SyncRecord, covers: bool) -> usize {
    match record.policy.kind {
        PolicyKind::Quorum if covers => 0,
        PolicyKind::Quorum => record.policy.needed_promises(),
        PolicyKind::Pinned | PolicyKind::Asynchronous => 1,
    }
}

/// A promise is given at exactly one revision of the record: the one that both sides see.
///
/// # Errors
/// When one of them has seen more than the other.
pub fn promise_scope(
    sync: &Versioned<SyncRecord>,
    epoch: Epoch,
    revision: Revision,
) -> Result<(), PromiseRefusal> {
    if revision > sync.revision {
        return Err(PromiseRefusal::OlderRecord);
    }
    if revision < sync.revision || epoch != sync.record.epoch {
        return Err(PromiseRefusal::NewerRecord);
    }
    Ok(())
}

/// Whether a promise of this member says anything about the record's acknowledged commits.
pub fn promise_counts(record: &SyncRecord, member: &MemberId, covers: bool) -> bool {
    record.policy.kind != PolicyKind::Quorum || record.policy.lists(member) || covers
}

/// A promise is void once the record names a higher epoch, or has moved past the promise's revision.
pub fn promise_is_void(promise: &Promise, sync: &Versioned<SyncRecord>) -> bool {
    sync.record.epoch > promise.epoch || sync.revision > promise.revision
}

/// Whether a member that stands at `mine` misses nothing of a leader that hands over. Without a list only the end of a
/// clean stop proves that.
pub fn reaches_the_end(kind: PolicyKind, end: Option<Lsn>, mine: Lsn) -> bool {
    end.map_or(kind == PolicyKind::Quorum, |end| mine >= end)
}

/// How much one member holds, as it promised.
#[derive(Debug, Clone, Copy)]
pub struct Holding<'a> {
    /// Who.
    pub member: &'a MemberId,
    /// How far, exactly.
    pub position: Position,
    /// Whether it may be promoted.
    pub candidate: bool,
    /// Preference among equals; higher is preferred.
    pub priority: u32,
}

/// What distinguishes the member that wants to lead.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claim {
    /// It led the policy's epoch: [`covers_policy`].
    pub covers: bool,
    /// A human accepted loss.
    pub forced: bool,
    /// The leader that hands over named it.
    pub preferred: bool,
}

/// What the promises say about who leads next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// What only this member holds, which may not lead, may have been acknowledged.
    HolderMayNotLead(MemberId),
    /// This member is further.
    Better(MemberId),
    /// The asking member; the named others stand at exactly its position.
    Lead(BTreeSet<MemberId>),
}

/// Whether `me` may lead, given these promises (its own among them); none when nobody may.
pub fn choose(kind: PolicyKind, me: &MemberId, given: &[Holding<'_>], claim: Claim) -> Option<Choice> {
    let mine = given.iter().find(|h| h.member == me)?.position;
    let rank = |h: &Holding<'_>| (h.position, h.priority, h.member == me);
    let best = given.iter().filter(|h| h.candidate).max_by_key(|h| rank(h))?;
    if kind != PolicyKind::Asynchronous
        && !claim.forced
        && !claim.covers
        && let Some(holder) = given.iter().max_by_key(|h| h.position)
        && holder.position > best.position
    {
        return Some(Choice::HolderMayNotLead(holder.member.clone()));
    }
    if claim.covers || best.member == me || (claim.preferred && best.position == mine) {
        let equals = given.iter().filter(|h| h.member != me && h.position == mine);
        return Some(Choice::Lead(equals.map(|h| h.member.clone()).collect()));
    }
    Some(Choice::Better(best.member.clone()))
}

/// What the cluster's settings ask of a policy.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Durability.
    pub mode: ReplicationMode,
    /// Confirmations (k).
    pub acks: u32,
    /// Rather blocked than with fewer.
    pub strict_k: bool,
}

/// The policy of the new epoch. Members at exactly the winner's position (`equals`) hold all that was ever acknowledged,
/// so they can confirm at once. Without such members the old policy stays, and with it the winner is unestablished.
pub fn policy_after(
    record: &SyncRecord,
    epoch: Epoch,
    equals: BTreeSet<MemberId>,
    wanted: Wanted,
    forced: bool,
) -> Policy {
    match (record.policy.kind, wanted.mode) {
        (PolicyKind::Asynchronous, _) => Policy::asynchronous(epoch),
        (PolicyKind::Quorum, _) if !forced => {
            let enough = !wanted.strict_k || equals.len() >= record.policy.k as usize;
            if equals.is_empty() || !enough {
                record.policy.clone()
            } else {
                Policy::quorum(epoch, equals, record.policy.k)
            }
        }
        // A human accepted loss: what this member holds is the history from now on.
        (_, ReplicationMode::Synchronous) => Policy::pinned(epoch),
        (_, ReplicationMode::Asynchronous) => Policy::asynchronous(epoch),
        (_, ReplicationMode::Strict) => Policy::quorum(record.epoch, BTreeSet::new(), wanted.acks),
    }
}

/// The record by which `leader` takes over; the epoch grows by one.
pub fn taken_over(record: &SyncRecord, leader: MemberId, policy: Policy) -> SyncRecord {
    SyncRecord {
        epoch: record.epoch.next(),
        generation: record.generation.next(),
        leader: leader.into(),
        policy,
        ..record.clone()
    }
}

/// The policy with one member more. The store comes first: the new one must be consulted before it can confirm anything.
#[must_use]
pub fn joined(policy: &Policy, new: MemberId) -> Policy {
    let mut members = policy.members.clone();
    members.insert(new);
    Policy { members, ..policy.clone() }
}

/// How a member leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// It is the last one: only pinning is left.
    Last,
    /// The others are fewer than the confirmations asked for: lower those first, in the store first.
    FewerAcks(Policy),
    /// The server first: to this policy.
    Shrink(Policy),
}

/// The first step towards a policy without `gone`.
pub fn removal(policy: &Policy, gone: &MemberId) -> Removal {
    let mut members = policy.members.clone();
    members.remove(gone);
    let left = u32::try_from(members.len()).unwrap_or(u32::MAX);
    if members.is_empty() {
        Removal::Last
    } else if policy.k > left {
        Removal::FewerAcks(Policy { k: left, ..policy.clone() })
    } else {
        Removal::Shrink(Policy { members, ..policy.clone() })
    }
}

/// Whether the tighter list `to` is in force: no walsender but those of its members confirms any more. `senders` gives
/// each walsender's `sync_priority` and announced name; a priority of 0 says that this walsender itself has read a list
/// without its standby. Not only a removed member: an attempt that was given up may have listed somebody else.
pub fn in_force<'a>(
    mut senders: impl Iterator<Item = (u32, Option<&'a StandbyName>)>,
    to: &Policy,
    epoch: Epoch,
) -> bool {
    let listed =
        |name: Option<&StandbyName>| name.is_some_and(|n| n.epoch == epoch && to.members.contains(&n.member));
    senders.all(|(priority, name)| priority == 0 || listed(name))
}

/// The history barrier: `holders` of the members of `to` have flushed everything that was ever acknowledged.
pub fn barrier_passed(to: &Policy, holders: usize) -> bool {
    holders >= to.k as usize
}
