//! The cluster does not exist yet: one member wins the right to run `initdb`, the others wait and clone.

use ha_core::cluster_view::{StoreKey, to_json};
use ha_core::node_state::{JobKind, JobMarker};
use ha_core::peer_message::PeerPhase;
use ha_core::postgres_view::DataDirectory;
use ha_core::record::{HistoryRecord, InitializeRecord, PROTOCOL, Policy, SyncRecord};
use ha_core::standby_names::StandbyNames;
use ha_core::{Epoch, Generation, Lsn, ReplicationMode, Revision, SystemId, Timeline};

use crate::action::{LeaseChoice, Txn};
use crate::decider::Decider;
use crate::job::{Access, Job, ServerSettings};
use crate::phases::Won;
use crate::reason::Reason;
use crate::status::PeerStatus;
use crate::store::TxnFor;
use crate::timers::Timer;

impl Decider {
    pub(crate) fn bootstrap(&mut self) {
        if let Some((system_id, _)) = self.founded {
            self.found_cluster(system_id);
            return;
        }
        let Some(view) = &self.store.view else { return };
        let interrupted = self.node.job.as_ref().is_some_and(|j| j.kind == JobKind::Initdb);
        match self.postgres.as_ref().map(|p| &p.data) {
            Some(DataDirectory::Empty) => {}
            Some(_) if interrupted => {}
            Some(DataDirectory::Present(facts)) => {
                let found = facts.system_id;
                self.blocked_by(Reason::DataWithoutCluster { found });
                return;
            }
            Some(DataDirectory::Unusable { found }) => {
                let found = found.clone();
                self.blocked_by(Reason::UnusableData { found });
                return;
            }
            None => return,
        }
        match view.initialize.as_ref().map(|i| i.record.member.clone()) {
            Some(member) if member == self.setup.me => {
                if self.won_initialize || broken!(self, InitializeOnOldClaim) {
                    self.may_initialize();
                } else {
                    // Won in an earlier life of this agent, whose founding transaction may still be on its way and
                    // names data that is about to go. It compares this key, so writing the key anew outdates it.
                    self.claim_initialize();
                }
            }
            Some(member) => self.because(Reason::OtherInitializes { member }),
            None => self.ask_to_initialize(),
        }
    }

    fn ask_to_initialize(&mut self) {
        let has_data = |p: &PeerStatus| p.state.phase != PeerPhase::Empty && p.state.system_id.is_some();
        let with_data = self.peers.iter().find(|(_, p)| has_data(p));
        if let Some((member, _)) = with_data {
            let member = member.clone();
            self.blocked_by(Reason::OtherHasData { member });
            return;
        }
        let missing: Vec<_> = self
            .others()
            .into_iter()
            .filter(|m| !self.peers.contains_key(m))
            .map(|m| m.to_string())
            .collect();
        // While this agent stood still the others could not tell it that they have data.
        let grace_ends = self.awake_since() + self.setup.timings.bootstrap_grace;
        if !missing.is_empty() && self.now < grace_ends {
            self.timers.set(Timer::BootstrapGrace, grace_ends);
            self.because(Reason::WaitingForReports { missing: missing.join(", ") });
            return;
        }
        self.claim_initialize();
    }

    fn claim_initialize(&mut self) {
        if !self.lease.ready || !self.can_txn() {
            return;
        }
        let revision = self.initialize_revision();
        let record =
            InitializeRecord { member: self.setup.me.clone(), system_id: None, extra: Default::default() };
        self.submit(
            TxnFor::Initialize,
            Txn {
                purpose: "win the right to initialize",
                compares: vec![(StoreKey::Initialize, revision), (StoreKey::Sync, Revision(0))],
                puts: vec![(StoreKey::Initialize, to_json(&record), LeaseChoice::Member)],
                deletes: Vec::new(),
            },
        );
    }

    fn initialize_revision(&self) -> Revision {
        let initialize = self.store.view.as_ref().and_then(|v| v.initialize.as_ref());
        initialize.map_or(Revision(0), |i| i.revision)
    }

    pub(crate) fn initialize_won(&mut self) {
        self.won_initialize = true;
        self.may_initialize();
    }

    /// This member has won: `initdb`.
    fn may_initialize(&mut self) {
        if self.sync().is_some() || self.founded.is_some() || !self.job_free() {
            return;
        }
        self.because(Reason::Initializing);
        let incarnation = self.new_incarnation();
        let mut node = self.node.clone();
        node.incarnation = Some(incarnation);
        node.job = Some(JobMarker { kind: JobKind::Initdb, epoch: Epoch(0), source: None });
        self.persist(node);
        let settings =
            ServerSettings { standby_names: StandbyNames::blocked(), upstream: None, access: Access::Closed };
        self.start_job(Job::Initialize { incarnation, settings });
    }

    pub(crate) fn initialized(&mut self, system_id: SystemId, flush: Lsn) {
        self.founded = Some((system_id, flush));
    }

    /// Writes the first records. The first leader holds everything that exists: pinned is the truth, until a standby
    /// has attached. In strict mode it stays unestablished and acknowledges nothing until then.
    fn found_cluster(&mut self, system_id: SystemId) {
        if !self.lease.ready || !self.can_txn() {
            return;
        }
        let Some(me) = self.me_id() else { return };
        let settings = self.setup.initial_settings.clone();
        let epoch = Epoch(1);
        let policy = match settings.mode {
            ReplicationMode::Synchronous => Policy::pinned(epoch),
            ReplicationMode::Asynchronous => Policy::asynchronous(epoch),
            ReplicationMode::Strict => Policy::quorum(Epoch(0), Default::default(), settings.acks),
        };
        let (high, low) = (self.random.next_u64(), self.random.next_u64());
        let sync = SyncRecord {
            proto: PROTOCOL,
            min_reader: PROTOCOL,
            min_writer: PROTOCOL,
            cluster_uuid: format!("{high:016x}{low:016x}"),
            system_id,
            epoch,
            generation: Generation(1),
            leader: me.into(),
            policy,
            extra: Default::default(),
        };
        let history = HistoryRecord {
            epoch,
            parent: Timeline(0),
            switch_lsn: Lsn(0),
            member: self.setup.me.clone(),
            reason: "initdb".to_owned(),
            extra: Default::default(),
        };
        let initialize = InitializeRecord {
            member: self.setup.me.clone(),
            system_id: Some(system_id),
            extra: Default::default(),
        };
        let view = self.store.view.as_ref();
        let mut puts = vec![
            (StoreKey::Sync, to_json(&sync), LeaseChoice::None),
            self.put_leader(&sync),
            (StoreKey::History(Timeline(1)), to_json(&history), LeaseChoice::None),
            (StoreKey::Initialize, to_json(&initialize), LeaseChoice::None),
        ];
        if view.is_none_or(|v| v.config.is_none()) {
            puts.push((StoreKey::Config, to_json(&settings), LeaseChoice::None));
        }
        self.submit(
            TxnFor::FoundCluster,
            Txn {
                purpose: "found the cluster",
                compares: vec![
                    (StoreKey::Sync, Revision(0)),
                    (StoreKey::Initialize, self.initialize_revision()),
                ],
                puts,
                deletes: Vec::new(),
            },
        );
    }

    pub(crate) fn cluster_founded(&mut self) {
        self.founded = None;
        self.leadership_won("it founded the cluster");
        self.note_won(Won::Founding);
    }
}
