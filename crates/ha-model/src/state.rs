//! One state of the cluster, small enough that millions of them fit in memory: fixed arrays of bytes, no pointers.
//!
//! A state holds the ground truth: what stands in the store, on disks, in processes and on the wire.

/// Members of the cluster.
pub(crate) const MEMBERS: usize = 3;
/// The longest write-ahead log, in records.
pub(crate) const WAL: usize = 7;
/// Epochs are below this.
pub(crate) const EPOCHS: usize = 6;
/// Incarnations of one member are below this: a set of members has 4 bits for each.
pub(crate) const LIVES: u8 = 4;

/// Index of a member.
pub(crate) type Member = u8;

/// A member with the life of its data directory, as one number: bit in [`Members`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Id(pub(crate) u8);

impl Id {
    pub(crate) fn new(member: Member, life: u8) -> Self {
        Self(member * LIVES + life)
    }

    pub(crate) fn member(self) -> Member {
        self.0 / LIVES
    }

    pub(crate) fn life(self) -> u8 {
        self.0 % LIVES
    }
}

/// A set of [`Id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Members(pub(crate) u16);

impl Members {
    pub(crate) fn of(ids: impl IntoIterator<Item = Id>) -> Self {
        Self(ids.into_iter().fold(0, |bits, id| bits | 1 << id.0))
    }

    pub(crate) fn has(self, id: Id) -> bool {
        self.0 >> id.0 & 1 == 1
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn len(self) -> u8 {
        self.0.count_ones() as u8
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Id> {
        (0..MEMBERS as u8 * LIVES).map(Id).filter(move |id| self.has(*id))
    }

    /// Whether any life of the member is in it.
    pub(crate) fn has_member(self, member: Member) -> bool {
        self.0 >> (member * LIVES) & 0xf != 0
    }
}

/// `ha_core::record::PolicyKind` without the asynchronous kind, which promises nothing that could be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) enum Kind {
    #[default]
    Quorum,
    Pinned,
}

/// `ha_core::record::Policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Policy {
    pub(crate) epoch: u8,
    pub(crate) kind: Kind,
    pub(crate) members: Members,
    pub(crate) k: u8,
}

/// `ha_core::record::SyncRecord`. Its generation grows with each rewrite as the revision does, so it is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Record {
    pub(crate) epoch: u8,
    pub(crate) leader: Id,
    pub(crate) policy: Policy,
}

impl Record {
    pub(crate) fn is_established(&self) -> bool {
        self.policy.epoch == self.epoch
    }
}

/// What a transaction is for, as in `ha_decision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) enum For {
    #[default]
    Nothing,
    TakeOver,
    ChangePolicy,
    Reacquire,
    Bump,
}

/// A transaction on its way to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Request {
    pub(crate) what: For,
    pub(crate) from: Member,
    /// Whether its agent still waits for the answer.
    pub(crate) awaited: bool,
    /// The revision that it compares.
    pub(crate) revision: u8,
    pub(crate) record: Record,
}

/// A write-ahead log. A record is named by the epoch and the server that wrote it; two equal logs are equal histories,
/// because a server appends and never overwrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Wal {
    pub(crate) len: u8,
    pub(crate) tags: [u8; WAL],
}

impl Wal {
    pub(crate) fn push(&mut self, tag: u8) {
        self.tags[self.len as usize] = tag;
        self.len += 1;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len as usize == WAL
    }

    /// Whether `other` begins with all of this.
    pub(crate) fn is_prefix_of(&self, other: &Self) -> bool {
        let len = self.len as usize;
        self.len <= other.len && self.tags[..len] == other.tags[..len]
    }

    /// Epoch of the last record.
    pub(crate) fn epoch(&self) -> u8 {
        self.len.checked_sub(1).map_or(0, |last| self.tags[last as usize] >> 2)
    }
}

/// The name of a record.
pub(crate) fn tag(epoch: u8, writer: Member) -> u8 {
    epoch << 2 | writer
}

/// `synchronous_standby_names`: blocked is `k = 1` of nobody, empty is `k = 0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct List {
    pub(crate) k: u8,
    pub(crate) members: Members,
    pub(crate) epoch: u8,
}

impl List {
    pub(crate) const BLOCKED: Self = Self { k: 1, members: Members(0), epoch: 0 };

    pub(crate) fn is_unguarded(&self) -> bool {
        self.k == 0
    }

    pub(crate) fn lists(&self, id: Id, epoch: u8) -> bool {
        self.epoch == epoch && self.members.has(id)
    }
}

/// One walsender of a primary, with its own copy of the list: the postmaster's and every walsender's reload are steps of
/// their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Sender {
    pub(crate) there: bool,
    /// The walreceiver at the other end is connected.
    pub(crate) live: bool,
    /// The announced name: this life of the standby, following this epoch.
    pub(crate) life: u8,
    pub(crate) epoch: u8,
    /// The last confirmation that arrived.
    pub(crate) flush: u8,
    /// The last one that was sent.
    pub(crate) wire: u8,
    /// `sync_priority > 0`, by the list that it read last.
    pub(crate) listed: bool,
    /// The count of that list.
    pub(crate) k: u8,
}

/// What a change of the list is to reach, as in `ha_decision`'s `list_change.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) enum Goal {
    #[default]
    None,
    Guard,
    Remove,
    RaiseAcks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) enum Stage {
    #[default]
    Blocked,
    Tighten,
    Barrier,
}

/// A change under way for which the server comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Change {
    pub(crate) goal: Goal,
    pub(crate) stage: Stage,
    pub(crate) to: Policy,
    pub(crate) bounced: bool,
    pub(crate) barrier: u8,
}

/// A promise as it was answered, at the store's present revision. Older ones decide nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Answer {
    pub(crate) there: bool,
    pub(crate) life: u8,
    pub(crate) epoch: u8,
    pub(crate) flush: u8,
}

/// One host: disk, PostgreSQL and agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Host {
    // The disk.
    pub(crate) life: u8,
    pub(crate) wal: Wal,
    /// The directory's last life was a primary's, of this epoch; 0 for a standby's.
    pub(crate) primary_of: u8,
    /// `NodeState::led`.
    pub(crate) led: u8,
    /// `NodeState::promise`, at the store's present revision.
    pub(crate) promised: bool,
    /// `primary_conninfo`: whom it follows, plus one; 0 for nobody.
    pub(crate) upstream: u8,
    pub(crate) upstream_epoch: u8,
    // A running primary.
    pub(crate) up: bool,
    pub(crate) list: List,
    /// New commits wait, because the checkpointer has read a list that is not empty.
    pub(crate) guarded: bool,
    pub(crate) senders: [Sender; MEMBERS],
    // The agent.
    /// Epoch that it leads by a transaction of this life; 0 for none.
    pub(crate) leads: u8,
    /// The policy that it knows then.
    pub(crate) known: Policy,
    pub(crate) change: Change,
    /// A transaction ended without an answer and the revision was not moved since.
    pub(crate) unresolved: bool,
    // On the wire to whoever wants to lead.
    pub(crate) answer: Answer,
}

impl Host {
    pub(crate) fn is_primary(&self) -> bool {
        self.up && self.primary_of > 0
    }
}

/// A leader that stopped cleanly asks a member to take over, at the store's present revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct HandOver {
    pub(crate) there: bool,
    pub(crate) to: Member,
    /// End of its WAL.
    pub(crate) end: u8,
}

/// How much may still go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Left {
    pub(crate) commits: u8,
    pub(crate) crashes: u8,
    pub(crate) slow: u8,
    pub(crate) losses: u8,
    pub(crate) breaks: u8,
}

/// A rule that was seen broken by a step; see `properties.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    OneLeaderPerEpoch = 1,
    EpochsGrowByOne = 2,
    TwoHistoriesAcknowledged = 4,
    UnestablishedAcknowledges = 8,
    LostWalKeepsName = 16,
}

/// Requests that may be on their way at once.
pub(crate) const IN_FLIGHT: usize = 2;

/// All of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct State {
    pub(crate) revision: u8,
    pub(crate) record: Record,
    pub(crate) requests: [Request; IN_FLIGHT],
    pub(crate) hosts: [Host; MEMBERS],
    /// Ground truth: the records that a client was told are safe, by position.
    pub(crate) acked: [u8; WAL],
    /// Ground truth: who led each epoch, plus one.
    pub(crate) leaders: [u8; EPOCHS],
    pub(crate) was_pinned: bool,
    pub(crate) hand_over: HandOver,
    pub(crate) broken: u8,
    pub(crate) left: Left,
}

impl State {
    pub(crate) fn host(&self, member: Member) -> &Host {
        &self.hosts[member as usize]
    }

    pub(crate) fn id(&self, member: Member) -> Id {
        Id::new(member, self.host(member).life)
    }

    pub(crate) fn is_leader(&self, member: Member) -> bool {
        self.record.leader == self.id(member)
    }

    /// Whether this agent leads, knows it, and knows the present record.
    pub(crate) fn leads_knowingly(&self, member: Member) -> bool {
        let host = self.host(member);
        self.is_leader(member) && host.leads == self.record.epoch && host.known == self.record.policy
    }

    /// Whether a transaction may be submitted: none is awaited and none unresolved.
    pub(crate) fn may_submit(&self, member: Member) -> bool {
        !self.host(member).unresolved && !self.awaits(member)
    }

    pub(crate) fn awaits(&self, member: Member) -> bool {
        self.requests.iter().any(|r| r.what != For::Nothing && r.from == member && r.awaited)
    }

    pub(crate) fn mark(&mut self, broken: Broken) {
        self.broken |= broken as u8;
    }

    /// Every acknowledged record is in this log.
    pub(crate) fn holds_all_acked(&self, wal: &Wal) -> bool {
        (0..WAL).all(|i| self.acked[i] == 0 || (i < wal.len as usize && wal.tags[i] == self.acked[i]))
    }

    /// Cuts whatever stream this standby has; what it confirmed stays on the wire.
    pub(crate) fn cut_streams(&mut self, member: Member) {
        for host in &mut self.hosts {
            host.senders[member as usize].live = false;
        }
    }
}
