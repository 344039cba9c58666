//! Another member leads: clone, rewind, start, follow.

use ha_core::node_state::{JobKind, JobMarker};
use ha_core::peer_message::{PeerPhase, PeerState};
use ha_core::postgres_view::{ControlState, DataDirectory, DataFacts, Instance, PostgresProcess};
use ha_core::record::SyncRecord;
use ha_core::standby_names::{StandbyName, StandbyNames};
use ha_core::{Incarnation, Lsn, MemberId, MonoTime};

use crate::decider::Decider;
use crate::job::{Access, Job, ServerSettings, StopMode, Upstream};
use crate::reason::Reason;

/// What the leader's history says of this member's WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Branch {
    /// It is part of the leader's history.
    Same,
    /// It went on where the leader left.
    Diverged(&'static str),
    /// It was written by a primary under the number of the leader's own timeline: two histories have one name.
    Twin,
    /// The leader has not said enough yet.
    NotKnown,
}

impl Decider {
    pub(crate) fn standby(&mut self, record: &SyncRecord) {
        self.finish_switchover(record);
        self.list_change = None;
        let data = self.postgres.as_ref().map(|p| p.data.clone());
        match data {
            Some(DataDirectory::Present(facts)) => self.standby_with_data(record, &facts),
            Some(DataDirectory::Empty) => self.clone_data(record, "there is no data here"),
            Some(DataDirectory::Unusable { .. }) if self.node.job.is_some() => {
                self.clone_data(record, "an earlier job was interrupted");
            }
            // An observation from before the end of a copy shows half of it.
            Some(DataDirectory::Unusable { .. }) if self.observation_is_old() => {}
            Some(DataDirectory::Unusable { found }) => self.blocked_by(Reason::UnusableData { found }),
            None => {}
        }
    }

    fn standby_with_data(&mut self, record: &SyncRecord, facts: &DataFacts) {
        // First of all: such a directory is this member's own to replace, also when its initdb lost the race to found
        // the cluster and left another system identifier.
        if self.node.job.is_some() {
            self.clone_data(record, "an earlier job was interrupted");
            return;
        }
        if facts.system_id != record.system_id {
            let (found, expected) = (facts.system_id, record.system_id);
            self.blocked_by(Reason::ForeignData { found, expected });
            return;
        }
        if self.maintenance_of_standby(record) {
            return;
        }
        if self.node.incarnation.is_none() || facts.incarnation != self.node.incarnation {
            self.adopt_directory();
            return;
        }
        self.elect(record);
        if self.leadership.is_some() {
            return;
        }
        if self.node.promise.is_some() {
            self.hold_promise(record);
        } else {
            self.follow(record, facts);
        }
    }

    /// The directory is not the one that was noted: whatever was confirmed under the old name does not count for it.
    fn adopt_directory(&mut self) {
        if !self.job_free() {
            return;
        }
        self.note(Reason::NewIncarnation);
        let incarnation = self.new_incarnation();
        let mut node = self.node.clone();
        node.incarnation = Some(incarnation);
        node.promise = None;
        node.led = None;
        self.persist(node);
        self.start_job(Job::WriteIncarnation { incarnation });
    }

    pub(crate) fn data_replaced(&mut self, incarnation: Incarnation) {
        let mut node = self.node.clone();
        node.incarnation = Some(incarnation);
        node.job = None;
        node.promise = None;
        node.led = None;
        self.revocation = None;
        self.persist(node);
    }

    /// The leader as a source, provided that its agent says that its PostgreSQL is a primary of this epoch.
    fn leader_primary(&self, record: &SyncRecord) -> Option<PeerState> {
        let leader = &record.leader.member;
        let peer = self.peers.get(leader).filter(|_| self.is_heard(leader))?;
        let primary = matches!(peer.state.phase, PeerPhase::Primary | PeerPhase::PrimaryClosed);
        (primary && peer.state.epoch == record.epoch).then(|| peer.state.clone())
    }

    fn upstream(&self, record: &SyncRecord, incarnation: Incarnation) -> Option<Upstream> {
        let leader = self.member(&record.leader.member)?;
        Some(Upstream {
            member: leader.name.clone(),
            address: leader.address.clone(),
            port: leader.port,
            announced: StandbyName {
                member: MemberId::new(self.setup.me.clone(), incarnation),
                epoch: record.epoch,
            },
        })
    }

    pub(crate) fn clone_data(&mut self, record: &SyncRecord, why: &'static str) {
        if self.leader_primary(record).is_none() {
            self.because(Reason::WaitingForCloneSource);
            return;
        }
        if !self.job_free() {
            return;
        }
        if !self.is_stopped() {
            self.stop_now(StopMode::Immediate);
            return;
        }
        let mut incarnation = self.new_incarnation();
        if broken!(self, OldIncarnationAfterClone) {
            incarnation = self.node.incarnation.unwrap_or(incarnation);
        }
        let Some(source) = self.upstream(record, incarnation) else { return };
        self.because(Reason::Cloning { source_member: source.member.clone(), why });
        self.journal(JobKind::Clone, record);
        self.start_job(Job::Clone { source, incarnation });
    }

    fn journal(&mut self, kind: JobKind, record: &SyncRecord) {
        let mut node = self.node.clone();
        node.job = Some(JobMarker { kind, epoch: record.epoch, source: Some(record.leader.id()) });
        self.persist(node);
    }

    fn rewind(&mut self, record: &SyncRecord, why: &'static str) {
        let leader = record.leader.member.clone();
        let Some(state) = self.leader_primary(record) else {
            self.because(Reason::WaitingForCloneSource);
            return;
        };
        if self.server.needs_clone || !self.setup.rewind {
            self.clone_data(record, "the rewind cannot succeed");
            return;
        }
        // Before its first checkpoint the control file of a promoted server still shows the old timeline, and
        // pg_rewind would find nothing to do.
        if state.checkpoint_timeline != state.timeline && !broken!(self, RewindBeforeCheckpoint) {
            self.because(Reason::WaitingForLeaderCheckpoint { leader });
            return;
        }
        if !self.job_free() {
            return;
        }
        let mut incarnation = self.new_incarnation();
        if broken!(self, OldIncarnationAfterRewind) {
            incarnation = self.node.incarnation.unwrap_or(incarnation);
        }
        let Some(source) = self.upstream(record, incarnation) else { return };
        self.because(Reason::Rewinding { source_member: source.member.clone(), why });
        self.journal(JobKind::Rewind, record);
        self.start_job(Job::Rewind { source, incarnation });
    }

    fn follow(&mut self, record: &SyncRecord, facts: &DataFacts) {
        let process = self.postgres.as_ref().map(|p| p.process.clone());
        match process {
            Some(PostgresProcess::Stopped) => self.start_following(record, facts),
            Some(PostgresProcess::Running(instance)) if instance.in_recovery => {
                self.keep_following(record, &instance);
            }
            _ => {}
        }
    }

    fn start_following(&mut self, record: &SyncRecord, facts: &DataFacts) {
        if self.is_paused() && self.maintenance.restart_asked().is_none() {
            self.because(Reason::Maintenance { why: "PostgreSQL is stopped and stays so".to_owned() });
            return;
        }
        if facts.is_primary_shaped() && self.covers_policy(record) && self.leader_looks_gone(record) {
            // The new leader is gone before it could acknowledge anything: this member may lead again, and has to be a
            // standby for that, because its old timeline is closed.
            if self.job_free() {
                self.because(Reason::OldLeaderReturns { epoch: record.epoch });
                self.start_job(Job::Start { standby: true, settings: Self::settings_without_upstream() });
            }
            return;
        }
        if facts.is_primary_shaped() {
            let Some(leader) = self.leader_primary(record) else {
                self.because(Reason::WaitingForCloneSource);
                return;
            };
            match branch_of_stopped(facts, &leader) {
                Branch::Same => {}
                Branch::Diverged(_) if broken!(self, DivergenceIgnored) => {}
                Branch::Diverged(why) => {
                    self.rewind(record, why);
                    return;
                }
                Branch::Twin => {
                    // pg_rewind compares numbers of timelines and would find nothing to do.
                    self.clone_data(record, "it was a primary on the leader's own timeline");
                    return;
                }
                Branch::NotKnown => return,
            }
        }
        if !self.job_free() {
            return;
        }
        self.because(Reason::StartingStandby { leader: record.leader.member.clone() });
        if let Some(settings) = self.following_settings(record) {
            self.start_job(Job::Start { standby: true, settings });
        }
    }

    fn following_settings(&self, record: &SyncRecord) -> Option<ServerSettings> {
        let upstream = self.upstream(record, self.node.incarnation?)?;
        Some(ServerSettings {
            standby_names: StandbyNames::blocked(),
            upstream: Some(upstream),
            access: Access::Open,
        })
    }

    fn keep_following(&mut self, record: &SyncRecord, instance: &Instance) {
        if self.postgres.as_ref().is_some_and(|p| p.at < self.server.changed_at) {
            return;
        }
        if let Some(leader) = self.leader_primary(record)
            && !broken!(self, DivergenceIgnored)
            && let Branch::Diverged(why) = branch_of_running(instance, &leader)
        {
            self.rewind(record, why);
            return;
        }
        let Some(settings) = self.following_settings(record) else { return };
        if self.settle(&settings) {
            self.because(Reason::Following { leader: record.leader.member.clone(), epoch: record.epoch });
        }
    }

    /// Bound by a promise: no upstream, until the sync record has moved on.
    fn hold_promise(&mut self, record: &SyncRecord) {
        let Some(promise) = self.node.promise.clone() else { return };
        if self.revocation.as_ref().is_none_or(|r| !r.holds_for(&promise)) {
            // Given in an earlier life of this agent, or the server was started since: make it true again.
            self.revoke_upstream(&promise);
        } else if self.election.is_none() {
            self.because(Reason::HoldingPromise { epoch: promise.epoch });
        }
        self.abort_stale_promise(record);
    }

    pub(crate) fn settings_without_upstream() -> ServerSettings {
        ServerSettings { standby_names: StandbyNames::blocked(), upstream: None, access: Access::Open }
    }

    /// When the data of this member last changed hands, for choosing how long to trust silence.
    pub(crate) fn started_at(&self) -> MonoTime {
        self.started.unwrap_or(self.now)
    }
}

/// Where the leader left the timeline; none if that timeline is not in its history.
fn left_at(leader: &PeerState, timeline: ha_core::Timeline) -> Option<Lsn> {
    leader.history.iter().find(|(t, _)| *t == timeline).map(|(_, lsn)| *lsn)
}

/// Of a directory whose last life was a primary's. Whoever leads got a timeline that nobody else was given, so a
/// primary that wrote under the same number was made by somebody else, by `pg_ctl promote` for one.
fn branch_of_stopped(facts: &DataFacts, leader: &PeerState) -> Branch {
    if leader.timeline.0 == 0 {
        return Branch::NotKnown;
    }
    if facts.timeline == leader.timeline {
        return Branch::Twin;
    }
    if facts.state != ControlState::ShutDown {
        return Branch::Diverged("PostgreSQL was a primary here and did not stop cleanly");
    }
    match left_at(leader, facts.timeline) {
        // The switch point is the end of the last record that both have; the shutdown checkpoint lies before it.
        Some(switch) if switch > facts.checkpoint => Branch::Same,
        Some(_) => Branch::Diverged("it wrote WAL that the leader does not have"),
        None => Branch::Diverged("its timeline is not in the leader's history"),
    }
}

fn branch_of_running(instance: &Instance, leader: &PeerState) -> Branch {
    if leader.timeline.0 == 0 {
        return Branch::NotKnown;
    }
    if instance.timeline == leader.timeline {
        return Branch::Same;
    }
    match left_at(leader, instance.timeline) {
        Some(switch) if instance.flush.max(instance.replay) > switch => {
            Branch::Diverged("it received WAL that the leader does not have")
        }
        Some(_) => Branch::Same,
        None => Branch::Diverged("its timeline is not in the leader's history"),
    }
}
