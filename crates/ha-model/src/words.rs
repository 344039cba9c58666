//! From the bytes of a state to the words of `ha-core` and back, so that the decider's own rules can be asked.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ha_core::record::{PROTOCOL, PolicyKind, SyncRecord, Versioned};
use ha_core::standby_names::{StandbyName, StandbyNames};
use ha_core::{Epoch, Generation, Incarnation, Lsn, MemberId, Position, Revision, SystemId, record};

use crate::state::{Id, Kind, List, Members, Policy, Record, State};

pub(crate) fn member_id(id: Id) -> MemberId {
    let name = ["m0", "m1", "m2"][id.member() as usize];
    let name = name.parse().unwrap_or_else(|_| unreachable!("the names are valid"));
    MemberId::new(name, Incarnation(u32::from(id.life())))
}

pub(crate) fn id(member: &MemberId) -> Id {
    let digit = member.name.as_str().as_bytes()[1] - b'0';
    Id::new(digit, member.incarnation.0 as u8)
}

pub(crate) fn member_ids(members: Members) -> BTreeSet<MemberId> {
    members.iter().map(member_id).collect()
}

pub(crate) fn policy(of: &Policy) -> record::Policy {
    let epoch = epoch(of.epoch);
    match of.kind {
        Kind::Pinned => record::Policy::pinned(epoch),
        Kind::Quorum => record::Policy {
            epoch,
            kind: PolicyKind::Quorum,
            members: member_ids(of.members),
            k: u32::from(of.k),
        },
    }
}

pub(crate) fn compact_policy(policy: &record::Policy) -> Policy {
    let kind = match policy.kind {
        PolicyKind::Quorum => Kind::Quorum,
        PolicyKind::Pinned => Kind::Pinned,
        PolicyKind::Asynchronous => unreachable!("the model never asks for asynchronous mode"),
    };
    let members = Members::of(policy.members.iter().map(id));
    Policy { epoch: policy.epoch.0 as u8, kind, members, k: policy.k as u8 }
}

fn sync_record(of: &Record) -> SyncRecord {
    SyncRecord {
        proto: PROTOCOL,
        min_reader: PROTOCOL,
        min_writer: PROTOCOL,
        cluster_uuid: String::new(),
        system_id: SystemId(1),
        epoch: epoch(of.epoch),
        generation: Generation(1),
        leader: member_id(of.leader).into(),
        policy: policy(&of.policy),
        extra: BTreeMap::new(),
    }
}

pub(crate) fn compact_record(record: &SyncRecord) -> Record {
    Record {
        epoch: record.epoch.0 as u8,
        leader: id(&record.leader.id()),
        policy: compact_policy(&record.policy),
    }
}

pub(crate) fn epoch(of: u8) -> Epoch {
    Epoch(u64::from(of))
}

pub(crate) fn position(epoch_of_wal: u8, flush: u8) -> Position {
    Position { epoch: epoch(epoch_of_wal), flush: Lsn(u64::from(flush)) }
}

pub(crate) fn standby_name(id: Id, of: u8) -> StandbyName {
    StandbyName { member: member_id(id), epoch: epoch(of) }
}

fn list(names: &StandbyNames) -> List {
    let members = Members::of(names.members().map(|n| id(&n.member)));
    let epoch = names.members().next().map_or(0, |n| n.epoch.0 as u8);
    List { k: names.k() as u8, members, epoch }
}

/// Records as the decider reads them, by revision and content.
type Records = BTreeMap<(u8, Record), Rc<Versioned<SyncRecord>>>;

thread_local! {
    // There are few different records, and they are asked for in every state.
    static LISTS: RefCell<BTreeMap<Record, List>> = const { RefCell::new(BTreeMap::new()) };
    static RECORDS: RefCell<Records> =
        const { RefCell::new(BTreeMap::new()) };
}

/// The record in the store.
pub(crate) fn versioned(state: &State) -> Rc<Versioned<SyncRecord>> {
    let (revision, record) = (state.revision, state.record);
    RECORDS.with_borrow_mut(|records| {
        let entry = records.entry((revision, record)).or_insert_with(|| {
            let revision = Revision(u64::from(revision));
            Rc::new(Versioned { record: sync_record(&record), revision })
        });
        Rc::clone(entry)
    })
}

/// What [`StandbyNames::of_record`] lets a leader use.
pub(crate) fn list_of_record(record: &Record) -> List {
    LISTS.with_borrow_mut(|lists| {
        *lists.entry(*record).or_insert_with(|| list(&StandbyNames::of_record(&sync_record(record))))
    })
}

/// [`StandbyNames::any`].
pub(crate) fn list_of_policy(policy: &Policy, epoch: u8) -> List {
    list_of_record(&Record { epoch, leader: Id(0), policy: Policy { epoch, ..*policy } })
}
