//! What a seed draws before the run: size, mode, which faults it plays and how often. Each seed plays only some kinds
//! (a swarm), because too many at once hide each other.

use std::time::Duration;

use ha_core::record::ClusterSettings;
use ha_core::{MemberName, ReplicationMode};
use ha_decision::{GuardNeed, Timings};

use crate::clock::{MS, SECOND};
use crate::fault::FaultKind;
use crate::rng::Rng;
use crate::world::member_name;

/// A tag of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// Never promoted.
    NoFailover,
    /// Never listed.
    NoSync,
}

/// What was drawn for a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Members.
    pub size: usize,
    /// Wanted durability.
    pub mode: ReplicationMode,
    /// Wanted k.
    pub acks: u32,
    /// Stay blocked until k qualify.
    pub strict_k: bool,
    /// Kinds of faults that are played.
    pub faults: Vec<FaultKind>,
    /// Pause between faults, nanoseconds: from and to.
    pub fault_pause: (u64, u64),
    /// When the last fault begins, global nanoseconds.
    pub faults_end: u64,
    /// Answers of the store that are lost, per mille.
    pub lost_answers: u64,
    /// Requests to the store that are applied long after they were sent, per mille.
    pub late_requests: u64,
    /// Jobs that fail, per mille.
    pub failing_jobs: u64,
    /// Actions before which the agent dies, per 100 000.
    pub dying_actions: u64,
    /// Reloads that reach a process late, per mille.
    pub late_reloads: u64,
    /// A member whose storage is slow all the time, so that it usually holds less than the others.
    pub lagging: Option<usize>,
    /// Clients.
    pub clients: usize,
    /// Timings of every member.
    pub timings: Timings,
    /// How long an agent waits for an answer of the store, nanoseconds.
    pub call_deadline: u64,
    /// How long before the deadline the guard kills, nanoseconds.
    pub kill_lead: u64,
    /// Whether there are guards. Durability never rests on them, so many runs go without.
    pub guard: GuardNeed,
    /// The same for transactions that replace the sync record, per mille.
    pub late_decisions: u64,
    /// An agent whose transaction is under way for long dies meanwhile, per mille.
    pub dying_senders: u64,
    /// Commits whose client cancels the wait, per mille.
    pub cancels: u64,
    /// A member with a tag.
    pub tagged: Option<(MemberName, Tag)>,
    /// An agent dies soon after it has carried out a promise, per mille.
    pub dying_promisers: u64,
    /// A firewall lets no heartbeat through.
    pub heartbeats_blocked: bool,
}

impl Plan {
    /// Draws the plan of a seed for a cluster of `size` members.
    pub fn draw(rng: &mut Rng, size: usize) -> Self {
        let mode = match rng.between(0, 9) {
            0..=4 => ReplicationMode::Strict,
            5..=8 => ReplicationMode::Synchronous,
            _ => ReplicationMode::Asynchronous,
        };
        let mut faults: Vec<FaultKind> = FaultKind::ALL.into_iter().filter(|_| rng.chance(450)).collect();
        if faults.is_empty() {
            faults.push(FaultKind::PowerLoss);
        }
        let some = |rng: &mut Rng, most: u64| if rng.chance(500) { 0 } else { rng.between(1, most) };
        let seconds = rng.pick(&[4, 6, 10]);
        let low = rng.pick(&[200 * MS, SECOND, 3 * SECOND]);
        let plan = Self {
            size,
            mode,
            acks: if size > 3 && rng.chance(400) || rng.chance(150) { 2 } else { 1 },
            strict_k: rng.chance(150),
            faults,
            fault_pause: (low, low * 5),
            faults_end: rng.between(25, 80) * SECOND,
            lost_answers: some(rng, 150),
            late_requests: some(rng, 300),
            failing_jobs: some(rng, 60),
            dying_actions: some(rng, 150),
            late_reloads: rng.between(20, 300),
            lagging: rng.chance(500).then(|| rng.index(size)),
            clients: 4,
            timings: timings(seconds),
            call_deadline: 100 * MS * seconds,
            kill_lead: 100 * MS * seconds,
            guard: if rng.chance(400) { GuardNeed::Off } else { GuardNeed::Required },
            late_decisions: rng.pick(&[0, 0, 300]),
            dying_senders: rng.pick(&[0, 700]),
            dying_promisers: rng.pick(&[0, 0, 500]),
            heartbeats_blocked: rng.chance(100),
            cancels: rng.pick(&[0, 0, 50, 300]),
            tagged: None,
        };
        let plan = plan.tag(rng).with_possible_acks();
        if rng.chance(300) { plan.siege(rng) } else { plan }
    }

    /// Nothing breaks.
    pub(crate) fn calm_down(&mut self) {
        self.faults = Vec::new();
        (self.lost_answers, self.late_requests, self.late_decisions) = (0, 0, 0);
        (self.failing_jobs, self.dying_actions, self.dying_senders, self.dying_promisers) = (0, 0, 0, 0);
        self.faults_end = u64::MAX;
        self.guard = GuardNeed::Required;
        self.late_reloads = 0;
        self.lagging = None;
        self.heartbeats_blocked = false;
        (self.cancels, self.tagged) = (0, None);
    }

    /// Hardly anything breaks but what somebody does on purpose, and nobody ends an old leader.
    pub(crate) fn leave_to_sieges(&mut self) {
        let faults_end = self.faults_end;
        self.calm_down();
        self.faults = vec![FaultKind::StoreElection];
        (self.fault_pause, self.faults_end) = ((10 * SECOND, 30 * SECOND), faults_end);
        self.guard = GuardNeed::Off;
        (self.acks, self.strict_k) = (1, false);
        if !self.mode.waits_for_standbys() {
            self.mode = ReplicationMode::Strict;
        }
    }

    /// Now and then a member must not be promoted, or not be listed.
    fn tag(self, rng: &mut Rng) -> Self {
        if self.size < 3 || !rng.chance(100) {
            return self;
        }
        let tag = rng.pick(&[Tag::NoFailover, Tag::NoSync]);
        Self { tagged: Some((member_name(rng.index(self.size)), tag)), ..self }
    }

    /// With `strict_k` nothing works while more confirmations are wanted than there are standbys.
    fn with_possible_acks(self) -> Self {
        let most = u32::try_from(self.most_acks()).unwrap_or(1);
        Self { acks: self.acks.min(most), ..self }
    }

    /// How many standbys can confirm.
    pub(crate) fn most_acks(&self) -> u64 {
        let nosync = self.tagged.as_ref().is_some_and(|(_, tag)| *tag == Tag::NoSync);
        self.size as u64 - 1 - u64::from(nosync)
    }

    /// Whether anybody may need a backup of the store.
    pub(crate) fn backs_up(&self) -> bool {
        self.faults.contains(&FaultKind::StoreRestored)
    }

    /// Nothing but what brings promises into danger: nobody ends an old leader, it stays reachable now and then, and
    /// decisions, agents and lists are slow.
    fn siege(self, rng: &mut Rng) -> Self {
        use FaultKind as F;
        let mut faults = vec![F::LeaderStranded, F::LeaderStranded];
        for kind in [F::AgentCrash, F::PairCut, F::OneWay, F::PostgresCrash, F::PowerLoss, F::StoreCut] {
            if rng.chance(400) {
                faults.push(kind);
            }
        }
        Self {
            mode: if self.mode.waits_for_standbys() { self.mode } else { ReplicationMode::Strict },
            faults,
            fault_pause: (SECOND, 10 * SECOND),
            guard: GuardNeed::Off,
            late_decisions: 300,
            dying_senders: rng.pick(&[0, 700]),
            dying_promisers: rng.pick(&[0, 500]),
            ..self
        }
    }

    /// The cluster's first policy.
    pub fn settings(&self) -> ClusterSettings {
        ClusterSettings {
            mode: self.mode,
            acks: self.acks,
            strict_k: self.strict_k,
            degrade_after_ms: 5000,
            times: None,
            maximum_lag_bytes: 1 << 20,
            automatic: true,
            unfenced: false,
            parameters: Default::default(),
            hba: Vec::new(),
            extra: Default::default(),
        }
    }

    /// The TTL of the leader's lease, nanoseconds.
    pub fn ttl(&self) -> u64 {
        u64::try_from(self.timings.lease_ttl.as_nanos()).unwrap_or(SECOND)
    }

    /// How often it is renewed, nanoseconds.
    pub fn renew_every(&self) -> u64 {
        u64::try_from(self.timings.renew_interval.as_nanos()).unwrap_or(SECOND)
    }
}

/// Timings for a TTL of `seconds`; they keep the relation that the configuration demands:
/// renewal + 2 x call deadline <= TTL - drift - net margin - kill lead - demote lead.
fn timings(seconds: u64) -> Timings {
    let ms = Duration::from_millis;
    Timings {
        lease_ttl: Duration::from_secs(seconds),
        drift: ms(10 * seconds),
        net_margin: ms(50 * seconds),
        demote_lead: ms(200 * seconds),
        renew_interval: ms(200 * seconds),
        detection: Duration::from_secs(1),
        stream_sign: ms(850),
        promise_timeout: ms(300),
        abort_after: Duration::from_secs(2),
        bootstrap_grace: Duration::from_secs(5),
        switchover_limit: Duration::from_secs(10),
    }
}
