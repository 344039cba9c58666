//! One decider with a hand on its clock: feeds events, answers nothing by itself, keeps every action.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::time::Duration;

use ha_core::cluster_view::{StoreKey, StoreView};
use ha_core::heartbeat::{HeardHeartbeat, Heartbeats};
use ha_core::node_state::NodeState;
use ha_core::peer_message::{PeerMessage, PeerPhase, PeerState, Promised};
use ha_core::postgres_view::{
    ControlState, DataDirectory, DataFacts, Instance, PostgresProcess, PostgresView, WalReceiver, WalSender,
};
use ha_core::record::{
    ClusterSettings, FailoverTimes, GuardArming, HistoryRecord, LeaderRecord, Policy, SyncRecord, Versioned,
};
use ha_core::standby_names::StandbyName;
use ha_core::{
    BootId, Epoch, Generation, Incarnation, Lsn, MemberId, MemberName, MonoTime, ReplicationMode, Revision,
    SystemId, Timeline,
};
use ha_decision::{
    Action, Decider, Event, GuardNeed, Job, JobOutput, LeaseNews, MemberSetup, OpId, Setup, Timings, Txn,
    TxnOutcome,
};

pub(crate) const SYSTEM: SystemId = SystemId(77);

pub(crate) fn name(text: &str) -> MemberName {
    text.parse().expect("a good name")
}

/// The member with the incarnation that all these tests give it.
pub(crate) fn id(text: &str) -> MemberId {
    let number = u32::from(text.as_bytes()[2]);
    MemberId::new(name(text), Incarnation(number))
}

pub(crate) struct Member {
    pub(crate) decider: Decider,
    pub(crate) now: MonoTime,
    pub(crate) view: StoreView,
    pub(crate) actions: Vec<Action>,
    /// Walsenders that a running PostgreSQL shows.
    pub(crate) senders: Vec<WalSender>,
    /// The walreceiver that a running standby shows.
    pub(crate) receiver: Option<WalReceiver>,
    /// When the last WAL came.
    wal_came: MonoTime,
    /// Whether the standbys say anything on their streams.
    pub(crate) standbys_reply: bool,
    /// What the log of a server that is down says.
    pub(crate) storage_failed: bool,
    /// What heartbeats of the others announce.
    pub(crate) announced_detection_ms: u64,
    heartbeats: Heartbeats,
    /// What PostgreSQL showed last: whether it is in recovery, and its position.
    seen: Option<(bool, u64)>,
    /// Which start of PostgreSQL shows itself.
    pub(crate) life: u64,
    /// Timeline that a running PostgreSQL shows.
    pub(crate) timeline: Timeline,
    ended: Option<OpId>,
}

fn setup(me: &str, node_state: NodeState) -> Setup {
    let members = ["pg1", "pg2", "pg3"].map(|m| MemberSetup {
        name: name(m),
        address: format!("10.0.1.1{}", &m[2..]),
        port: 5432,
        nofailover: false,
        nosync: false,
        priority: 1,
    });
    Setup {
        me: name(me),
        members: members.to_vec(),
        timings: Timings {
            lease_ttl: Duration::from_secs(10),
            drift: Duration::from_millis(100),
            net_margin: Duration::from_millis(500),
            demote_lead: Duration::from_secs(2),
            renew_interval: Duration::from_secs(2),
            detection: Duration::from_secs(1),
            stream_sign: Duration::from_millis(850),
            promise_timeout: Duration::from_millis(300),
            abort_after: Duration::from_secs(2),
            bootstrap_grace: Duration::from_secs(5),
            switchover_limit: Duration::from_secs(20),
        },
        initial_settings: ClusterSettings {
            mode: ReplicationMode::Synchronous,
            acks: 1,
            strict_k: false,
            degrade_after_ms: 5000,
            times: None,
            maximum_lag_bytes: 1 << 20,
            automatic: true,
            unfenced: false,
            parameters: Default::default(),
            hba: Vec::new(),
            extra: Default::default(),
        },
        guard: GuardNeed::Off,
        read_leases: false,
        rewind: true,
        node_state,
        entropy: 1,
        boot: BootId("boot".to_owned()),
        version: "test".to_owned(),
        file_digest: "digest".to_owned(),
    }
}

/// The walsenders of both standbys, which have flushed this much.
pub(crate) fn standbys_with(flush: u64) -> Vec<WalSender> {
    let sender = |standby: &str| WalSender {
        pid: u32::from(standby.as_bytes()[2]),
        name: Some(StandbyName { member: id(standby), epoch: Epoch(1) }),
        streaming: true,
        flush: Lsn(flush),
        sync_priority: 1,
        reply_mark: 0,
    };
    ["pg2", "pg3"].map(sender).to_vec()
}

impl Member {
    /// A member of a cluster that pg1 leads at epoch 1 with the listed members, k = 1, whose lease has run out.
    pub(crate) fn of_leaderless_cluster(me: &str, listed: &[&str]) -> Self {
        Self::with_node_state(me, listed, NodeState::default())
    }

    /// pg1 leads and serves; pg2 and pg3 stream from it.
    pub(crate) fn leading() -> Self {
        Self::come_to_lead(Self::of_leaderless_cluster("pg1", &["pg2", "pg3"]))
    }

    /// The same, and it gives out read leases.
    pub(crate) fn leading_with_read_leases() -> Self {
        Self::come_to_lead(Self::with("pg1", &["pg2", "pg3"], NodeState::default(), true))
    }

    fn come_to_lead(mut pg1: Self) -> Self {
        pg1.senders = standbys_with(100);
        pg1.put_leader("pg1", 1);
        pg1.see_store();
        pg1.see_primary(100);
        pg1.take_up_again();
        assert!(pg1.decider.status().serves_writes, "{:?}", pg1.decider.status());
        pg1.actions.clear();
        pg1
    }

    /// It wins its own leadership again and comes to serve.
    pub(crate) fn take_up_again(&mut self) {
        let taken_up = self.wanted_sync().expect("it takes its leadership up again");
        self.set_sync(taken_up);
        self.put_leader("pg1", 1);
        self.see_store();
        self.end_txn(TxnOutcome::Won { revision: self.view.sync_revision() });
        self.come_to_serve(100);
    }

    /// What is asked of its PostgreSQL succeeds, and the others are heard.
    pub(crate) fn come_to_serve(&mut self, flush: u64) {
        for _ in 0..10 {
            self.now = self.now + Duration::from_millis(10);
            self.hear_both();
            self.see_primary(flush);
            while let Some(output) = self.running_job() {
                self.end_job(output);
                self.see_primary(flush);
            }
        }
    }

    pub(crate) fn hear_both(&mut self) {
        self.hear_state("pg2", PeerPhase::Standby);
        self.hear_state("pg3", PeerPhase::Standby);
    }

    /// The same, and this is durable beside the incarnation.
    pub(crate) fn with_node_state(me: &str, listed: &[&str], durable: NodeState) -> Self {
        Self::with(me, listed, durable, false)
    }

    /// The same, and perhaps a leader gives out read leases.
    pub(crate) fn with(me: &str, listed: &[&str], durable: NodeState, read_leases: bool) -> Self {
        let node_state = NodeState { incarnation: Some(id(me).incarnation), ..durable };
        let mut member = Self {
            decider: Decider::new(Setup { read_leases, ..setup(me, node_state) }),
            now: MonoTime(1_000_000_000),
            view: StoreView { cluster_id: 1, revision: Revision(10), ..StoreView::default() },
            actions: Vec::new(),
            senders: Vec::new(),
            receiver: None,
            wal_came: MonoTime(0),
            standbys_reply: true,
            storage_failed: false,
            announced_detection_ms: 1000,
            heartbeats: Heartbeats::default(),
            seen: None,
            timeline: Timeline(1),
            life: 1,
            ended: None,
        };
        let policy = Policy::quorum(Epoch(1), listed.iter().map(|m| id(m)).collect(), 1);
        member.set_sync(SyncRecord {
            proto: 1,
            min_reader: 1,
            min_writer: 1,
            cluster_uuid: "uuid".to_owned(),
            system_id: SYSTEM,
            epoch: Epoch(1),
            generation: Generation(4),
            leader: id("pg1").into(),
            policy,
            extra: Default::default(),
        });
        let history = HistoryRecord {
            epoch: Epoch(1),
            parent: Timeline(0),
            switch_lsn: Lsn(0),
            member: name("pg1"),
            reason: "initdb".to_owned(),
            extra: Default::default(),
        };
        member.view.history.insert(Timeline(1), history);
        member
    }

    pub(crate) fn set_sync(&mut self, record: SyncRecord) {
        self.view.revision = self.view.revision.next();
        self.view.sync = Some(Versioned { record, revision: self.view.revision });
    }

    /// `automatic = false` in the cluster's configuration.
    pub(crate) fn let_people_decide(&mut self) {
        let settings = setup("pg1", NodeState::default()).initial_settings;
        self.view.revision = self.view.revision.next();
        let record = ClusterSettings { automatic: false, ..settings };
        self.view.config = Some(Versioned { record, revision: self.view.revision });
    }

    /// Durability in the cluster's configuration.
    pub(crate) fn set_mode(&mut self, mode: ReplicationMode) {
        let settings = setup("pg1", NodeState::default()).initial_settings;
        self.view.revision = self.view.revision.next();
        let record = ClusterSettings { mode, ..settings };
        self.view.config = Some(Versioned { record, revision: self.view.revision });
    }

    /// Failover times in the cluster's configuration.
    pub(crate) fn set_times(&mut self, times: FailoverTimes) {
        let settings = setup("pg1", NodeState::default()).initial_settings;
        self.view.revision = self.view.revision.next();
        let record = ClusterSettings { times: Some(times), ..settings };
        self.view.config = Some(Versioned { record, revision: self.view.revision });
    }

    /// The history says why the epoch of this record began.
    pub(crate) fn won_by(&mut self, record: &SyncRecord, reason: &str) {
        let before = *self.view.history.keys().last().expect("the first timeline");
        let history = HistoryRecord {
            epoch: record.epoch,
            parent: before,
            switch_lsn: Lsn(100),
            member: record.leader.member.clone(),
            reason: reason.to_owned(),
            extra: Default::default(),
        };
        self.view.history.insert(before.next(), history);
    }

    /// Heartbeats of these members arrive now, and say that they lead this epoch.
    pub(crate) fn hear_heartbeats(&mut self, from: &[(&str, Option<Epoch>)]) {
        let (at, detection_ms) = (self.now, self.announced_detection_ms);
        self.heartbeats.heard = from
            .iter()
            .map(|(member, leads)| (name(member), HeardHeartbeat { at, leads: *leads, detection_ms }))
            .collect();
        self.event(Event::Heartbeats(self.heartbeats.clone()));
    }

    /// The thread that receives heartbeats finds that it stood still until now.
    pub(crate) fn heartbeats_stalled(&mut self) {
        self.heartbeats.stalled_at = Some(self.now);
        self.event(Event::Heartbeats(self.heartbeats.clone()));
    }

    pub(crate) fn sync(&self) -> SyncRecord {
        self.view.sync.as_ref().expect("a sync record").record.clone()
    }

    pub(crate) fn put_leader(&mut self, member: &str, epoch: u64) {
        self.view.revision = self.view.revision.next();
        let record = LeaderRecord {
            member: name(member),
            incarnation: id(member).incarnation,
            epoch: Epoch(epoch),
            guard: GuardArming::Armed,
            extra: Default::default(),
        };
        self.view.leader = Some(Versioned { record, revision: self.view.revision });
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.decider.handle_event(self.now, event);
        self.drain();
    }

    pub(crate) fn wait(&mut self, milliseconds: u64) {
        self.now = self.now + Duration::from_millis(milliseconds);
        self.decider.handle_timeout(self.now);
        self.drain();
    }

    /// Time passes as it does for an agent that is awake: the decider is woken whenever it wants to be.
    pub(crate) fn pass(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_millis(milliseconds);
        while self.now < end {
            let wanted = self.decider.poll_timeout().unwrap_or(end);
            self.now = wanted.max(self.now + Duration::from_millis(1)).min(end);
            self.decider.handle_timeout(self.now);
            self.drain();
            self.look_if_asked();
        }
    }

    /// PostgreSQL shows what it did before, only that nothing has come since.
    fn look_if_asked(&mut self) {
        let asked = self.actions.contains(&Action::Observe);
        self.actions.retain(|action| *action != Action::Observe);
        let Some((in_recovery, flush)) = self.seen.filter(|_| asked) else { return };
        if let Some(receiver) = &mut self.receiver {
            let age = self.now.since(self.wal_came).as_millis();
            receiver.last_message_age_ms = u64::try_from(age).expect("a short test");
        }
        self.see(in_recovery, flush);
    }

    fn drain(&mut self) {
        while let Some(action) = self.decider.poll_action() {
            self.actions.push(action);
        }
    }

    pub(crate) fn see_store(&mut self) {
        let view = self.view.clone();
        self.event(Event::Store(Box::new(view)));
        self.event(Event::Lease(LeaseNews::Ready));
        self.event(Event::Lease(LeaseNews::Renewed { sent_at: self.now, leads: None }));
    }

    /// Its lease is confirmed now, and the leader record names it.
    pub(crate) fn renew_lease(&mut self) {
        let leads = Some(self.sync().epoch);
        self.event(Event::Lease(LeaseNews::Renewed { sent_at: self.now, leads }));
    }

    /// PostgreSQL runs as a standby on timeline 1 with this much, without a walreceiver.
    pub(crate) fn see_standby(&mut self, flush: u64) {
        self.see(true, flush);
    }

    /// The same with a walreceiver that streams from the leader; its last message has just come.
    pub(crate) fn see_streaming(&mut self, flush: u64) {
        let epoch = Some(self.sync().epoch);
        self.receiver = Some(WalReceiver { pid: 9, streaming: true, epoch, last_message_age_ms: 0 });
        self.wal_came = self.now;
        self.see(true, flush);
    }

    pub(crate) fn see_primary(&mut self, flush: u64) {
        self.see(false, flush);
    }

    /// PostgreSQL is down; it was a primary and did not stop cleanly.
    pub(crate) fn see_stopped_primary(&mut self) {
        let facts = DataFacts {
            system_id: SYSTEM,
            incarnation: Some(id(self.decider.status().me.as_str()).incarnation),
            state: ControlState::InProduction,
            timeline: Timeline(1),
            checkpoint: Lsn(1),
            minimum_recovery: Lsn(0),
            standby_signal: false,
        };
        self.now = self.now + Duration::from_millis(1);
        self.event(Event::Postgres(PostgresView {
            at: self.now,
            data: DataDirectory::Present(facts),
            process: PostgresProcess::Stopped,
            full: false,
            storage_failed: self.storage_failed,
        }));
    }

    /// PostgreSQL lives by its process and does not answer, or says that all sessions are taken.
    pub(crate) fn see_silent(&mut self, full: bool) {
        self.now = self.now + Duration::from_millis(1);
        let facts = DataFacts {
            system_id: SYSTEM,
            incarnation: Some(id(self.decider.status().me.as_str()).incarnation),
            state: ControlState::InProduction,
            timeline: Timeline(1),
            checkpoint: Lsn(1),
            minimum_recovery: Lsn(0),
            standby_signal: false,
        };
        self.event(Event::Postgres(PostgresView {
            at: self.now,
            data: DataDirectory::Present(facts),
            process: PostgresProcess::Silent,
            full,
            storage_failed: false,
        }));
    }

    fn see(&mut self, in_recovery: bool, flush: u64) {
        let incarnation = id(self.decider.status().me.as_str()).incarnation;
        let mut instance = Instance {
            life: self.life,
            in_recovery,
            timeline: self.timeline,
            flush: Lsn(flush),
            replay: Lsn(flush),
            receiver: self.receiver.clone(),
            senders: self.senders.clone(),
            standby_names: String::new(),
            drifted: Vec::new(),
            pending_restart: Vec::new(),
            checkpoint_timeline: self.timeline,
            history: Vec::new(),
            version: 150_000,
        };
        let facts = DataFacts {
            system_id: SYSTEM,
            incarnation: Some(incarnation),
            state: if in_recovery { ControlState::InArchiveRecovery } else { ControlState::InProduction },
            timeline: self.timeline,
            checkpoint: Lsn(1),
            minimum_recovery: Lsn(1),
            standby_signal: in_recovery,
        };
        self.now = self.now + Duration::from_millis(1);
        let reply_mark = if self.standbys_reply { self.now.0 } else { 0 };
        for sender in &mut instance.senders {
            sender.reply_mark = reply_mark;
        }
        self.seen = Some((in_recovery, flush));
        self.event(Event::Postgres(PostgresView {
            at: self.now,
            data: DataDirectory::Present(facts),
            process: PostgresProcess::Running(Box::new(instance)),
            full: false,
            storage_failed: false,
        }));
    }

    pub(crate) fn hear(&mut self, from: &str, message: PeerMessage) {
        self.event(Event::Peer { from: name(from), message });
    }

    pub(crate) fn hear_state(&mut self, from: &str, phase: PeerPhase) {
        self.hear_about_leader(from, phase, false);
    }

    /// What a member says, and whether it hears the leader.
    pub(crate) fn hear_about_leader(&mut self, from: &str, phase: PeerPhase, hears_leader: bool) {
        let revision = self.view.sync_revision();
        self.hear_revision(from, phase, hears_leader, revision);
    }

    /// The same of a member that has seen this revision of the sync record.
    pub(crate) fn hear_revision(
        &mut self,
        from: &str,
        phase: PeerPhase,
        hears_leader: bool,
        revision: Revision,
    ) {
        let state = PeerState {
            incarnation: Some(id(from).incarnation),
            system_id: Some(SYSTEM),
            phase,
            epoch: self.sync().epoch,
            revision,
            timeline: Timeline(1),
            flush: Lsn(100),
            replay: Lsn(100),
            checkpoint_timeline: Timeline(1),
            history: Vec::new(),
            hears_leader,
            candidate: true,
            leaving: false,
        };
        self.hear(from, PeerMessage::State(state));
    }

    pub(crate) fn promised_by(&self, from: &str, flush: u64) -> PeerMessage {
        PeerMessage::Promised(Promised {
            epoch: self.sync().epoch,
            revision: self.view.sync_revision(),
            member: id(from),
            timeline: Timeline(1),
            flush: Lsn(flush),
            candidate: true,
            priority: 1,
        })
    }

    pub(crate) fn jobs(&self) -> Vec<(OpId, Job)> {
        let jobs = self.actions.iter().filter_map(|a| match a {
            Action::Job { id, job } => Some((*id, job.clone())),
            _ => None,
        });
        jobs.collect()
    }

    pub(crate) fn txns(&self) -> Vec<(OpId, Txn)> {
        let txns = self.actions.iter().filter_map(|a| match a {
            Action::Txn { id, txn } => Some((*id, txn.clone())),
            _ => None,
        });
        txns.collect()
    }

    /// The sync record that the last transaction wants to write.
    pub(crate) fn wanted_sync(&self) -> Option<SyncRecord> {
        let (_, txn) = self.txns().pop()?;
        let (_, value, _) = txn.puts.iter().find(|(key, ..)| *key == StoreKey::Sync)?;
        serde_json::from_slice(value).ok()
    }

    pub(crate) fn end_job(&mut self, output: JobOutput) {
        let (id, _) = self.jobs().pop().expect("a job runs");
        self.now = self.now + Duration::from_millis(1);
        self.event(Event::JobDone { id, result: Ok(output) });
    }

    pub(crate) fn end_txn(&mut self, outcome: TxnOutcome) {
        let (id, _) = self.txns().pop().expect("a transaction is under way");
        self.event(Event::TxnDone { id, outcome });
    }

    /// What a job that has begun and not ended may report.
    pub(crate) fn running_job(&mut self) -> Option<JobOutput> {
        let (id, job) = self.jobs().pop()?;
        if self.ended == Some(id) {
            return None;
        }
        self.ended = Some(id);
        Some(match job {
            Job::ProveBlocked | Job::MarkBarrier => JobOutput::Flushed { lsn: Lsn(100) },
            _ => JobOutput::Done,
        })
    }

    /// Runs until this member has revoked and waits for the others.
    pub(crate) fn revoke_own(&mut self, flush: u64) {
        self.see_store();
        self.see_standby(flush);
        // The settings with which it follows the leader.
        self.end_job(JobOutput::Done);
        self.see_standby(flush);
        self.wait(3000);
        self.see_store();
        self.see_standby(flush);
        self.wait(200);
        self.end_job(JobOutput::Revoked { timeline: Timeline(1), flush: Lsn(flush) });
        self.see_standby(flush);
    }
}
